"""When the pipeline runs by itself, as `pipeline.yaml` says: by the clock of a place, by new rows, by drift."""

import datetime
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from cronsim import CronSim, CronSimError

from rowmill.errors import PipelineError
from rowmill.flow import steps
from rowmill.settings import Settings

_WORDS = r"[0-9A-Za-z*,/-]+"  # of cron lines that every calendar takes: no seconds, no L, W or #


@dataclass(frozen=True)
class Schedule:
    """What begins a run.

    Attributes:
        cron: Minute, hour, day, month and weekday of runs; empty: none by the clock.
        zone: Whose clock, as in `Europe/Berlin`.
        weeks: In every so many weeks only, counted from the first Monday of the calendar, so that it needs no memory.
        new_rows: More than so many examples that the newest data set version has not; 0: no reason.
        drift: Whether a drift alarm of the monitor is a reason.
        deploy: Whether such a run may change what serves, where its verdict is `better`.
    """

    cron: str = ""
    zone: str = "UTC"
    weeks: int = 1
    new_rows: int = 0
    drift: bool = False
    deploy: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value.__class__ is not field.type or (field.type is int and value < (field.name == "weeks")):
                raise _wrong(field.name, f"of the kind of {field.default!r}", value)
        try:
            zoneinfo.ZoneInfo(self.zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise _wrong("zone", "a time zone's name, such as 'Europe/Berlin'", self.zone) from error
        if self.cron:
            self._check_cron()

    def due(self, since: datetime.datetime, moment: datetime.datetime) -> datetime.datetime | None:
        """Return the first planned moment after `since` and up to `moment`, None where there is none; so all that were missed are one.

        A time of day that a change of the clock skips is due right behind the gap, one that comes twice is due once, as in Debian's cron.
        """
        return next((planned for planned in self.after(since, moment)), None)

    def next(self, moment: datetime.datetime, days: int) -> datetime.datetime | None:
        """Return the next planned moment within so many days, None where there is none."""
        return self.due(moment, moment + datetime.timedelta(days=days))

    def after(self, since: datetime.datetime, until: datetime.datetime) -> Iterator[datetime.datetime]:
        """Return the planned moments after `since`, up to `until`."""
        if not self.cron:
            return
        for planned in CronSim(self.cron, since.astimezone(zoneinfo.ZoneInfo(self.zone))):
            # In UTC: times of one zone are compared by their hands, and in autumn an hour comes twice.
            if planned.astimezone(datetime.UTC) > until.astimezone(datetime.UTC):
                return
            if planned.astimezone(datetime.UTC) > since.astimezone(datetime.UTC) and self.counts(planned):
                yield planned

    def counts(self, moment: datetime.datetime) -> bool:
        """Return whether the moment lies in one of the weeks."""
        day = moment.astimezone(zoneinfo.ZoneInfo(self.zone)).toordinal()  # day 1 is a Monday
        return (day - 1) // 7 % self.weeks == 0

    def _check_cron(self) -> None:
        told = "five fields, such as '0 3 * * MON': minute, hour, day, month, weekday"
        if len(self.cron.split()) != 5 or not all(re.fullmatch(_WORDS, word) for word in self.cron.split()):
            raise _wrong("cron", told, self.cron)
        try:
            next(CronSim(self.cron, datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)))
        except (CronSimError, StopIteration) as error:
            raise _wrong("cron", f"{told} ({error or 'it never comes'})", self.cron) from error


def load(settings: Settings) -> Schedule:
    """Return the project's schedule; without a section `schedule` there is no reason to run.

    Raises:
        PipelineError: It cannot be used.
    """
    written = steps.section(settings, "schedule")
    known = [field.name for field in fields(Schedule)]
    for name in written:
        if name not in known:
            raise PipelineError(f"The schedule of {steps.FILE} has the unknown word {name!r}", step=f"use some of {', '.join(known)}")
    return Schedule(**{str(name): value for name, value in written.items()})


def _wrong(name: str, wanted: str, value: Any) -> PipelineError:
    return PipelineError(f"{name} in the schedule of {steps.FILE} must be {wanted}", found=repr(value), step="mend it")
