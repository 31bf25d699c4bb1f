"""The Search page without a browser: what is on disk is shown, the form's faults are the search's own, jobs get what was written."""

import ast
import dataclasses
import math
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import pytest
from rowmill import jobs, pipeline
from rowmill.data import dataset
from rowmill.errors import BusyError, ParameterError
from rowmill.pages import search, search_form, search_jobs, search_plots
from rowmill.pages.parts import Beat, Notice
from rowmill.pages.search_form import Form
from rowmill.pages.table import Table
from rowmill.records import Trial
from rowmill.registry import connected
from rowmill.settings import Settings
from rowmill.training import builtin, space, study
from rowmill.training.goal import Goal, Objective
from rowmill.training.plan import Plan
from rowmill.training.study import Study

from tests.conftest import digits_store
from tests.dashboards.conftest import project, wait_until
from tests.dashboards.test_tryit import widgets

# A job outlives the one who started it on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

NASTY = "<img src=x onerror=document.title='taken'>"
RANGES = space.read(builtin.SPACES["mlp"], builtin.DEFAULTS["mlp"])
GOAL = Goal(0.99, trials=12, minutes=3.0, epochs=5, patience=4, objective=Objective.parse("accuracy, size_mb <= 2"))
PLAN = Plan("mlp", RANGES, GOAL, seed=3, algorithm="random", seeds=2)


def search_of(mill: Settings, *, plan: Plan = PLAN, count: int = 3, state: str = "completed", reason: str = "") -> Study:
    """Leave a search on disk that was cut off, with so many trials; the last one is the best."""
    models = connected(mill)
    with study.opened(models, plan, dataset.find(models.warehouse, "digits")) as opened:
        for place in range(1, count + 1):
            values = {
                "network": "mlp",
                "units": 32 * place,
                "dropout": 0.1 * (place % 3),
                "learning_rate": 0.001 * place,
                "optimizer": "sgd",
            }
            curve = tuple(0.5 + 0.03 * place + 0.01 * epoch for epoch in range(5))
            ended: dict[str, Any] = {"score": curve[-1], "accuracy": curve[-1], "curve": curve, "seconds": 2.0, "reason": reason}
            now: dict[str, Any] = {"curve": curve[:3]} if state == "running" and place == count else {**ended, "state": "completed"}
            opened.put(
                Trial(
                    opened.model_id(place),
                    "digits",
                    opened.dataset_version,
                    **{"state": "running", **now},
                    hyperparameters=values,
                    seed=40 + place,
                    epochs=5,
                )
            )
        opened.keep_findings(["'units' changes nothing."])
        opened.keep_time()
        return opened


class Page:
    """The page and what a viewer does with it."""

    def __init__(self, mill: Settings) -> None:
        self.root = search.page(mill)

    def all(self, kind: type) -> list[Any]:
        """Return the page's widgets of a kind."""
        return [widget for widget in widgets(self.root) if isinstance(widget, kind)]

    def until(self, true: Callable[[], bool]) -> None:
        """Let the browser beat until something is true."""
        (beat,) = self.all(Beat)
        wait_until(lambda: beat.strike() or true())

    def text(self) -> str:
        """Return all markup."""
        return "\n".join(widget.value for widget in self.all(ipywidgets.HTML))

    def button(self, label: str) -> ipywidgets.Button:
        """Return a button by its words."""
        return next(button for button in self.all(ipywidgets.Button) if button.description == label)

    def shows(self, label: str) -> bool:
        """Return whether a button is there to be seen."""
        return self.button(label).layout.display != "none"

    def notices(self) -> list[str]:
        """Return what is told."""
        return [notice.text for notice in self.all(Notice) if notice.text]

    def write(self, changes: dict[str, str], rows: Sequence[dict[str, Any]] | None = None) -> dict[str, str]:
        """Write into the form of a new search; return its faults."""
        form = self.all(Form)[-1]
        given = {**form.content["values"], **changes}
        form._handle_custom_msg({"values": given, "rows": list(form.content["rows"] if rows is None else rows)}, [])  # pylint: disable=protected-access
        return dict(form.faults)


@pytest.fixture(scope="module", name="ingested")
def fixture_ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a state folder with the digits in it, and no model."""
    state = tmp_path_factory.mktemp("ingested")
    digits_store(project(state))
    return state


@pytest.fixture(name="mill")
def fixture_mill(ingested: Path, tmp_path: Path) -> Iterator[Settings]:
    """A project with the digits; everything that a test starts is stopped."""
    state = tmp_path / "state"
    shutil.copytree(ingested, state)
    yield project(state)
    for name in jobs.names(state):
        jobs.stop(state, name)


@pytest.fixture(name="started")
def fixture_started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collect the notebook's parameters of what would be started."""
    found: list[dict[str, Any]] = []

    def start(_: Any, job: jobs.Job) -> None:
        assert list(job.command[1:5]) == ["-m", "rowmill", "search", "--parameters"]
        found.append(dict(word.partition("=")[::2] for word in shlex.split(job.command[5])))

    monkeypatch.setattr(jobs, "start_once", start)
    return found


