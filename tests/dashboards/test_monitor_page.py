"""The Monitor page without a browser, over real lines, a real registry and a real reference."""

import ipywidgets
import pytest
from rowmill.judging import reference, validation
from rowmill.pages import monitor, parts
from rowmill.registry import connected
from rowmill.serving import lines, release
from rowmill.settings import Settings

from tests.dashboards.conftest import FIRST, SECOND, wait_until
from tests.dashboards.test_models_page import NASTY, beat, text, until_said, widgets
from tests.requests import line, refusal


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "PAUSE_SECONDS", 0.0)


def write(mill: Settings, *told: bytes) -> None:
    """Write lines as the function does."""
    folder = lines.folder(mill.state, "digits")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "00000001-aaaaaaaaaaaa.jsonl").open("ab") as file:
        file.write(b"".join(told))


def answered(mill: Settings, count: int, **changed: object) -> list[bytes]:
    """Return lines of requests for images of the holdout."""
    service = release.open_service(mill, "digits")
    model = service.registry.model(FIRST)
    validation.refer(service, model)
    known = reference.kept(service, model)
    assert known is not None
    rows = known.sample(count, replace=True, random_state=1).to_dict("records")
    return [
        line(
            f"r{number}",
            model=FIRST,
            **{
                "labels": [model.labels[int(row["label"])]],
                "confidences": [row["confidence"]],
                "means": [row["mean"]],
                "deviations": [row["deviation"]],
                **changed,
            },
        )
        for number, row in enumerate(rows)
    ]


def test_shows_requests_as_they_come(mill: Settings) -> None:
    page = monitor.page(mill)
    wait_until(lambda: "No request to digits is on record since" in text(page))
    assert "prints the lines that have its lines delivered" in text(page)
    write(mill, *answered(mill, 300), refusal("x", 400, model=FIRST), line("y", model=SECOND))
    until_said(page, "<b>302</b>")
    assert "<b>0.33 %</b>" in text(page) and "as the holdout" in text(page) and text(page).count("<svg") == 6
    assert f"Nothing is said of drift for {SECOND}: 1 answered requests are fewer than 200." in text(page)
    write(mill, line("z", model=SECOND))
    until_said(page, "<b>303</b>")


def test_what_differs_is_said_and_not_called_bad(mill: Settings) -> None:
    write(mill, *answered(mill, 250, means=[250.0], labels=[NASTY]))
    page = monitor.page(mill)
    wait_until(lambda: '<span class="rm-badge rm-unsure">differs</span>' in text(page))
    shown = text(page).split("</style>")[-1]
    assert (
        "only labels of these requests can tell" in shown
        and "rm-bad" not in shown.replace("rm-badge", "")
        and "Images are not kept" in shown
    )
    assert NASTY not in shown and "&lt;img src=x" in shown and "r1" in shown


def test_another_time_is_read_at_once_and_what_goes_wrong_is_a_sentence(mill: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "PAUSE_SECONDS", 1000.0)
    write(mill, line("old", age_days=3, model=FIRST), line("new", model=FIRST))
    page = monitor.page(mill)
    wait_until(lambda: "<b>1</b>" in text(page))
    time = next(w for w in widgets(page) if isinstance(w, ipywidgets.Dropdown) and w.description == "Time")
    time.value = 7.0
    wait_until(lambda: "<b>2</b>" in text(page))
    for path in mill.state.glob("warehouse.sqlite*"):
        path.write_bytes(b"no database, but long enough to look at " * 1000)
    again = next(w for w in widgets(page) if isinstance(w, ipywidgets.Button))
    again.click()
    wait_until(lambda: "is no SQLite database" in text(page))
    assert next(w for w in widgets(page) if isinstance(w, parts.Notice)).kind == "failed" and "<b>2</b>" in text(page)


def test_an_empty_registry_says_what_to_run(mill: Settings) -> None:
    connected(mill).warehouse.path.unlink()  # type: ignore[attr-defined]
    page = monitor.page(mill)
    wait_until(lambda: "make run" in text(page))
    beat(page)
