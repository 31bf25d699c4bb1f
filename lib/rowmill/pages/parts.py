"""What every page is made of: widgets that look alike, callbacks whose errors are seen, and the beat that keeps a page alive.

A page's kernel loads no matplotlib, for memory: charts come from `plots`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

import anywidget
import traitlets
from ipywidgets import HTML, Box, Button, Widget

from rowmill.errors import RowmillError, SettingsError
from rowmill.pages import words
from rowmill.settings import Settings

BEAT_SECONDS = 2.0


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def page(title: str, head: Sequence[Widget], *parts: Widget) -> Widget:
    """Return a whole page: its style, its title with what stands beside it, then its parts below each other."""
    style = html(f"<style>{_file('page.css')}</style>", "rm-style")
    return _box("rm-page", style, row(html(f"<h1>{escape(title)}</h1>", "rm-grow"), *head, name="rm-head"), *parts)


def card(title: str, *parts: Widget, name: str = "") -> Box:
    """Return parts below each other on a ground of their own, under a heading unless that is empty."""
    return _box(f"rm-card {name}", *([html(f"<h2>{escape(title)}</h2>")] if title else []), *parts)


def row(*parts: Widget, name: str = "") -> Box:
    """Return parts side by side; they wrap where the page is narrow."""
    return _box(f"rm-row {name}", *parts)


def column(*parts: Widget, name: str = "") -> Box:
    """Return parts below each other."""
    return _box(f"rm-column {name}", *parts)


def html(value: str = "", name: str = "") -> HTML:
    """Return a piece of markup; everything from elsewhere in it must be escaped."""
    return _named(HTML(value), name)


def button(label: str, click: Callable[..., None], *, kind: str = "", title: str = "") -> Button:
    """Return a button.

    Args:
        label: Its words.
        click: What `guarded` returned, or what cannot fail and returns at once.
        kind: `main` for what the card is for, `danger` for what cannot be undone, else nothing.
        title: What is said when the pointer rests on it.
    """
    made = _named(Button(description=label, tooltip=title), f"rm-{kind}" if kind else "")
    made.on_click(click)
    return made


def field(kind: type[Widget], label: str, **traits: Any) -> Widget:
    """Return an input of ipywidgets (Text, Textarea, IntText, Dropdown, Checkbox ...) under its label."""
    return _named(kind(description=label, **traits), "rm-field")


def badge(text: str, kind: str = "") -> str:
    """Return markup of a word on a coloured ground: `good`, `bad`, `unsure`, `live`, or quiet."""
    return f'<span class="rm-badge rm-{kind or "quiet"}">{escape(text)}</span>'


def alarm(sentence: str) -> str:
    """Return markup of a sentence that must be seen; nothing when it is empty."""
    return f'<p class="rm-alarm" role="alert">{escape(sentence)}</p>' if sentence else ""


def facts(entries: Mapping[str, str]) -> str:
    """Return markup of names with their values, which are markup themselves."""
    return f"<dl>{''.join(f'<div><dt>{escape(name)}</dt><dd>{value}</dd></div>' for name, value in entries.items())}</dl>"


def progress(share: float, label: str) -> str:
    """Return markup of a bar that is filled by the share, 0 to 1."""
    percent = round(100 * min(1.0, max(0.0, share)))
    role = f'role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}" aria-label="{escape(label)}"'
    return f'<div class="rm-progress" {role}><div style="width: {percent}%"></div></div>'


def log(lines: Sequence[str], label: str) -> str:
    """Return markup of what a job said, the last line in sight; nothing when it said nothing."""
    text = escape("\n".join(lines))
    return f'<div class="rm-log" tabindex="0" role="region" aria-label="{escape(label)}"><pre>{text}</pre></div>' if lines else ""


def show(widget: Widget, is_shown: bool) -> None:
    """Show or hide a widget."""
    widget.layout.display = None if is_shown else "none"


def check_writable(settings: Settings) -> None:
    """Do nothing unless the dashboard only shows; call it first in whatever changes something.

    Raises:
        SettingsError: It is read-only.
    """
    if settings.dashboard_read_only:
        raise SettingsError(words.say("parts.read_only"), step=words.say("parts.read_only_step"))


class Notice(anywidget.AnyWidget):  # pylint: disable=abstract-method  # ipywidgets refuses to be copied
    """One line that tells what goes on; screen readers speak it.

    Attributes:
        text: Plain text, never markup.
        kind: `done`, `running` or `failed`.
    """

    _esm = _file("notice.js")
    text = traitlets.Unicode().tag(sync=True)
    kind = traitlets.Unicode("done").tag(sync=True)

    def say(self, sentence: str, kind: str = "done") -> None:
        """Show a sentence."""
        self.kind, self.text = kind, sentence


def guarded(notice: Notice, work: Callable[[], None]) -> Callable[..., None]:
    """Return a callback that does the work in a thread and shows each error's sentence.

    It returns at once, so that the page stays alive; while the work goes on, further calls of it do nothing.

    Args:
        notice: Where errors are told.
        work: May set traits of any widget.
    """
    turn = threading.Lock()

    def run() -> None:
        try:
            told = outcome(work)
            if told:
                notice.say(told, "failed")
        finally:
            turn.release()

    def start(*_: Any) -> None:
        if turn.acquire(blocking=False):  # pylint: disable=consider-using-with  # the thread releases it
            threading.Thread(target=run, daemon=True).start()

    return start


def outcome(work: Callable[[], None]) -> str:
    """Do the work, and return the sentence of what went wrong, or an empty text."""
    try:
        work()
    except RowmillError as error:
        return str(error)
    except Exception as error:  # pylint: disable=broad-exception-caught  # else a callback's error is seen by nobody
        return words.say("parts.unexpected", kind=type(error).__name__, words=error)
    return ""


class Beat(anywidget.AnyWidget):  # pylint: disable=abstract-method
    """Calls the page's `refresh` every two seconds while somebody looks at it, and says when the kernel or the server is gone.

    It is the browser that beats: a page that nobody looks at, such as one that waits in a warm kernel, asks nothing.

    Args:
        refresh: Reads anew what the page shows, in a thread; never twice at a time.
        notice: Where its errors are told.
    """

    _esm = _file("beat.js")
    answer = traitlets.Int().tag(sync=True)
    seconds = traitlets.Float(BEAT_SECONDS).tag(sync=True)
    words = traitlets.Dict().tag(sync=True)

    def __init__(self, refresh: Callable[[], None], notice: Notice) -> None:
        super().__init__(words=words.section("beat"))
        self._refresh = guarded(notice, refresh)
        self.on_msg(lambda *_: self.strike())

    def strike(self) -> None:
        """Answer the browser, and refresh."""
        self.answer += 1
        self._refresh()


def _box(names: str, *parts: Widget) -> Box:
    return _named(Box(parts), names)


def _named(widget: Widget, names: str) -> Widget:
    for name in names.split():
        widget.add_class(name)
    return widget