class TestWatching:
    """What the page shows of searches."""

    def test_nothing_searched_yet_is_said(self, mill: Settings):
        page = Page(mill)
        page.until(lambda: "Nothing was searched on this machine yet" in page.text())
        assert not page.shows("Stop") and not page.shows("Resume") and page.button("Start the search").disabled is False

    def test_a_search_that_was_cut_off_can_be_resumed_with_its_very_plan(self, mill: Settings, started: list[dict[str, Any]]):
        cut = search_of(mill)
        page = Page(mill)
        page.until(lambda: "Which hyperparameter mattered" in page.text())
        text = page.text()
        assert (
            cut.experiment in text
            and "stopped" in text
            and "3 of 12" in text
            and "63.00 %" in text
            and "accuracy, size_mb &lt;= 2 99.00 %" in text
        )
        assert "&#x27;units&#x27; changes nothing." in text and page.shows("Resume") and not page.shows("Stop")
        page.button("Resume").click()
        wait_until(lambda: bool(started))
        assert _plan_of(started[0], mill).identity() == cut.plan
        assert (started[0]["service"], started[0]["check_up"]) == ("digits", "False")

    def test_a_running_search_is_turned_to_with_its_curves(self, mill: Settings):
        search_of(mill)
        page = Page(mill)
        page.until(lambda: "stopped" in page.text())
        models = connected(mill)
        version = dataset.find(models.warehouse, "digits")
        other = search_of(mill, plan=dataclasses.replace(PLAN, seed=4), state="running")
        with study.opened(models, dataclasses.replace(PLAN, seed=4), version):
            page.until(lambda: other.experiment in page.text())
            (table,) = page.all(Table)
            assert [row["id"] for row in table.rows] == [other.model_id(place) for place in (3, 2, 1)]
            assert [row["cells"][1]["text"] for row in table.rows] == ["running", "completed", "completed"]
            assert "polyline" in page.text() and "left at most" in page.text()
            assert len(page.all(ipywidgets.Dropdown)[0].options) == 2
        page.until(lambda: "left at most" not in page.text())

    def test_an_end_shows_what_the_figures_are_worth(self, mill: Settings):
        done = search_of(mill, count=12)
        done.finish()
        page = Page(mill)
        page.until(lambda: "What mattered" in page.text())
        text = page.text()
        assert "finished" in text and "rm-parallel" in text and "rm-bar" in text and "learning_rate" in text
        assert "of the 11 other trials are within" in text and not page.shows("Resume")

    def test_nothing_that_others_wrote_becomes_markup(self, mill: Settings):
        search_of(mill, plan=dataclasses.replace(PLAN, network=f"{NASTY}.py:net"), reason=NASTY)
        page = Page(mill)
        page.until(lambda: "stopped" in page.text())
        (table,) = page.all(Table)
        page.all(Table)[0]._handle_custom_msg({"chosen": table.rows[0]["id"]}, [])  # pylint: disable=protected-access
        page.until(lambda: "Trial t003" in page.text())
        assert "&lt;img" in page.text() and "<img src=x" not in page.text()

    def test_values_of_a_trial_are_changed_and_trained(self, mill: Settings, started: list[dict[str, Any]]):
        cut = search_of(mill)
        page = Page(mill)
        page.until(lambda: "stopped" in page.text())
        page.all(Table)[0]._handle_custom_msg({"chosen": cut.model_id(2)}, [])  # pylint: disable=protected-access
        values, _ = page.all(Form)
        assert values.content["values"] == {"units": "64", "dropout": "0.2", "learning_rate": "0.002", "optimizer": "sgd", "seed": "42"}
        for written, sentence in (
            ({"units": "many"}, "'units' is of another kind"),
            ({"seed": "x"}, "Seed must be a whole number; found 'x'"),
        ):
            values._handle_custom_msg({"values": {**values.content["values"], **written}, "rows": []}, [])  # pylint: disable=protected-access
            wait_until(
                lambda sentence=sentence: page.button("Train with these values").click() or any(sentence in told for told in page.notices())
            )
        values._handle_custom_msg({"values": {**values.content["values"], "units": "100"}, "rows": []}, [])  # pylint: disable=protected-access
        page.button("Train with these values").click()
        wait_until(lambda: bool(started))
        plan = _plan_of(started[0], mill)
        assert {name: entry["values"] for name, entry in plan.space.items()} == {
            "units": [100], "dropout": [0.2], "learning_rate": [0.002], "optimizer": ["sgd"],
        }  # fmt: skip
        assert (plan.seed, plan.goal.trials, plan.goal.epochs, plan.seeds, plan.goal.objective) == (42, 1, 5, 0, GOAL.objective)

    def test_a_damaged_search_is_left_out(self, mill: Settings):
        (search_of(mill).folder / "plan.json").write_text("{")
        page = Page(mill)
        page.until(lambda: "Nothing was searched" in page.text())
        assert not page.notices()


