"""The main job as `make run` calls it: twice, with what it prints, what it leaves running, and what it refuses."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from PIL import Image
from rowmill import jobs

from tests.conftest import ROOT
from tests.data.test_sources import write_folder
from tests.notebooks.conftest import SMALL, Rowmill, facts

Clone = tuple[Path, dict[str, str]]


@pytest.fixture(name="first", scope="module")
def fixture_first(rowmill: Rowmill) -> dict[str, str]:
    """The facts of a first run."""
    done = rowmill("run", "--parameters", SMALL)
    assert done.returncode == 0, done.stderr + done.stdout
    return facts(done.stdout)


def test_it_ends_with_its_facts(first: dict[str, str], clone: Clone) -> None:
    assert list(first) == ["Model", "Verdict", "Function", "Dashboard", "Try", "Stop"]
    assert re.fullmatch(r"[a-z][a-z0-9]{7}-t001", first["Model"])
    assert "may be the first model to serve, by the first-model rule" in first["Verdict"]
    assert first["Function"] == f"http://127.0.0.1:{clone[1]['ROWMILL_TARGET_PORT']}" and first["Stop"] == "make stop"


def test_the_curl_line_works_as_printed(first: dict[str, str]) -> None:
    answer = json.loads(subprocess.run(first["Try"], shell=True, capture_output=True, check=True).stdout)
    assert answer["deployedModelId"] == first["Model"] and len(answer["predictions"][0]) == 10


def test_the_dashboard_answers_only_with_its_token(first: dict[str, str], clone: Clone) -> None:
    token = (clone[0] / ".rowmill" / "token").read_text()
    assert first["Dashboard"].startswith(f"http://127.0.0.1:{clone[1]['ROWMILL_DASHBOARD_PORT']}/") and token in first["Dashboard"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(first["Dashboard"].split("?")[0])


def test_executed_copies_are_kept(first: dict[str, str], clone: Clone) -> None:
    (run,) = (clone[0] / ".rowmill" / "runs").iterdir()
    assert sorted(path.name for path in run.glob("*.ipynb")) == [
        "01_ingest.ipynb",
        "02_search.ipynb",
        "03_validate.ipynb",
        "04_release.ipynb",
    ]
    cells = [cell for path in run.glob("*.ipynb") for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [output["text"] for cell in cells for output in cell["outputs"] if output.get("name") == "stderr"] == []
    assert json.loads((run / "03_validate.json").read_text())["sentence"] == first["Verdict"]


def test_unchanged_it_runs_nothing_again(first: dict[str, str], rowmill: Rowmill) -> None:
    started = time.monotonic()
    done = rowmill("run", "--parameters", SMALL)
    print(f"{time.monotonic() - started:.2f} s")
    assert done.returncode == 0 and facts(done.stdout) == first and done.stdout.count(": up to date\n") == 4


def readme_lines(start: str) -> list[str]:
    """Return the README's command lines that start so."""
    return [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(start)]


def test_the_readmes_curl_lines_work(first: dict[str, str], clone: Clone) -> None:
    Image.new("L", (8, 8)).save(clone[0] / "digit.png")
    lines = [line for line in readme_lines("curl ") if "127.0.0.1" in line]
    for line in lines:
        command = line.replace(":8501", f":{clone[1]['ROWMILL_TARGET_PORT']}")
        answer = json.loads(subprocess.run(command, shell=True, cwd=clone[0], capture_output=True, check=True).stdout)
        assert answer["deployedModelId"] == first["Model"] and len(answer["predictions"][0]) == 10
    assert len(lines) == 2


def test_the_readmes_papermill_lines_work(first: dict[str, str], clone: Clone) -> None:
    lines = readme_lines(".venv/bin/papermill")
    assert lines and first
    for line in lines:
        command = line.replace(".venv/bin/papermill", f"{sys.executable} -m papermill")
        done = subprocess.run(command, shell=True, cwd=clone[0], env=clone[1], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]


def test_a_second_run_judges_against_what_serves(first: dict[str, str], rowmill: Rowmill) -> None:
    done = rowmill("run", "--parameters", "trials=1 epochs=1 minutes=2.0 seed=12 network=mlp check_up=False")
    second = facts(done.stdout)
    assert done.returncode == 0 and second["Model"] != first["Model"]
    assert f"{second['Model']} is worse than {first['Model']}, which keeps serving" in second["Verdict"]
    assert (
        json.loads(subprocess.run(second["Try"], shell=True, capture_output=True, check=True).stdout)["deployedModelId"] == first["Model"]
    )


