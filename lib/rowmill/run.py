"""The record of a run: what was asked for, by whom, and what became of each step."""

import datetime
import typing
from dataclasses import dataclass, field

from rowmill.records import now
from rowmill.shown import Shown


@dataclass(frozen=True)
class Run(Shown):
    """One run of the pipeline.

    Attributes:
        run_id: When it began, to the microsecond; the name of the folder with its executed notebooks, too.
        trigger: What began it: `by hand`, or the reason that the schedule had.
        outcome: `running`, `completed`, `failed`, `broken off` for one that was killed, `skipped` where another one ran.
        parameters: What was asked for: the notebooks' parameters, and under `steps` and `again` the steps.
        states: Step to `to do`, `running`, `done`, `up to date`, `failed`, `left out` behind a failed one, `waiting` where it
            must not deploy, or `broken off`.
        seconds: Step to how long it took, for those that ran.
        results: Step to what it handed on.
        notebooks: Step to its executed copy, as `run_id/file`; of steps that are up to date, the copy of the run that ran them.
        reason: Why it failed or was skipped.
        started: When it began; `at` when it ended.
    """

    run_id: str
    service: str
    actor: str
    trigger: str
    outcome: str
    parameters: dict[str, typing.Any] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    results: dict[str, typing.Any] = field(default_factory=dict)
    notebooks: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    started: datetime.datetime = field(default_factory=now)
    at: datetime.datetime = field(default_factory=now)
