"""What the Runs page shows of runs: a line each, and one with its steps, their results and executed copies."""

import datetime
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rowmill.flow.steps import Step
from rowmill.pages import parts
from rowmill.pages import stand as stands
from rowmill.pages.table import Cell, Column
from rowmill.pages.words import say
from rowmill.run import Run

_BADGES = {
    "running": "live",
    "completed": "good",
    "done": "good",
    "up to date": "good",
    "failed": "bad",
    "broken off": "bad",
    "waiting": "unsure",
    "left out": "unsure",
    "skipped": "unsure",
    "better": "good",
    "worse": "bad",
    "cannot tell": "unsure",
}
_COLUMNS = {
    "started": "text",
    "outcome": "text",
    "service": "text",
    "took": "number",
    "trigger": "text",
    "verdict": "text",
    "model": "code",
}
_COLUMNS |= {"actor": "text", "reason": "text"}
_HEADS = ("step", "state", "took", "result", "copy")


def columns() -> list[Column]:
    """Return the columns of the table of runs."""
    return [Column(say(f"runs.{name}_column"), kind=kind) for name, kind in _COLUMNS.items()]


def rows(runs: Sequence[Run]) -> list[tuple[str, list[Cell]]]:
    """Return the runs as rows of that table."""
    return [(run.run_id, _row(run)) for run in runs]


def head(run: Run) -> str:
    """Return markup of a run's outcome and of what was asked for."""
    asked = "; ".join(f"{name} = {_short(value)}" for name, value in run.parameters.items()) or say("runs.nothing")
    facts = {
        say("runs.why"): escape(run.trigger),
        say("runs.who"): escape(run.actor),
        say("runs.took"): escape(_took(run)),
        say("runs.asked"): escape(asked),
    }
    name = f'<p class="rm-now"><b>{escape(run.service)}, {stands.moment(run.started)}</b> {_badge(run.outcome)}</p>'
    reason = parts.alarm(run.reason) if run.outcome in ("failed", "broken off") else f"<p>{escape(run.reason)}</p>" if run.reason else ""
    return f'<div class="rm-run">{name}{reason}{_candidate(run)}{parts.facts(facts)}</div>'


def steps(run: Run, declared: Mapping[str, Step]) -> str:
    """Return markup of a run's steps as a table, in the order in which they are declared; nothing where none was reached."""
    names = [name for name in declared if name in run.states] + [name for name in run.states if name not in declared]
    if not names:
        return ""
    heads = "".join(f'<th scope="col">{escape(say(f"runs.{name}"))}</th>' for name in _HEADS)
    body = "".join(_step(run, name) for name in names)
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="rm-scroll rm-cards" tabindex="0" role="region" aria-label="{escape(say("runs.title"))}">{table}</div>'


def picture(svg: str, run: Run) -> str:
    """Return markup of the steps' picture, told in words to those who do not see it."""
    told = say("runs.graph", states=", ".join(f"{name} {state}" for name, state in run.states.items()))
    return f'<div class="rm-graph" role="img" aria-label="{escape(told)}">{svg}</div>'


def _row(run: Run) -> list[Cell]:
    results = _results(run)
    verdict = str(results.get("outcome", ""))
    reason = run.reason if len(run.reason) < 90 else f"{run.reason[:89]}…"
    return [
        Cell(stands.local(run.started), run.run_id),
        Cell(run.outcome, badge=_BADGES.get(run.outcome, "quiet")),
        Cell(run.service),
        Cell(_took(run), (run.at - run.started).total_seconds()),
        Cell(run.trigger),
        Cell(verdict, badge=_BADGES.get(verdict, "quiet") if verdict else ""),
        Cell(str(results.get("model_id", ""))),
        Cell(run.actor),
        Cell(reason, title=run.reason),
    ]


def _step(run: Run, name: str) -> str:
    state = run.states[name]
    result = "; ".join(f"{key} {_short(value)}" for key, value in run.results.get(name, {}).items() if key != "service")
    copy = run.notebooks.get(name, "")
    link = f'<a href="/runs/{escape(copy)}" target="_blank" rel="noopener">{escape(copy.partition("/")[2])}</a>' if copy else ""
    seconds = run.seconds.get(name)
    values = (escape(name), _badge(state), "" if seconds is None else _clock(seconds), escape(result), link if state != "running" else "")
    cells = zip(_HEADS, values, strict=True)
    told = (
        f'<td data-label="{escape(say(f"runs.{head}"))}"{" class=rm-broken" if head == "result" else ""}>{value}</td>'
        for head, value in cells
    )
    return f"<tr>{''.join(told)}</tr>"


def _candidate(run: Run) -> str:
    results = _results(run)
    if "waiting" not in run.states.values() or results.get("outcome") != "better":
        return ""
    return f"<p>{parts.badge('waiting', 'unsure')} {escape(say('runs.candidate', model=results.get('model_id', '')))}</p>"


def _results(run: Run) -> dict[str, Any]:
    return {name: value for result in run.results.values() for name, value in result.items()}


def _badge(word: str) -> str:
    return parts.badge(word, _BADGES.get(word, ""))


def _took(run: Run) -> str:
    end = datetime.datetime.now(datetime.UTC) if run.outcome == "running" else run.at
    return _clock((end - run.started).total_seconds())


def _clock(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) < 160 else f"{text[:159]}…"
