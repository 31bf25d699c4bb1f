"""Only what changed runs again, and exactly what follows from it; kills and failures leave what had ended."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
from rowmill import jobs, settings
from rowmill.data.warehouse import connect
from rowmill.errors import BusyError, PipelineError
from rowmill.flow import runs
from rowmill.pipeline import NotebookError, Order, run
from rowmill.run import Run
from rowmill.settings import Settings

from tests.flow import mill as mills
from tests.flow.mill import ran


@pytest.fixture(name="once", scope="module")
def fixture_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project that ran once; never changed."""
    mill = mills.make(tmp_path_factory.mktemp("once") / "mill")
    handed = run(mill, Order())
    assert set(ran(mill)) == {"grow", "press", "taste", "sell", "count"}
    assert handed == {"service": "fruit", "apples": 20, "juice": 20.0, "verdict": "better", "sold": 1, "counted": True}
    return mill.root


@pytest.fixture(name="mill")
def fixture_mill(once: Path, tmp_path: Path) -> Settings:
    """A copy of a project that ran once."""
    shutil.copytree(once, tmp_path / "mill")
    return settings.load(tmp_path / "mill")


def latest(mill: Settings) -> Run:
    """Return the newest run on record."""
    return runs.known(mill, connect(mill))[0]


def test_unchanged_it_starts_no_notebook_and_takes_no_time(mill: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.process_time()
    handed = run(mill, Order())
    assert time.process_time() - started < 1.0 and ran(mill) == [] and handed["verdict"] == "better"
    assert capsys.readouterr().out.count(": up to date\n") == 5
    seen = latest(mill)
    assert seen.outcome == "completed" and set(seen.states.values()) == {"up to date"} and seen.seconds == {}
    assert (mill.state / "runs" / seen.notebooks["taste"]).is_file() and seen.results["taste"]["verdict"] == "better"


def test_a_parameter_runs_what_follows_from_it(mill: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    run(mill, Order(parameters="sweet=6"))
    # What it hands on is the same as before, so nothing follows.
    assert ran(mill) == ["taste"] and "taste: parameter sweet changed" in capsys.readouterr().out
    run(mill, Order(parameters="sweet=6 force=0.1"))
    assert ran(mill) == ["press", "taste", "sell"] and latest(mill).parameters == {"source": "digits", "sweet": 6, "force": 0.1}


def test_an_edited_notebook_runs_but_not_for_its_prose(mill: Settings) -> None:
    path = mill.root / "notebooks" / "count.ipynb"
    read = json.loads(path.read_text())
    read["cells"].insert(0, {"cell_type": "markdown", "id": "prose", "metadata": {}, "source": "Apples are counted."})
    path.write_text(json.dumps(read))
    mills.edit(mill, "press", "apples * force", "apples * force * 2")
    run(mill, Order())
    assert ran(mill) == ["press", "taste"]


def test_new_rows_a_package_a_setting_and_a_lost_file_run_what_follows(
    mill: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "digits.txt"
    rows.write_text("a:0:1\n")
    order = Order(source=str(rows), steps="grow")
    run(mill, order)
    with rows.open("a") as file:
        file.write("b:0:2\n")
    run(mill, order)
    assert ran(mill) == ["grow", "grow"]  # another source, and then more rows in it
    (mill.root / "apples.txt").unlink()
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.0" if name == "fruit" else version(name))
    run(dataclasses.replace(mill, gate=dataclasses.replace(mill.gate, level=0.01)), dataclasses.replace(order, steps=""))
    assert ran(mill) == ["grow", "press", "taste"]


def test_the_content_of_a_named_file_counts(mill: Settings) -> None:
    mills.declare(mill, {"steps:\n": "steps:\n  note: {notebook: taste, settings: [gate.costs], optional: false}\n"})
    (mill.root / "costs.csv").write_text("one")
    priced = dataclasses.replace(mill, gate=dataclasses.replace(mill.gate, costs="costs.csv"))
    for text in ("one", "one", "two"):
        (mill.root / "costs.csv").write_text(text)
        run(priced, Order(steps="note"))
    assert ran(mill) == ["taste", "taste"]


def test_steps_are_asked_for_and_asked_for_again(mill: Settings) -> None:
    run(mill, Order(again="count"))
    assert ran(mill) == ["count"]
    for _ in range(2):  # an optional step runs whenever it is asked for
        run(mill, Order(steps="report"))
        assert ran(mill) == ["report"]


def test_what_must_not_deploy_waits(mill: Settings) -> None:
    run(mill, Order(parameters="trees=0", trigger="every Monday", may_deploy=False))
    assert "sell" not in ran(mill)
    seen = latest(mill)
    assert (seen.states["sell"], seen.states["taste"], seen.trigger) == ("waiting", "done", "every Monday")
    run(mill, Order(parameters="trees=0"))
    assert ran(mill) == ["sell"]


def test_a_failed_step_is_named_and_the_others_run(mill: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    told = r"Notebook press stopped in cell \[4\]: AssertionError: the press broke; the executed copy is .*press\.ipynb"
    with pytest.raises(NotebookError, match=told):
        run(mill, Order(parameters="fail=True trees=4"))
    assert set(ran(mill)) == {"grow", "press", "count"} and capsys.readouterr().out.endswith("sell: left out\n")
    seen = latest(mill)
    assert seen.outcome == "failed" and "the press broke" in seen.reason
    assert seen.states == {"grow": "done", "press": "failed", "taste": "left out", "sell": "left out", "count": "done"}
    copy = mill.state / "runs" / seen.notebooks["press"]
    failed = next(cell for cell in json.loads(copy.read_text())["cells"] if cell.get("execution_count") == 4)
    assert failed["outputs"][0]["evalue"] == "the press broke"
    run(mill, Order(parameters="trees=4"))
    assert ran(mill) == ["press", "taste"]


def test_a_step_that_makes_less_than_it_says_has_failed(mill: Settings) -> None:
    mills.declare(mill, {"makes: [sold]": "makes: [sold, paid]"})
    with pytest.raises(PipelineError, match="Step 'sell' did not hand on paid; found sold"):
        run(mill, Order(again="sell"))
    mills.declare(mill, {"makes: [counted]": "makes: [counted], files: [tally.txt]"})
    with pytest.raises(PipelineError, match="Step 'count' did not write tally.txt"):
        run(mill, Order(again="count", steps="count"))


def start(mill: Settings, *arguments: str) -> subprocess.Popen[str]:
    """Start a run as a process of its own, without a dashboard."""
    code = "import sys; from rowmill import pipeline, settings; pipeline.run(settings.load(), pipeline.Order(parameters=sys.argv[1], steps=sys.argv[2]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=mill.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until_running(mill: Settings, step: str) -> None:
    """Wait until a step of the run that goes on is running."""
    deadline = time.monotonic() + 60
    while not any(found.states.get(step) == "running" for found in runs.on_file(mill)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_kill_keeps_what_had_ended_and_the_broken_step_starts_afresh(mill: Settings) -> None:
    with start(mill, "trees=7 wait=60.0", "report") as process:
        until_running(mill, "report")
        assert runs.goes_on(mill) and latest(mill).outcome == "running"
        with pytest.raises(BusyError, match="A run is going on already"):
            run(mill, Order())
        os.killpg(process.pid, signal.SIGKILL)
    ended = ran(mill)
    assert ended[:2] == ["grow", "count"] and not runs.goes_on(mill) and latest(mill).outcome == "broken off"
    run(mill, Order(parameters="trees=7 wait=0.0", steps="report"))
    assert ran(mill) == ["report"]
    broken = runs.known(mill, connect(mill))[1]
    assert (broken.outcome, broken.reason, broken.states["report"]) == ("broken off", "broken off in step report", "broken off")


def test_a_second_run_at_the_same_time_is_refused(mill: Settings) -> None:
    with jobs.lock(mill.state, runs.LOCK, what="a run"), pytest.raises(BusyError, match="A run is going on already"):
        run(settings.load(mill.root), Order())
