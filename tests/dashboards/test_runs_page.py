"""The Runs page without a browser: what is on record and what goes on is shown, and jobs get what was written."""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipywidgets
import pytest
from rowmill import jobs, pipeline, scheduler
from rowmill.data.warehouse import connect
from rowmill.flow import runs
from rowmill.pages import run_charts, run_view
from rowmill.pages import runs as runs_page
from rowmill.pages.parts import Beat, Notice
from rowmill.pages.table import Table
from rowmill.pipeline import Order
from rowmill.run import Run
from rowmill.settings import Settings

from tests.dashboards.conftest import wait_until
from tests.dashboards.test_tryit import widgets
from tests.flow import mill as mills

# A job outlives the one who started it on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

NASTY = "<img src=x onerror=document.title='taken'>"
STATES = {"grow": "up to date", "press": "done", "taste": "failed", "sell": "left out", "count": "running"}


class Page:
    """The page and what a viewer does with it."""

    def __init__(self, mill: Settings) -> None:
        self.root = runs_page.page(mill)

    def all(self, kind: type) -> list[Any]:
        """Return the page's widgets of a kind."""
        return [widget for widget in widgets(self.root) if isinstance(widget, kind)]

    def until(self, true: Callable[[], bool]) -> None:
        """Let the browser beat until something is true."""
        (beat,) = self.all(Beat)

        def struck() -> bool:
            beat.strike()
            time.sleep(0.05)
            return true()

        wait_until(struck)

    def text(self) -> str:
        """Return all markup, and what is told."""
        return "\n".join([*(widget.value for widget in self.all(ipywidgets.HTML)), *(notice.text for notice in self.all(Notice))])

    def click(self, label: str) -> None:
        """Click a button."""
        next(button for button in self.all(ipywidgets.Button) if button.description == label).click()

    def outcomes(self) -> list[str]:
        """Return the outcomes of the runs in the table."""
        (table,) = self.all(Table)
        return [row["cells"][1]["text"] for row in table.rows]


@pytest.fixture(name="mill")
def fixture_mill(tmp_path: Path) -> Iterator[Settings]:
    """A project that never ran; all that is left running is stopped."""
    mill = mills.make(tmp_path / "mill")
    yield mill
    for name in jobs.names(mill.state):
        jobs.stop(mill.state, name)


def put(mill: Settings, **changes: Any) -> Run:
    """Put a run on record."""
    return runs.end(mill, dataclasses.replace(runs.new("fruit", "by hand", {"trees": 2}), **changes))


def test_no_run_yet_is_said(mill: Settings) -> None:
    page = Page(mill)
    page.until(lambda: "No run is on record yet" in page.text() and "none is planned" in page.text())


def test_runs_are_listed_and_shown_with_steps_results_and_copies(mill: Settings) -> None:
    results = {"press": {"juice": 20.0}, "taste": {"outcome": "better", "model_id": "abcdefgh-t001", "sentence": NASTY}}
    put(
        mill,
        outcome="completed",
        results=results,
        states={**STATES, "sell": "waiting"},
        seconds={"press": 75.0},
        notebooks={"press": "20261121T190000000000/press.ipynb"},
    )
    failed = put(mill, outcome="failed", reason=f"Notebook taste stopped: {NASTY}", states=STATES)
    page = Page(mill)
    page.until(lambda: page.outcomes() == ["failed", "completed"] and "rm-graph" in page.text())
    assert "Notebook taste stopped: &lt;img" in page.text() and "broken off" in page.text()  # it ended while a step ran
    (table,) = page.all(Table)
    table._handle_custom_msg({"chosen": table.rows[1]["id"]}, [])  # pylint: disable=protected-access
    page.until(lambda: "1 min 15 s" in page.text())
    assert table.rows[0]["id"] == failed.run_id and 'href="/runs/20261121T190000000000/press.ipynb"' in page.text()
    assert "abcdefgh-t001 is better and waits: deploy it on the Models page." in page.text() and NASTY not in page.text()
    plan = (mill.root / "pipeline.yaml").read_text()
    (mill.root / "pipeline.yaml").write_text(plan + "schedule: {cron: 0 3 * * MON}\n")
    page.until(lambda: "<time" in page.text().partition("Next by the schedule")[2])


def test_a_run_is_started_watched_and_stopped(mill: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    order = Order("digits", "nap=60.0", again="press")
    assert scheduler.command(order)[1:] == ["-m", "rowmill", "run", "--source=digits", "--parameters=nap=60.0", "--again=press"]
    # The same without the dashboard that it would end with.
    code = "import sys; from rowmill import pipeline, settings; pipeline.run(settings.load(), pipeline.Order(*sys.argv[1:3], again=sys.argv[3]))"
    monkeypatch.setattr(scheduler, "command", lambda order: [sys.executable, "-c", code, order.source, order.parameters, order.again])
    mills.edit(mill, "press", "juice = apples * force", "import time; time.sleep(nap); juice = apples * force")
    mills.edit(mill, "press", "fail = False", "fail = False\\nnap = 0.0")
    page = Page(mill)
    page.until(lambda: "No run is on record yet" in page.text())
    source, parameters = page.all(ipywidgets.Text)[:2]
    (again,) = page.all(ipywidgets.Dropdown)
    source.value, parameters.value, again.value = "/no/such", "nap=60.0", "press"
    page.click("Start a run")
    wait_until(lambda: "The source '/no/such' is not a folder" in page.text())
    source.value = ""
    page.click("Start a run")
    page.until(lambda: page.outcomes() == ["running"] and "[2/5] press" in page.text() and ">done</span>" in page.text())
    again_page = Page(mill)  # another viewer sees the same
    again_page.until(lambda: again_page.outcomes() == ["running"])
    page.click("Stop")
    page.until(lambda: page.outcomes() == ["broken off"] and "Steps that had ended stay" in page.text())
    pipeline.run(mill, Order(steps="press"))
    assert [run.states["grow"] for run in runs.known(mill, connect(mill))] == ["up to date", "done"]


def test_a_read_only_dashboard_starts_nothing(mill: Settings) -> None:
    page = Page(dataclasses.replace(mill, dashboard_read_only=True))
    page.click("Start a run")
    wait_until(lambda: "only shows" in page.text() or "read" in page.text())
    assert jobs.look(mill.state, scheduler.JOB) is None


def test_every_state_has_a_colour_and_is_drawn() -> None:
    steps = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
    states = dict(zip(steps, ["done", "failed", "up to date", "left out"], strict=True))
    drawn = run_charts.svg(steps, states)
    assert drawn.startswith("<svg") and drawn.count("marker") + drawn.count("FancyArrow") + drawn.count("<path") >= 8
    assert all(word in drawn for word in (*steps, *states.values())) and all(
        run_charts.COLOURS[state] in drawn for state in states.values()
    )
    assert set(run_charts.COLOURS) <= set(run_view._BADGES) | {"to do"}  # pylint: disable=protected-access
