"""How records show themselves in a notebook and on the dashboard, as HTML."""

import dataclasses
import datetime
import html
import typing
from collections.abc import Iterable, Mapping, Sequence

_COLOURS = {
    "pass": "#15803d",
    "fail": "#dc2626",
    "silent": "#a16207",
    "same": "#15803d",
    "differs": "#a16207",
}  # to be read on white and on black
_LEFT = 'style="text-align: left"'


class Shown:
    """Shows a record in a notebook as a table of its fields."""

    def _repr_html_(self) -> str:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]  # every child is a dataclass
        rows = ((f.name.replace("_", " "), getattr(self, f.name)) for f in fields if f.repr)
        cells = (f"<tr><th {_LEFT}>{html.escape(name)}</th><td {_LEFT}>{html.escape(text(value))}</td></tr>" for name, value in rows)
        return f"<table>{''.join(cells)}</table>"


def table_html(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows of texts under their heads as a table."""
    head = "".join(f"<th {_LEFT}>{html.escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td {_LEFT}>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def checks_html(checks: Iterable[Mapping[str, str]], notes: Sequence[str]) -> str:
    """Return checks (name, state, note) as a table and notes as a list; nothing where there are none."""
    cell = '<td style="text-align: left; vertical-align: top; white-space: normal">'
    rows = [
        f"<tr>{cell}{html.escape(check['name'])}</td>{cell}{_state(check['state'])}</td>{cell}{html.escape(check['note'])}</td></tr>"
        for check in checks
    ]
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return (f"<table>{''.join(rows)}</table>" if rows else "") + (f"<ul>{items}</ul>" if items else "")


def _state(name: str) -> str:
    escaped = html.escape(name)
    return f'<b class="rm-{escaped}" style="color: {_COLOURS.get(name, "inherit")}">{escaped}</b>'


def text(value: typing.Any) -> str:
    """Return a value in words, as a notebook shows it."""
    match value:
        case float():
            return f"{value:.4g}"
        case dict():
            return ", ".join(f"{name} {text(entry)}" for name, entry in value.items())
        case tuple():
            return ", ".join(text(entry) for entry in value)
        case datetime.datetime():
            return f"{value:%Y-%m-%d %H:%M:%S} UTC"
        case _:
            return str(value)
