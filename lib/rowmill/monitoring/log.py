"""The requests that a service answered, on either side: this machine's rows, or those that Cloud Logging's sink delivers."""

import base64
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson
import pandas as pd

from rowmill.records import now
from rowmill.serving import predictions
from rowmill.serving.endpoint import CHECK
from rowmill.serving.predictions import Taken
from rowmill.serving.release import Service
from rowmill.tables import PREDICTIONS, Span, Table

MOST = 20_000  # requests that are read; of more, a share is drawn
COLUMNS = tuple(name for name in PREDICTIONS.columns if name not in ("images", "log", "log_end"))
_BY_MINUTE = datetime.timedelta(days=31)  # what is counted by the minute; more, by the hour
_CLOCK = datetime.timedelta(minutes=2)  # by which clocks may differ without a word
_NEAR = datetime.timedelta(minutes=5)  # between the function's clock and Cloud Logging's, by which a sink's rows are chosen


class Log(Protocol):
    """Where requests are on record: the part of `Warehouse` that asks for rows in time."""

    def count(self, table: Table, span: Span, by: Sequence[str], step: str) -> pd.DataFrame:
        """Count rows; see `Warehouse.count`."""

    def draw(self, table: Table, span: Span, columns: Sequence[str], share: float) -> pd.DataFrame:
        """Return a share of rows; see `Warehouse.draw`."""


@dataclass(frozen=True)
class Requests:
    """What was asked of a service in a time.

    Attributes:
        since, until: The time; what bears a moment that is still to come is in it where it ends now.
        counts: All requests: columns at (a step's start), model_id, code, rows.
        rows: At most `MOST` of them, or the share that chance has drawn, by time: the columns of `predictions` but for images and log.
        share: That share, 0 to 1.
        step: What `counts` counts by: `minute` or `hour`.
        taken: What this machine's lines brought just now.
    """

    service: str
    since: datetime.datetime
    until: datetime.datetime
    counts: pd.DataFrame
    rows: pd.DataFrame
    share: float
    step: str
    taken: Taken = Taken()

    @property
    def total(self) -> int:
        """How many requests there were."""
        return int(self.counts["rows"].sum())

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of these figures, each a sentence."""
        said = []
        if not self.total:
            said.append(f"No request to {self.service} is on record since {self.since:%Y-%m-%d %H:%M} UTC.")
        if self.share < 1:
            what = f"Latencies, labels, confidence and drift are of {len(self.rows):,} requests that chance has drawn from {self.total:,}"
            said.append(f"{what}, evenly over the time; requests and errors are counted in full.")
        ahead = int(self.counts.loc[self.counts["at"] > pd.Timestamp(now() + _CLOCK), "rows"].sum())
        if ahead:
            said.append(
                f"A moment still to come stands in {ahead:,} of the requests: the clock of what served was ahead, or went back since."
            )
        if self.taken.garbage:
            said.append(f"Lines of this machine's log that are none of the function's were left out: {self.taken.garbage:,}.")
        return tuple(said)


def read(service: Service, since: datetime.datetime, until: datetime.datetime | None = None, *, checks: bool = False) -> Requests:
    """Return what was asked of a service; lines that this machine's function wrote meanwhile are taken in first.

    Args:
        service: Which.
        since: The first moment.
        until: The moment after the last; now when not given.
        checks: Whether rowmill's own requests count, too: probes of a deployment, and verdicts' questions to what serves.

    Raises:
        BusyError: Another process takes lines in, and does not end.
        WarehouseError: The place where they are cannot be asked.
    """
    place, taken = opened(service), Taken()
    if service.target.embedded:
        taken = predictions.take_in(service.settings, service.registry.warehouse, service.name)
    span = Span(since, until, {"service": service.name}, {} if checks else {"request_id": CHECK})
    end = until or now()
    step = "minute" if end - since <= _BY_MINUTE else "hour"
    counts = place.count(PREDICTIONS, span, ["model_id", "code"], step)
    total = int(counts["rows"].sum())
    share = min(1.0, MOST / total) if total else 1.0
    rows = place.draw(PREDICTIONS, span, COLUMNS, share)
    return Requests(service.name, since, end, counts, rows, share, step, taken)


def images(service: Service, request_id: str, answered_at: datetime.datetime) -> list[bytes]:
    """Return the pixels of a request's images, row by row and channels last; nothing where they are not kept.

    Args:
        service: Which.
        request_id: The request's id.
        answered_at: Its moment, by which it is found without a search.
    """
    span = Span(answered_at - _NEAR, answered_at + _NEAR, {"service": service.name, "request_id": request_id})
    found = opened(service).draw(PREDICTIONS, span, ["answered_at", "images"], 1.0)
    kept = found.loc[found["answered_at"] == answered_at, "images"]  # one id may have asked twice
    return [base64.b64decode(image) for text in kept[:1] for image in orjson.loads(text)]


def opened(service: Service) -> Log:
    """Return where a service's requests are on record."""
    settings = service.settings
    if service.target.embedded:
        return service.registry.warehouse
    # Imported when used: Google's client takes a second.
    from rowmill.data.client import Access  # pylint: disable=import-outside-toplevel
    from rowmill.data.sink import Sink  # pylint: disable=import-outside-toplevel

    # Without a location: Google runs a query where its tables lie.
    access = Access(settings.cloud.project, "", settings.warehouse_maximum_bytes_billed, settings.warehouse_emulator)
    return Sink(access, settings.warehouse_dataset)
