"""The Runs page: starts, watches and stops runs of the pipeline, which go on outside it; it keeps no truth of its own."""

import functools
import json
import subprocess
import sys
from html import escape
from typing import Any

import ipywidgets

from rowmill import jobs, pipeline, scheduler
from rowmill.errors import BusyError, NotFoundError, RowmillError
from rowmill.flow import runs, schedule, steps
from rowmill.flow.steps import Step
from rowmill.pages import parts, run_view
from rowmill.pages import stand as stands
from rowmill.pages.table import Table
from rowmill.pages.words import say
from rowmill.pipeline import Order
from rowmill.records import now
from rowmill.registry import connected
from rowmill.run import Run
from rowmill.settings import Settings

_FAILED = "rowmill: "  # how the command ends
_AHEAD_DAYS = 366
_STYLE = """
.rm-page .rm-run > * + * { margin-top: .7rem; }
.rm-page .rm-graph { max-width: 24rem; }
.rm-page .rm-graph svg { display: block; width: 100%; height: auto; }
.rm-page .rm-two { grid-template-columns: minmax(0, 1fr) minmax(0, 1.7fr); }
@container (max-width: 66rem) { .rm-page .rm-two { grid-template-columns: minmax(0, 1fr); } .rm-page .rm-graph { margin: 0 auto; } }
"""


def page(settings: Settings) -> ipywidgets.Widget:
    """Return the Runs page of a project; it reads when somebody looks at it."""
    return Runs(settings).root


