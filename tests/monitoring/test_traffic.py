"""Requests, errors, latencies, labels and confidence, per model and over time."""

import datetime
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rowmill.monitoring import traffic
from rowmill.monitoring.log import Requests

START = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
A, B = "aaaaaaaa-t001", "bbbbbbbb-t001"


def row(number: int, minutes: float, model: str = A, code: int = 200, **changed: Any) -> dict[str, Any]:
    """Return a row of the table."""
    lists = {"labels": ["7"], "confidences": [0.9], "means": [10.0], "deviations": [3.0]} if code == 200 else {}
    lists |= {name: changed.pop(name) for name in ("labels", "confidences", "means", "deviations") if name in changed}
    texts = {name: json.dumps(lists.get(name, [])) for name in ("labels", "confidences", "means", "deviations")}
    moment = pd.Timestamp(START + datetime.timedelta(minutes=minutes))
    told = {"request_id": f"r{number}", "model_id": model, "code": code, "instances": len(lists.get("labels", [])), "latency_ms": 1.0}
    return {"answered_at": moment, **told, **texts, **changed}


def asked(*rows: dict[str, Any], hours: float = 1.0) -> Requests:
    """Return requests of a time."""
    table = pd.DataFrame(rows).astype({"answered_at": "datetime64[us, UTC]"})
    counts = table.assign(at=table["answered_at"].dt.floor("min")).groupby(["at", "model_id", "code"]).size().rename("rows").reset_index()
    return Requests("digits", START, START + datetime.timedelta(hours=hours), counts, table, 1.0, "minute")


def test_each_model_has_its_figures() -> None:
    rows = [row(n, n / 10, latency_ms=float(n), labels=["7" if n % 4 else "1"], confidences=[0.5 + n / 400]) for n in range(1, 101)]
    rows += [row(200, 5, B, code=400), row(201, 6, B, code=503, latency_ms=900.0), row(202, 7, B, code=404)]
    first, second = traffic.by_model(asked(*rows))
    assert (first.model_id, first.requests, first.refused, first.failed) == (A, 100, 0, 0)
    expected = np.quantile(np.arange(1, 101), [0.5, 0.95, 0.99])
    assert [first.p50, first.p95, first.p99] == pytest.approx(expected) and first.labels == {"7": 0.75, "1": 0.25}
    assert first.confidence == pytest.approx(0.5 + 50.5 / 400)
    assert (second.model_id, second.requests, second.refused, second.failed) == (B, 3, 2, 1) and second.labels == {}
    assert np.isnan([second.p50, second.p99, second.confidence]).all(), "Nothing was answered."
    assert traffic.errors([first, second]) == pytest.approx(3 / 103) and np.isnan(traffic.errors([]))


def test_over_time_empty_parts_are_there_and_a_clock_that_goes_back_hides_nothing() -> None:
    rows = [row(1, 3, latency_ms=5.0), row(2, 1, latency_ms=7.0), row(3, 59, B, code=500), row(4, 59.5), row(5, 200)]
    table = traffic.over_time(asked(*rows))
    assert len(table) == 32 and table["at"].is_monotonic_increasing, "Parts of two minutes, and the one ahead of the clock."
    busy = table[table["requests"] > 0].set_index("at")
    assert busy["requests"].tolist() == [1, 1, 2, 1] and busy["failed"].tolist() == [0, 0, 1, 0] and busy.index[-1] > START
    assert busy["p50"].tolist() == [7, 5, 1, 1] and table["p50"].isna().sum() == 28
    assert traffic.over_time(asked(*rows), B)["requests"].sum() == 1
    assert traffic.over_time(asked(*rows, hours=24.0))["requests"].sum() == 5


def test_of_a_request_with_many_images_one_counts_and_always_the_same() -> None:
    many = {
        "labels": list("0123456789"),
        "confidences": [n / 10 for n in range(10)],
        "means": list(range(10)),
        "deviations": list(range(10)),
    }
    rows = asked(*(row(n, n / 100, **many) for n in range(500)), row(900, 6, code=400), row(901, 7, labels=[])).rows
    known = traffic.answers(rows)
    assert len(known) == 500 and traffic.answers(rows).equals(known) and set(known["label"]) == set("0123456789")
    assert (known["place"] == known["label"].astype(int)).all() and (known["mean"] == known["place"]).all()
    assert 3.5 < known["mean"].mean() < 5.5


def test_no_request_at_all_and_lists_that_do_not_fit() -> None:
    broken = asked(row(1, 1, means=[]), row(2, 2, labels=["7", "1"]), row(3, 2, means=["much"]))
    assert traffic.answers(broken.rows).empty and traffic.by_model(broken)[0].requests == 3
    empty = Requests("digits", START, START + datetime.timedelta(days=40), broken.counts.iloc[:0], broken.rows.iloc[:0], 1.0, "hour")
    assert traffic.by_model(empty) == [] and traffic.over_time(empty)["requests"].sum() == 0
