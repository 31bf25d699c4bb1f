"""The Monitor page: what was asked of what serves, and whether it is what the models were judged on; it changes no more than labels."""

import threading
import time
from importlib import resources
from typing import Any

from ipywidgets import Dropdown, Widget

from rowmill.monitoring import watch
from rowmill.pages import labelling, monitor_view, parts
from rowmill.pages.words import say
from rowmill.registry import connected
from rowmill.serving import release
from rowmill.settings import Settings

# What lies in BigQuery is paid by the query, and each intake there is a load job, of which a table may have 1,500 a day.
PAUSE_SECONDS, FAR_PAUSE_SECONDS = 4.0, 300.0
_REST = 10.0  # times as long as the last look took
_TIMES = {"hour": 1 / 24, "day": 1.0, "week": 7.0, "month": 30.0, "quarter": 90.0}


def page(settings: Settings) -> Widget:
    """Return the Monitor page of a project; it reads anew while somebody looks at it."""
    return _Page(settings).root


class _Page:
    """The widgets, and what is read into them; all reading is done in threads, so that the page stays alive."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._service, self._next = settings, "", 0.0
        self._turn = threading.Lock()
        self._notice = parts.Notice()
        is_far = settings.warehouse_kind != "sqlite" or settings.target_kind != "local"
        self._pause = FAR_PAUSE_SECONDS if is_far else PAUSE_SECONDS
        self._labelling = labelling.part(settings)
        beat = parts.Beat(self._refresh, self._notice)
        self._choice = parts.field(Dropdown, say("models.service"))
        parts.show(self._choice, False)
        times = [(say(f"monitor.{name}"), days) for name, days in _TIMES.items()]
        self._time = parts.field(Dropdown, say("monitor.time"), options=times, value=_TIMES["day"])
        self._body = parts.html(f'<p class="rm-quiet">{say("frame.loading")}</p>', "rm-monitor")
        for field in (self._choice, self._time):
            field.observe(self._choose, "value")
        again = parts.button(say("models.refresh"), parts.guarded(self._notice, self._look_now))
        style = parts.html(f"<style>{resources.files(__package__).joinpath('monitor.css').read_text('utf-8')}</style>", "rm-style")
        self.root = parts.page(
            say("frame.monitor"), [self._choice, self._time, again], style, beat, self._notice, self._body, self._labelling.root
        )
        beat.strike()

    def _choose(self, change: dict[str, Any]) -> None:
        if change["new"] != self._service:  # else it is no user who chooses
            parts.guarded(self._notice, self._look_now)()

    def _look_now(self) -> None:
        with self._turn:
            self._next = 0.0
        self._refresh()

    def _refresh(self) -> None:
        with self._turn:
            if time.monotonic() < self._next:
                return
            began = time.monotonic()
            trouble = parts.outcome(self._look)
            ended = time.monotonic()
            # A look at a million requests takes a second or two: it shall not keep a processor busy.
            self._next = ended + max(self._pause, _REST * (ended - began) if self._pause else 0.0)
            if trouble or self._notice.kind == "failed":
                self._notice.say(trouble, "failed" if trouble else "done")

    def _look(self) -> None:
        known = sorted(connected(self._settings).services())
        if not known:
            self._body.value = monitor_view.nothing(say("models.empty"))
            return
        service = release.open_service(self._settings, self._choice.value if self._choice.value in known else "")
        if known != list(self._choice.options):
            self._service = service.name
            self._choice.options = known
            self._choice.value = service.name
            parts.show(self._choice, len(known) > 1)
        self._service = service.name
        seen = watch.look(service, watch.days_ago(self._time.value))
        pictures = {found.model_id: watch.pictures(service, found) for found in seen.drifts if self._settings.monitor.images}
        self._body.value = monitor_view.markup(seen, pictures)
        self._labelling.turn_to(service)
