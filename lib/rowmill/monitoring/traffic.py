"""How much was asked, how soon and what was answered, per model and over time; pure pandas.

Of each request one image counts, drawn by chance from those that it brought: images of one request hang together.
"""

import datetime
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import pandas as pd

from rowmill.monitoring.log import Requests
from rowmill.shown import Shown

PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
ANSWERS = ("label", "confidence", "mean", "deviation")
_LISTS = {"label": "labels", "confidence": "confidences", "mean": "means", "deviation": "deviations"}
_PARTS = 49  # of a time, as it is drawn: half hours of a day that was begun
_WIDTHS = [datetime.timedelta(minutes=minutes) for minutes in (1, 2, 5, 15, 30, 60, 120, 360, 720, 1440, 2880)]


@dataclass(frozen=True)
class Traffic(Shown):
    """What a model was asked, and how it answered.

    Attributes:
        requests: All of them.
        refused, failed: Those that were answered by a code from 400 and from 500 on.
        p50, p95, p99: Percentiles of the latency of those that were answered, in milliseconds; NaN where none was.
        confidence: The mean of the confidences, 0 to 1.
        labels: The share of each answered label, the most frequent first.
    """

    model_id: str
    requests: int
    refused: int
    failed: int
    p50: float
    p95: float
    p99: float
    confidence: float
    labels: dict[str, float]


def by_model(asked: Requests) -> list[Traffic]:
    """Return each model's traffic, that with the most requests first."""
    known, said = answers(asked.rows), asked.rows[asked.rows["code"] == 200]
    found = []
    for model_id, counts in asked.counts.groupby("model_id"):
        mine = known[known["model_id"] == model_id]
        slow = said.loc[said["model_id"] == model_id, "latency_ms"]
        p50, p95, p99 = (float(slow.quantile(share)) for share in PERCENTILES.values())
        labels = {str(label): float(share) for label, share in mine["label"].value_counts(normalize=True).items()}
        found.append(Traffic(str(model_id), *_counted(counts), p50, p95, p99, float(mine["confidence"].mean()), labels))
    return sorted(found, key=lambda traffic: (-traffic.requests, traffic.model_id))


def over_time(asked: Requests, model_id: str = "") -> pd.DataFrame:
    """Return the traffic of a model, or of all, in parts of the time, from the first request on.

    Returns:
        Columns at (a part's start, UTC), requests, refused, failed, p50, p95, p99 (ms) and confidence; parts without requests are in it.
    """
    width = width_of(asked)
    parts = pd.date_range(pd.Timestamp(start_of(asked)).floor(width), asked.until, freq=width).as_unit("us")
    counts, rows, known = asked.counts, asked.rows, answers(asked.rows)
    if model_id:
        counts, rows, known = (frame[frame["model_id"] == model_id] for frame in (counts, rows, known))
    kinds = {"requests": counts, "refused": counts[counts["code"].between(400, 499)], "failed": counts[counts["code"] >= 500]}
    sums = {name: frame.groupby(_parts(frame["at"], width))["rows"].sum() for name, frame in kinds.items()}
    slow, shares = rows[rows["code"] == 200], list(PERCENTILES.values())
    latency = slow.groupby(_parts(slow["answered_at"], width))["latency_ms"].quantile(np.array(shares)).unstack()
    latency = latency.reindex(columns=shares).set_axis(list(PERCENTILES), axis=1)
    confidence = known.groupby(_parts(known["answered_at"], width))["confidence"].mean()
    table = pd.DataFrame(sums).join([latency, confidence], how="outer")
    # A clock that was ahead leaves parts beyond the end; they stay, for nothing of what was asked is hidden.
    table = table.reindex(parts.union(pd.DatetimeIndex(table.index))).rename_axis("at").reset_index()
    return table.fillna(dict.fromkeys(kinds, 0)).astype(dict.fromkeys(kinds, "int64"))


def start_of(asked: Requests) -> datetime.datetime:
    """Return where the first request stands in the counts; the time's start where there is none, or all is still to come."""
    first = asked.counts["at"].min()
    return first.to_pydatetime() if asked.since < first < asked.until else asked.since


def width_of(asked: Requests) -> datetime.timedelta:
    """Return how long the parts are that a time is drawn in: at most 49 of them, and none shorter than what was counted by."""
    least = _WIDTHS[0] if asked.step == "minute" else datetime.timedelta(hours=1)
    fitting = [width for width in _WIDTHS if width >= least and (asked.until - start_of(asked)) / width <= _PARTS]
    return fitting[0] if fitting else _WIDTHS[-1]


def answers(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one answer of each request that got some.

    Args:
        rows: As in `Requests`.

    Returns:
        Columns request_id, answered_at, model_id, place (of the image in its request), and label, confidence, mean and deviation.
    """
    told = rows[(rows["code"] == 200) & (rows["instances"] > 0)]
    lists = {name: [orjson.loads(text) for text in told[column]] for name, column in _LISTS.items()}
    # Whose lists are not of one length, no function of ours wrote.
    whole = [len({len(column[row]) for column in lists.values()}) == 1 and bool(lists["label"][row]) for row in range(len(told))]
    told = told[np.array(whole, bool)]
    lists = {name: [value for value, is_whole in zip(column, whole, strict=True) if is_whole] for name, column in lists.items()}
    places = [zlib.crc32(name.encode()) % len(each) for name, each in zip(told["request_id"], lists["label"], strict=True)]
    picked = {name: [each[place] for each, place in zip(column, places, strict=True)] for name, column in lists.items()}
    numbers = {name: pd.to_numeric(pd.Series(picked[name], told.index, object), errors="coerce").astype("float64") for name in ANSWERS[1:]}
    label = pd.Series([str(each) for each in picked["label"]], told.index, object)
    table = told[["request_id", "answered_at", "model_id"]].assign(place=np.array(places, np.int64), label=label, **numbers)
    return table.dropna().reset_index(drop=True)


def _counted(counts: pd.DataFrame) -> tuple[int, int, int]:
    codes = (counts["code"] > 0, counts["code"].between(400, 499), counts["code"] >= 500)
    requests, refused, failed = (int(counts.loc[which, "rows"].sum()) for which in codes)
    return requests, refused, failed


def _parts(moments: pd.Series, width: datetime.timedelta) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(moments).floor(width)


def errors(found: Sequence[Traffic]) -> float:
    """Return the share of requests, 0 to 1, that were refused or failed; NaN where there were none."""
    requests = sum(traffic.requests for traffic in found)
    return sum(traffic.refused + traffic.failed for traffic in found) / requests if requests else float("nan")