class TestForm:
    """The form of a new search."""

    def test_what_is_left_as_it_is_needs_no_parameter(self, mill: Settings, started: list[dict[str, Any]]):
        page = Page(mill)
        page.until(lambda: bool(page.all(Form)[-1].content["rows"]))
        assert [row["name"] for row in page.all(Form)[-1].content["rows"]] == list(builtin.SPACES["cnn"])
        assert page.write({}) == {}
        page.button("Start the search").click()
        wait_until(lambda: bool(started))
        assert started == [{"service": "digits"}]

    def test_each_fault_is_the_searchs_own_sentence_beside_its_field(self, mill: Settings, started: list[dict[str, Any]]):
        page = Page(mill)
        page.until(lambda: bool(page.all(Form)[-1].content["rows"]))
        rows = [dict(row) for row in page.all(Form)[-1].content["rows"]]
        rows[0]["max"], rows[1]["step"], rows[2]["values"] = "0", "5", ""
        rows.append({"name": "unitz", "type": "int", "min": "1", "max": "2"})
        faults = page.write({"trials": "x", "objective": "recall", "workers": "-1", "minutes": "0", "seed": "-5", "members": "0"}, rows)
        assert {name: sentence.partition(";")[0] for name, sentence in faults.items()} == {
            "trials": "Trials at most must be a whole number",
            "objective": "Metric 'recall' needs a direction",
            "workers": "workers cannot be below 0",
            "minutes": "The budget needs trials >= 1, minutes > 0, epochs >= 0 and patience >= 0, found 1, 0.0, 0 and 0",
            "seed": "seed cannot be below 0",
            "members": "members cannot be below 1",
            "range:0": "'depth' needs min <= max, and 1 is above 0",
            "range:1": "'filters' has a step that misses max",
            "range:2": "'kernel' of type choice needs values",
            "range:11": "The space names 'unitz', which this network does not have",
        }
        page.button("Start the search").click()
        wait_until(lambda: any("10 entries of the form cannot be used" in told for told in page.notices()))
        assert not started
        assert "The goal must be an accuracy" in page.write({"goal": "98"})["goal"] and page.write({"objective": "nll", "goal": "98"}) == {}

    def test_another_network_brings_its_ranges_and_keeps_the_rest(self, mill: Settings, started: list[dict[str, Any]]):
        page = Page(mill)
        page.until(lambda: bool(page.all(Form)[-1].content["rows"]))
        page.write({"network": "mlp", "trials": "7"})
        form = page.all(Form)[-1]
        assert [row["name"] for row in form.content["rows"]] == list(builtin.SPACES["mlp"]) and form.content["values"]["trials"] == "7"
        page.write({"network": "own"}, [])
        assert form.content["free"] and set(form.faults) == {"file"}
        row = {"name": "width", "type": "choice", "values": "16 | 32", "default": "32"}
        assert page.write({"network": "own", "file": "nets/mine.py:build"}, [row]) == {}
        page.button("Start the search").click()
        wait_until(lambda: bool(started))
        assert (started[0]["network"], started[0]["trials"]) == ("nets/mine.py:build", "7")
        assert ast.literal_eval(started[0]["space"]) == {"width": {"type": "choice", "values": [16, 32], "default": 32}}

    def test_without_data_nothing_starts(self, mill: Settings, started: list[dict[str, Any]]):
        empty = project(mill.state.parent / "empty")
        page = Page(empty)
        page.until(lambda: bool(page.all(Form)[-1].content["rows"]))
        page.button("Start the search").click()
        wait_until(lambda: any("There are no data yet" in told for told in page.notices()))
        assert not started

    def test_a_dashboard_that_only_shows_starts_and_stops_nothing(self, mill: Settings, started: list[dict[str, Any]]):
        page = Page(dataclasses.replace(mill, dashboard_read_only=True))
        page.until(lambda: bool(page.all(Form)[-1].content["rows"]))
        page.button("Start the search").click()
        wait_until(lambda: any("This dashboard only shows" in told for told in page.notices()))
        page.button("Stop").click()
        assert not started

    def test_a_search_is_taken_over_to_be_changed(self, mill: Settings, started: list[dict[str, Any]]):
        cut = search_of(mill)
        page = Page(mill)
        page.until(lambda: "stopped" in page.text() and bool(page.all(Form)[-1].content["rows"]))
        page.button("Edit as a new search").click()
        form = page.all(Form)[-1]
        wait_until(lambda: form.content["values"]["objective"] == "accuracy, size_mb <= 2")
        assert form.faults == {}
        page.button("Start the search").click()
        wait_until(lambda: bool(started))
        assert _plan_of(started[0], mill).identity() == cut.plan


