"""What serves in pictures, drawn from requests of every kind."""

import datetime
import json

import numpy as np
import pandas as pd
import pytest
from rowmill.monitoring import drift, traffic
from rowmill.monitoring.log import Requests
from rowmill.monitoring.watch import Watched
from rowmill.pages import monitor_charts, monitor_view

START = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
LABELS = ("cat", "dog", "fox")


def holdout(rows: int, seed: int) -> pd.DataFrame:
    """Return answers to a holdout."""
    chance = np.random.default_rng(seed)
    numbers = {"confidence": chance.random(rows), "mean": chance.normal(30, 5, rows), "deviation": chance.normal(60, 5, rows)}
    return pd.DataFrame({"label": chance.integers(0, 3, rows), **numbers})


def seen(count: int, label: str = "cat", code: int = 200, hours: float = 24) -> Watched:
    """Return what was seen of so many requests, one a minute."""
    told = holdout(count, 1).assign(label=label)
    moments = pd.to_datetime([START + datetime.timedelta(minutes=n) for n in range(count)], utc=True).as_unit("us")
    lists = {name + "s": [json.dumps([value]) for value in told[name]] for name in ("label", "confidence", "mean", "deviation")}
    rows = pd.DataFrame({"answered_at": moments, "request_id": [f"r{n}" for n in range(count)], "model_id": "m", "code": code, **lists})
    rows = rows.assign(instances=1, latency_ms=1.5)
    counts = pd.DataFrame({"at": moments, "model_id": "m", "code": code, "rows": 1})
    asked = Requests("digits", START, START + datetime.timedelta(hours=hours), counts, rows, 1.0, "minute")
    found = drift.compare("m", traffic.answers(rows), holdout(900, 2), LABELS)
    return Watched(asked, tuple(traffic.by_model(asked)), (found,) if count else ())


@pytest.mark.parametrize(
    "given",
    [seen(0), seen(1), seen(1, hours=0.01), seen(300), seen(300, "$a_{<b>}"), seen(250, code=503)],
    ids=["nothing", "one", "just now", "many", "odd label", "failures"],
)
def test_all_is_drawn_whatever_was_asked(given: Watched) -> None:
    picture = np.zeros((4, 4, 1), np.uint8)
    for chart in (monitor_charts.traffic(given), monitor_charts.drift(given)):
        assert "<svg" in chart._repr_svg_()  # pylint: disable=protected-access
    for found in given.drifts:
        assert "<svg" in monitor_charts.furthest(found, [picture, None, picture][: len(found.furthest)])._repr_svg_()  # pylint: disable=protected-access
        assert "_{<b>}" not in monitor_view.markup(given, {"m": [picture, None]})
    assert "No request" in monitor_view.markup(given, {}) or given.asked.total