def test_stop_stops_all_and_a_run_serves_again(first: dict[str, str], rowmill: Rowmill, clone: Clone, tmp_path: Path) -> None:
    stopped = rowmill("stop")
    assert stopped.stdout.strip() == "Stopped dashboard, function-digits." and stopped.returncode == 0
    assert not any(jobs.listening(int(clone[1][name])) for name in ("ROWMILL_TARGET_PORT", "ROWMILL_DASHBOARD_PORT"))
    assert rowmill("stop").stdout.strip() == "Nothing was running."
    refused = rowmill(
        "run",
        "--source",
        str(write_folder(tmp_path / "shapes")),
        "--parameters",
        "minutes=1.0 service=digits network=mlp trials=1 epochs=1 check_up=False",
    )
    assert refused.returncode == 1 and "takes 5x4x1 pixels and answers 0, 1, 2, but" in refused.stderr
    with urllib.request.urlopen(first["Function"]) as answer:
        assert json.load(answer)["model"] == first["Model"]


def test_a_folder_is_a_service_of_its_own(first: dict[str, str], rowmill: Rowmill, clone: Clone, tmp_path: Path) -> None:
    done = rowmill(
        "run",
        "--source",
        str(write_folder(tmp_path / "shapes")),
        "--parameters",
        "trials=1 epochs=1 minutes=1.0 network=mlp check_up=False",
    )
    told = facts(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "first model" in told["Verdict"]
    with urllib.request.urlopen(first["Function"]) as answer:
        assert json.load(answer)["service"] == "digits"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--source", "/no/such"], "The source '/no/such' is not a folder", id="missing-folder"),
        pytest.param(["--source", "~nobody-of-this-name/x"], "The source '~nobody-of-this-name/x' cannot be looked at", id="no-home"),
        pytest.param(["--parameters", "trialz=3"], "No notebook has a parameter 'trialz=3'", id="unknown-parameter"),
        pytest.param(["--parameters", "trials=abc"], "Parameter trials must be of type int, such as 4; found 'abc'", id="ill-typed"),
        pytest.param(["--parameters", "goal='"], "No closing quotation", id="open-quote"),
    ],
)
def test_bad_input_is_one_sentence(rowmill: Rowmill, arguments: list[str], words: str) -> None:
    done = rowmill("run", *arguments)
    assert done.returncode == 1 and words in done.stderr
    assert done.stderr.startswith("rowmill: ") and len(done.stderr.strip().splitlines()) == 1


def test_a_killed_kernel_is_one_sentence(clone: Clone, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rowmill", "run", "--parameters", "trials=1 minutes=1.0"]
    ports = {"ROWMILL_TARGET_PORT": str(jobs.free_port()), "ROWMILL_DASHBOARD_PORT": str(jobs.free_port())}
    with subprocess.Popen(
        command, cwd=clone[0], env=clone[1] | ports | {"ROWMILL_STATE": str(tmp_path)}, stderr=subprocess.PIPE, text=True
    ) as run:
        deadline = time.monotonic() + 60
        while not (kernels := [c for c in psutil.Process(run.pid).children() if "ipykernel_launcher" in " ".join(c.cmdline())]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        kernels[0].kill()
        told = run.communicate(timeout=60)[1]
    assert run.returncode == 1 and told.startswith("rowmill: Notebook 01_ingest's kernel died") and len(told.strip().splitlines()) == 1


def test_a_state_folder_that_cannot_be_written_is_one_sentence(rowmill: Rowmill, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = rowmill("run", ROWMILL_STATE=str(tmp_path / "file"))
    assert done.returncode == 1 and "cannot be used: Not a directory" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_second_run_at_once_is_refused(rowmill: Rowmill, clone: Clone) -> None:
    with jobs.lock(clone[0] / ".rowmill", "run", what="a run"):
        done = rowmill("run")
    assert done.returncode == 1 and "A run is going on already" in done.stderr


@pytest.mark.parametrize(("variable", "words"), [("ROWMILL_TARGET_PORT", "target.port"), ("ROWMILL_DASHBOARD_PORT", "dashboard.port")])
def test_a_port_in_use_is_refused_before_anything_runs(rowmill: Rowmill, tmp_path: Path, variable: str, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        started = time.monotonic()
        ports = {"ROWMILL_TARGET_PORT": str(jobs.free_port()), "ROWMILL_DASHBOARD_PORT": str(jobs.free_port())}
        done = rowmill("run", **ports | {"ROWMILL_STATE": str(tmp_path), variable: str(taken.getsockname()[1])})
    assert done.returncode == 1 and "is in use by another program" in done.stderr and words in done.stderr
    assert not (tmp_path / "runs").exists() and time.monotonic() - started < 60


def test_a_silent_endpoint_ends_in_cannot_tell(first: dict[str, str], rowmill: Rowmill, clone: Clone) -> None:
    rowmill("stop")
    for folder in ("bundles", f"artefacts/{first['Model']}"):
        shutil.rmtree(clone[0] / ".rowmill" / folder)
    done = rowmill("run", "--parameters", "trials=1 epochs=1 minutes=1.0 network=mlp check_up=False")
    told = facts(done.stdout)
    assert done.returncode == 1 and f"Model {first['Model']} should serve at" in done.stderr
    assert f"than {first['Model']}, which should serve but gives no answer" in told["Verdict"]
    assert told["Function"] == "none answers" and "Try" not in told and "token" in told["Dashboard"]
