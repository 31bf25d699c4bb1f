"""One reader of requests for both sides: what this machine's function wrote, and what Cloud Logging's sink delivered."""

import base64
import dataclasses
import datetime
import json
from collections.abc import Callable

import pytest
from rowmill.data.client import Access
from rowmill.monitoring import log
from rowmill.records import now
from rowmill.sections import Cloud
from rowmill.serving import lines, release
from rowmill.serving.endpoint import CHECK
from rowmill.serving.release import Service
from rowmill.settings import Settings
from rowmill.tables import PREDICTIONS

from tests.requests import MODEL, deliver, line, refusal

DAY = datetime.timedelta(days=1)
Write = Callable[..., None]


@pytest.fixture(params=["sqlite", "bigquery", "sink"])
def place(request: pytest.FixtureRequest, project: Settings) -> tuple[Service, Write]:
    """A service on each side, and how lines get there."""
    settings = project if request.param == "sqlite" else request.getfixturevalue("on_bigquery")
    if request.param == "sink":
        cloud = dataclasses.replace(settings, target_kind="gcloud", cloud=Cloud(project=settings.warehouse_project))
        access = Access(settings.warehouse_project, "", 10**9, settings.warehouse_emulator)
        return release.open_service(cloud, "digits"), lambda *told: deliver(access, settings.warehouse_dataset, list(told), twice=(0,))

    def write(*told: bytes) -> None:
        folder = lines.folder(settings.state, "digits")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "00000001-aaaaaaaaaaaa.jsonl").open("ab") as file:
            file.write(b"".join(told))

    return release.open_service(settings, "digits"), write


def test_nothing_on_record_is_a_sentence(place: tuple[Service, Write]) -> None:
    asked = log.read(place[0], now() - DAY)
    assert not asked.total and asked.rows.empty and list(asked.counts.columns) == ["at", "model_id", "code", "rows"]
    assert asked.notes[0].startswith("No request to digits is on record since 20")


def test_both_sides_tell_the_same(place: tuple[Service, Write]) -> None:
    service, write = place
    image = base64.b64encode(bytes(range(64))).decode()
    write(
        line("a", age_days=0.1, images=[image], hash="ab"),
        refusal("b", 400),
        line("old", age_days=3),
        line("other", service="cats"),
        line(
            "c", age_days=0.2, model="bbbbbbbb-t001", instances=2, labels=["7", "1"], confidences=[0.9, 1], means=[1, 2], deviations=[3, 4]
        ),
        line(f"{CHECK}1"),
        line("ahead", age_days=-1),
    )
    asked = log.read(service, now() - DAY)
    assert list(asked.rows["request_id"]) == ["c", "a", "b", "ahead"], "In the order of their moments, once, and without rowmill's checks."
    assert list(asked.rows.columns) == [name for name in PREDICTIONS.columns if name not in ("images", "log", "log_end")]
    assert [json.loads(text) for text in asked.rows["confidences"]] == [[0.9, 1], [0.9], [], [0.9]]
    assert list(asked.rows["code"]) == [200, 200, 400, 200] and list(asked.rows["hash"]) == ["", "ab", "", ""]
    assert (
        asked.total == 4
        and asked.share == 1
        and asked.counts.groupby(["model_id", "code"])["rows"].sum().to_dict()
        == {
            (MODEL, 200): 2,
            (MODEL, 400): 1,
            ("bbbbbbbb-t001", 200): 1,
        }
    )
    assert asked.notes == ("A moment still to come stands in 1 of the requests: the clock of what served was ahead, or went back since.",)
    assert log.read(service, now() - DAY, checks=True).total == 5 and log.read(service, now() - 4 * DAY, now() - DAY).total == 1
    row = asked.rows.iloc[1]
    assert log.images(service, "a", row["answered_at"].to_pydatetime()) == [bytes(range(64))]
    assert log.images(service, "b", asked.rows.iloc[2]["answered_at"].to_pydatetime()) == []


def test_of_many_requests_a_share_is_drawn_and_all_are_counted(place: tuple[Service, Write], monkeypatch: pytest.MonkeyPatch) -> None:
    service, write = place
    write(*(line(f"r{number}", age_days=number / 4000) for number in range(2000)))
    monkeypatch.setattr(log, "MOST", 200)
    asked = log.read(service, now() - DAY)
    assert asked.total == 2000 and asked.share == 0.1 and 140 < len(asked.rows) < 260
    halves = (asked.rows["answered_at"] > now() - DAY / 4).sum()
    assert 50 < halves < len(asked.rows) - 50
    assert asked.notes == (
        f"Latencies, labels, confidence and drift are of {len(asked.rows)} requests that chance has drawn from 2,000, evenly over the time; "
        "requests and errors are counted in full.",
    )


def test_garbage_in_the_log_is_told_and_the_rest_is_read(project: Settings) -> None:
    folder = lines.folder(project.state, "digits")
    folder.mkdir(parents=True)
    (folder / "00000001-aaaaaaaaaaaa.jsonl").write_bytes(line("a") + b"\xff\xfe\nTraceback\n" + line("b", labels="7") + line("c"))
    asked = log.read(release.open_service(project, "digits"), now() - DAY)
    assert list(asked.rows["request_id"]) == ["a", "c"] and "none of the function's were left out: 3." in asked.notes[0]