class Runs:
    """The page.

    Attributes:
        root: The widget.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._due = settings, stands.Watch(settings)
        self._notice, self._job = parts.Notice(), parts.Notice()
        self._known: list[Run] = []
        self._chosen, self._drawn = "", ""
        self._html = {name: parts.html() for name in ("next", "head", "picture", "steps", "log")}
        self._table = Table(say("runs.table"), run_view.columns(), self._choose)
        self._fields: dict[str, Any] = {
            "source": parts.field(ipywidgets.Text, say("runs.source"), placeholder=say("runs.source_hint")),
            "parameters": parts.field(ipywidgets.Text, say("runs.parameters"), placeholder=say("runs.parameters_hint")),
            "again": parts.field(ipywidgets.Dropdown, say("runs.again"), options=[(say("runs.again_none"), "")]),
        }
        self._start = parts.button(say("runs.start"), parts.guarded(self._notice, self._begin), kind="main")
        self._stop = parts.button(say("runs.stop"), parts.guarded(self._notice, self._end), kind="danger")
        self.root = self._lay()

    def refresh(self) -> None:
        """Show the runs as they are now; what goes on is read from this machine's disk, the rest when somebody wrote."""
        goes_on = runs.goes_on(self._settings)
        filed = runs.on_file(self._settings) if goes_on else []
        if self._due.is_due() or len(filed) != sum(run.outcome == "running" for run in self._known):
            self._known = list(runs.known(self._settings, connected(self._settings).warehouse))
        else:
            fresh = {run.run_id: run for run in filed}
            self._known = [fresh.get(run.run_id, run) for run in self._known]
        self._tell(goes_on)
        self._table.fill(run_view.rows(self._known))
        self._show()

    def _lay(self) -> ipywidgets.Widget:
        form = parts.column(*self._fields.values(), name="rm-inputs")
        actions = parts.row(self._start, self._stop, name="rm-actions")
        new = parts.card(say("runs.start"), form, actions, self._notice, self._html["next"])
        parts.show(self._stop, False)
        two = parts.row(parts.column(self._html["picture"]), parts.column(self._html["steps"], self._html["log"]), name="rm-two")
        style = parts.html(f"<style>{_STYLE}</style>", "rm-style")
        told = parts.column(parts.Beat(self.refresh, self._job), self._job, name="rm-told")
        return parts.page(
            say("runs.title"), [], style, told, parts.card("", self._html["head"], two), new, parts.card(say("runs.all"), self._table)
        )

    def _tell(self, goes_on: bool) -> None:
        """Say what can be done, and what the job of this page or the schedule ended with."""
        work = jobs.look(self._settings.state, scheduler.JOB)
        is_busy = goes_on or bool(work and work.is_running) or jobs.is_changing(self._settings.state, scheduler.JOB)
        self._start.disabled = is_busy
        parts.show(self._stop, is_busy)
        # What a run ended with stands with it; here is only why there is none.
        is_told = not work or is_busy or any(run.started > work.at for run in self._known[:1])
        last = "" if is_told else jobs.last_line(self._settings.state, scheduler.JOB)
        is_failed = last.startswith(_FAILED)
        self._job.say(say("runs.failed", words=last.removeprefix(_FAILED)) if is_failed else "", "failed" if is_failed else "done")
        if is_busy == (self._notice.kind != "running"):
            self._notice.say("")
        self._html["log"].value = parts.log(jobs.tail(self._settings.state, scheduler.JOB), say("runs.log")) if work and is_busy else ""
        self._html["next"].value = f'<p class="rm-quiet">{escape(say("runs.next"))}: {self._next()}</p>'
        declared = self._declared()
        options = [(say("runs.again_none"), ""), *((name, name) for name in declared)]
        if list(self._fields["again"].options) != options:
            self._fields["again"].options = options

    def _next(self) -> str:
        try:
            planned = schedule.load(self._settings).next(now(), _AHEAD_DAYS)
        except RowmillError as error:
            return escape(str(error))
        return stands.moment(planned) if planned else escape(say("runs.never"))

    def _declared(self) -> dict[str, Step]:
        try:
            return steps.load(self._settings)
        except RowmillError:
            return {}  # the start of a run says what is wrong

    def _show(self) -> None:
        run = next((run for run in self._known if run.run_id == self._chosen), self._known[0] if self._known else None)
        if run is None:
            self._html["head"].value = f'<p class="rm-quiet">{escape(say("runs.none"))}</p>'
            return
        declared = self._declared()
        self._html["head"].value, self._html["steps"].value = run_view.head(run), run_view.steps(run, declared)
        told = json.dumps({"needs": {name: step.earlier for name, step in declared.items()}, "states": run.states})
        if told != self._drawn:
            self._html["picture"].value = run_view.picture(_drawn(told), run) if declared and run.states else ""
            self._drawn = told

    def _choose(self, run_id: str) -> None:
        self._chosen = run_id
        parts.guarded(self._job, self._show)()

    def _begin(self) -> None:
        parts.check_writable(self._settings)
        source, parameters, again = (str(self._fields[name].value).strip() for name in ("source", "parameters", "again"))
        order = Order(source, parameters, again=again)
        pipeline.prepare(self._settings, order)
        if runs.goes_on(self._settings):
            raise BusyError(say("runs.elsewhere"), step=say("runs.elsewhere_step"))
        job = jobs.Job(scheduler.JOB, say("runs.job"), scheduler.command(order), self._settings.root)
        jobs.start_once(self._settings.state, job)
        self._chosen = ""
        self._start.disabled = True
        self._notice.say(say("runs.began"), "running")

    def _end(self) -> None:
        parts.check_writable(self._settings)
        if jobs.stop(self._settings.state, scheduler.JOB):
            self._due.hurry()
            self._notice.say(say("runs.stopped"))
        elif runs.goes_on(self._settings):
            raise BusyError(say("runs.elsewhere"), step=say("runs.elsewhere_step"))
        else:
            raise NotFoundError(say("runs.idle"), step=say("runs.idle_step"))


@functools.lru_cache(maxsize=32)
def _drawn(told: str) -> str:
    """Return the picture, drawn once for each look of it in a process that ends."""
    command = [sys.executable, "-m", "rowmill.pages.run_charts"]
    return subprocess.run(command, input=told, capture_output=True, text=True, check=True).stdout
