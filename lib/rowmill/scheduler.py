"""Runs the pipeline by itself: looks again and again whether there is a reason, and begins a run of its own for it."""

import datetime
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rowmill import jobs, pipeline
from rowmill.errors import BusyError, HeldError, RowmillError
from rowmill.flow import runs, triggers
from rowmill.flow import schedule as schedules
from rowmill.flow.schedule import Schedule
from rowmill.pipeline import Order
from rowmill.records import now
from rowmill.settings import Settings

_LOOK_SECONDS = 30.0
JOB = "run"  # of a run that is begun by a page or the schedule, and outlives both
_MEMORY = "schedule.json"

Begin = Callable[[str], None]  # begins a run for a reason


def watch(settings: Settings) -> None:
    """Look for reasons until somebody ends it; `pipeline.yaml` is read at each look.

    Raises:
        HeldError: Another scheduler of this project runs on this machine.
        PipelineError: The schedule cannot be used as it is at the start.
    """
    schedules.load(settings)
    with jobs.lock(settings.state, "schedule", what="a schedule"):
        while True:
            try:
                look(settings, now(), lambda reason: begin(settings, reason))
            except RowmillError as error:  # what was mended is seen at the next look
                print(f"rowmill: {error}", file=sys.stderr, flush=True)
            time.sleep(_LOOK_SECONDS)


def look(settings: Settings, moment: datetime.datetime, start: Begin) -> str:
    """Begin a run if there is a reason at this moment, and return the reason, or an empty text.

    What was planned since the last look is one reason, however often it was and whoever slept or was switched off meanwhile.

    Args:
        settings: The project.
        moment: Now.
        start: Begins a run.

    Raises:
        PipelineError: The schedule cannot be used.
        SourceError: The source cannot be read.
    """
    chosen = schedules.load(settings)
    memory = _remembered(settings)
    plan = f"{chosen.cron} {chosen.zone} {chosen.weeks}"
    if memory.get("plan") != plan:  # what another plan would have meant in the past is no reason
        memory = {**memory, "plan": plan, "since": moment.isoformat()}
    due = chosen.due(datetime.datetime.fromisoformat(memory["since"]), moment)
    memory = {**memory, "since": moment.isoformat()}
    reason = f"planned for {due:%Y-%m-%d %H:%M %Z}" if due else ""
    if not reason and chosen.new_rows and not runs.goes_on(settings):  # else the reason would be spent on a run that is skipped
        memory, reason = _by_rows(settings, chosen, memory)
    # Before the run: a scheduler that is killed in between leaves one out, instead of having one for ever.
    _remember(settings, memory)
    if reason:
        start(reason)
    return reason


def begin(settings: Settings, reason: str) -> None:
    """Begin a run as a job of its own, which outlives the scheduler; where one runs, put on record that this one was skipped."""
    print(f"{now().astimezone():%Y-%m-%d %H:%M} {reason}", flush=True)
    line = [sys.executable, "-m", "rowmill", "fire", "--reason", reason]
    try:
        jobs.start_once(settings.state, jobs.Job(JOB, f"a run, {reason}", line, settings.root))
    except BusyError as error:
        pipeline.skip(settings, Order(trigger=reason), str(error))
        print(f"Skipped: {error}", flush=True)


def fire(settings: Settings, reason: str = "") -> dict[str, Any]:
    """Run the pipeline as the schedule does; where a run goes on, put on record that this one was skipped.

    Args:
        settings: The project.
        reason: Why; where another calendar calls it is left out, and the schedule's weeks are heeded here.

    Returns:
        What was handed on; nothing where it was skipped.

    Raises:
        RowmillError: As of `pipeline.run`.
    """
    chosen = schedules.load(settings)
    if not reason and not chosen.counts(now()):
        print(f"Nothing to do: this is not one of the weeks, of which every {chosen.weeks} one is.")
        return {}
    order = Order(trigger=reason or "planned", may_deploy=chosen.deploy)
    try:
        return pipeline.run(settings, order)
    except HeldError as error:
        pipeline.skip(settings, order, str(error))
        print(f"Skipped: {error}", flush=True)
        return {}


def command(order: Order) -> list[str]:
    """Return the argument list that runs the pipeline by hand, in a process of its own."""
    words = {"source": order.source, "parameters": order.parameters, "steps": order.steps, "again": order.again}
    return [sys.executable, "-m", "rowmill", "run", *(f"--{name}={value}" for name, value in words.items() if value)]


def _by_rows(settings: Settings, chosen: Schedule, memory: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the memory and a reason; a source is read only where it may have other rows than at the last look."""
    mark = triggers.source_mark(settings)
    if mark == memory.get("mark"):
        return dict(memory), ""
    count = triggers.new_rows(settings)
    return {**memory, "mark": mark}, f"{count:,} new labelled rows" if count > chosen.new_rows else ""


def _remembered(settings: Settings) -> dict[str, Any]:
    try:
        memory = json.loads((settings.state / _MEMORY).read_text("utf-8"))
        datetime.datetime.fromisoformat(memory["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(memory)


def _remember(settings: Settings, memory: Mapping[str, Any]) -> None:
    path: Path = settings.state / _MEMORY
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(memory), "utf-8")
    new.replace(path)