def test_the_command_is_refused_before_anything_runs_and_while_another_run_goes_on(mill: Settings) -> None:
    for wrong, sentence in (("source=digits", "No notebook has a parameter 'source=digits'"), ("trials=few", "trials must be of type int")):
        with pytest.raises(ParameterError, match=sentence):
            pipeline.search(mill, wrong)
    own = search_form.defaults(mill)
    parameters = {name: value for name, value in search_form.parameters_of(search_of(mill), own).items() if value != own[name]}
    with jobs.lock(mill.state, "run", what="a run"), pytest.raises(BusyError, match="A run is going on already"):
        pipeline.search(mill, search_form.command(parameters)[-1])


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        ("import time; print('epoch 3', flush=True); time.sleep(60)", "running", "Getting ready: .* epoch 3"),
        ("print('Model: kx3v9q2m-t001')", "done", "kx3v9q2m-t001 is registered, and not judged yet"),
        ("print('rowmill: There is no data set; ingest one.')", "failed", "The last one stopped: There is no data set; ingest one."),
        ("print('epoch 3'); import os; os.kill(os.getpid(), 9)", "failed", "ended without a word, perhaps for lack of memory"),
    ],
    ids=["getting ready", "done", "failed", "killed"],
)
def test_the_job_is_told_to_all_who_look(mill: Settings, code: str, kind: str, sentence: str) -> None:
    jobs.start_once(mill.state, jobs.Job(search_jobs.JOB, "a search", [sys.executable, "-c", code], mill.state))
    page = Page(mill)

    def told() -> bool:
        return any(notice.kind == kind and re.search(sentence, notice.text) for notice in page.all(Notice))

    page.until(told)
    assert page.shows("Stop") is (kind == "running") and page.button("Start the search").disabled is (kind == "running")
    if kind == "running":
        page.button("Stop").click()
        wait_until(lambda: jobs.find(mill.state, search_jobs.JOB) is None)
        page.until(lambda: not page.shows("Stop"))


def test_curves_leave_out_what_would_squeeze_them_and_draw_odd_trials(mill: Settings) -> None:
    def made(place: int, state: str, curve: tuple[float, ...], score: float) -> Trial:
        return Trial(f"kx3v9q2m-t{place:03d}", "digits", "0" * 12, state, {"network": "mlp"}, score, curve, "odd")

    odd = [
        made(1, "failed", (math.nan,), math.nan),
        made(2, "completed", (0.1, 0.95), 0.95),
        made(3, "completed", (0.2, 0.96), 0.96),
        made(4, "completed", (-math.inf,), -math.inf),
        made(5, "running", (), math.nan),
    ]
    drawn = search_plots.curves(odd, Objective.parse("accuracy")) + search_plots.scores(odd, Objective.parse("accuracy"))
    assert "nan" not in drawn and "inf" not in drawn and drawn.count("<svg") == 2
    assert search_plots.curves([], Objective.parse("nll")) == "" == search_plots.parallel(odd)
    lower = search_plots.scores([made(1, "completed", (-0.5, -0.25), -0.25)], Objective.parse("nll"))
    assert "nll" in lower and "-0.2" not in lower


def _plan_of(parameters: dict[str, str], mill: Settings) -> Plan:
    """Return the plan that the notebook makes of its parameters."""
    own = search_form.defaults(mill)
    given = {name: text if isinstance(own[name], str) else ast.literal_eval(text) for name, text in parameters.items()}
    values = {**own, **given}
    goal = Goal(*(values[name] for name in ("goal", "trials", "minutes", "epochs", "patience")), Objective.parse(values["objective"]))
    named = ("seed", "algorithm", "stop_early", "trial_minutes", "workers", "refit", "seeds", "members")
    ranges = space.read(values["space"], builtin.DEFAULTS.get(values["network"], {}))  # as a search begins by settling its plan
    return Plan(values["network"], ranges, goal, **{name: values[name] for name in named})
