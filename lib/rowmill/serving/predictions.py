"""What a service's function answered: its lines become rows of the table `predictions`, once each, and leave it in time or when asked to.

How far a file was taken in stands in its rows, so that an intake that was cut off leaves neither doubles nor gaps.
"""

import contextlib
import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pandas as pd

from rowmill import jobs
from rowmill.data.warehouse import Warehouse
from rowmill.errors import NotFoundError
from rowmill.records import now
from rowmill.serving import lines
from rowmill.settings import Settings
from rowmill.tables import PREDICTIONS, TRUTHS

_LISTS = ("labels", "confidences", "means", "deviations", "images")
_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Taken:
    """What an intake found.

    Attributes:
        rows: Lines that became rows.
        garbage: Lines that are none of the function's, counted again until lines of its own follow them.
        torn: Last lines that are not written to their end yet; the next intake has them.
        old: Lines beyond the days that they are kept for, erased.
    """

    rows: int = 0
    garbage: int = 0
    torn: int = 0
    old: int = 0

    def __add__(self, other: "Taken") -> "Taken":
        return Taken(self.rows + other.rows, self.garbage + other.garbage, self.torn + other.torn, self.old + other.old)

    def __str__(self) -> str:
        return (
            f"{self.rows} requests taken in, {self.old} too old, {self.garbage} lines of something else, {self.torn} still being written."
        )


def take_in(settings: Settings, warehouse: Warehouse, service: str) -> Taken:
    """Append what this machine's host wrote since the last time, and remove what is older than `[monitor] days`.

    Raises:
        BusyError: Another process takes in, and does not end.
        WarehouseError: The warehouse refuses; the next intake takes the same lines.
    """
    oldest = now() - datetime.timedelta(days=settings.monitor.days)
    with _alone(settings, service):
        warehouse.forget(PREDICTIONS, {"service": service}, before=oldest)
        return _take_in(warehouse, lines.folder(settings.state, service), oldest)


def forget(settings: Settings, warehouse: Warehouse, service: str, request_id: str) -> int:
    """Remove all rows of a request and its labels, from this machine's files, too; return how many requests there were.

    Raises:
        NotFoundError: There is none.
        BusyError, WarehouseError: As in `take_in`.
    """
    with _alone(settings, service):
        _take_in(warehouse, folder := lines.folder(settings.state, service), now() - datetime.timedelta(days=settings.monitor.days))
        # The files first: a row that is gone would be taken in again.
        for path in lines.files(folder):
            for piece in lines.read(path):
                if (row := _row(piece.text)) and row["request_id"] == request_id:
                    lines.erase(path, piece)
        warehouse.forget(TRUTHS, {"service": service, "request_id": request_id})
        removed = warehouse.forget(PREDICTIONS, {"service": service, "request_id": request_id})
    if not removed:
        raise NotFoundError(f"Service {service} has no request {request_id!r} on record", step="look at the id that came with its answer")
    return removed


def _alone(settings: Settings, service: str) -> contextlib.AbstractContextManager[None]:
    return jobs.lock(settings.state, f"predictions-{service}", what=f"an intake of {service}'s predictions", wait=_WAIT_SECONDS)


def _take_in(warehouse: Warehouse, folder: Path, oldest: datetime.datetime) -> Taken:
    taken, known = Taken(), lines.files(folder)
    for path in known:
        finished = path != known[-1] and lines.is_finished(path)  # asked first: what is written later is not read here
        taken += _take_file(warehouse, path, finished, oldest)
        if finished:
            path.unlink(missing_ok=True)
    return taken


def _take_file(warehouse: Warehouse, path: Path, finished: bool, oldest: datetime.datetime) -> Taken:
    before = warehouse.read(PREDICTIONS, {"log": path.stem}, ["log_end"])["log_end"].max()
    rows, garbage, torn, old = [], 0, 0, 0
    for piece in lines.read(path):
        is_new = not piece.end <= before  # NaN where nothing was taken in
        if not piece.whole and not finished:
            torn += 1
        elif (row := _row(piece.text)) is None:
            garbage += is_new and bool(piece.text.strip())
        elif row["answered_at"] < oldest:
            lines.erase(path, piece)
            old += 1
        elif is_new:
            rows.append({**row, "log": path.stem, "log_end": piece.end})
    if rows:
        warehouse.append(PREDICTIONS, pd.DataFrame(rows))
    return Taken(len(rows), garbage, torn, old)


def _row(text: bytes) -> dict[str, Any] | None:
    """Return the row of a line; None where the function did not write it."""
    try:
        told = orjson.loads(text)
        if told["kind"] != "prediction":
            return None
        return {
            "answered_at": _moment(told["answered_at"]),
            **{name: _as(str, told[name]) for name in ("request_id", "service")},
            "model_id": _as(str, told["model"]),
            **{name: _as(int, told[name]) for name in ("code", "instances")},
            "latency_ms": float(told["latency_ms"]),
            **{name: json.dumps(_as(list, told.get(name, []))) for name in _LISTS},
            "hash": _as(str, told.get("hash", "")),
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _as(kind: type, value: Any) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError
    return value


def _moment(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError
    return moment.astimezone(datetime.UTC)
