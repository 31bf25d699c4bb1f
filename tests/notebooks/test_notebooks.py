"""Notebooks are thin, run by papermill and again by nbval, and refuse parameters they do not have."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rowmill import pipeline, settings
from rowmill.errors import ParameterError
from rowmill.flow import steps

from tests.conftest import ROOT
from tests.notebooks.conftest import nbval

NOTEBOOKS = sorted([*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "dashboards").glob("*.ipynb")])
FORBIDDEN = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Try, ast.While, ast.Lambda)
STEPS = steps.choose(steps.load(settings.load(ROOT)), ())
Clone = tuple[Path, dict[str, str]]


def code_cells(path: Path) -> list[dict]:
    """Return the code cells of a notebook."""
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_thin(path: Path) -> None:
    for cell in code_cells(path):
        source = "".join(cell["source"])
        tree = ast.parse(source)
        is_parameters = "parameters" in cell["metadata"].get("tags", [])
        assert is_parameters or len(source.splitlines()) <= 10
        assert not any(isinstance(node, FORBIDDEN) for node in ast.walk(tree))
        assert is_parameters or isinstance(tree.body[-1], ast.Import | ast.ImportFrom | ast.Expr)
        assert cell["outputs"] == [] and cell["execution_count"] is None
        # A styled table shows its labels, which come from elsewhere, as they are.
        assert ".style" not in source or 'escape="html"' in source


@pytest.mark.parametrize("name", [step.notebook for step in steps.load(settings.load(ROOT)).values()])
def test_parameters_are_one_cell_each_with_a_comment_or_a_plain_name(name: str) -> None:
    cells = [cell for cell in code_cells(ROOT / "notebooks" / f"{name}.ipynb") if "parameters" in cell["metadata"].get("tags", [])]
    assert len(cells) == 1
    assert all(isinstance(node, ast.Assign) for node in ast.parse("".join(cells[0]["source"])).body)


def test_all_run_by_papermill_and_again_by_nbval(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, environment = clone
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    project = settings.load(folder)
    handed = {"trials": 1, "epochs": 15, "minutes": 2.0, "network": "mlp", "space": {}, "seed": 11}
    for name in (step.notebook for step in STEPS):
        handed |= pipeline.step(project, name, folder / ".rowmill" / "runs" / "once", handed)
        nbval(folder / ".rowmill" / "runs" / "once" / f"{name}.ipynb", clone)
    assert handed["outcome"] == "better" and handed["deployed"]


def test_those_that_need_what_serves_run_by_nbval(clone: Clone) -> None:
    folder, _ = clone
    nbval(folder / "dashboards" / "models.ipynb", clone)
    nbval(folder / "notebooks" / "06_batch.ipynb", clone)
    nbval(folder / "notebooks" / "07_client.ipynb", clone)
    nbval(folder / "notebooks" / "05_monitor.ipynb", clone)  # after the client: its requests are on record
    nbval(folder / "dashboards" / "monitor.ipynb", clone)


def test_nbval_sees_a_changed_fingerprint(clone: Clone) -> None:
    path = clone[0] / ".rowmill" / "runs" / "once" / "01_ingest.ipynb"
    changed = path.with_stem("changed")
    changed.write_text(path.read_text().replace("c1e5e1737e1903d6", "c1e5e1737e1903dX"))
    with pytest.raises(AssertionError, match="Cell outputs differ"):
        nbval(changed, clone)


def test_accepted_corrections_make_a_version_that_the_next_ingest_keeps(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**clone[1], "ROWMILL_STATE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    project = settings.load(clone[0])
    accepted = {"suspects": 3, "corrections": {"digits/00000": "5"}, "reason": "seen by eye"}
    first = pipeline.step(project, "01_ingest", tmp_path / "first", accepted)
    assert first["dataset_version"] != "c1e5e1737e19" and "likeliest wrong labels" in (tmp_path / "first" / "01_ingest.ipynb").read_text()
    assert pipeline.step(project, "01_ingest", tmp_path / "again", {}) == first


def test_papermill_alone_refuses_an_unknown_parameter(clone: Clone) -> None:
    command = [sys.executable, "-m", "papermill", "notebooks/01_ingest.ipynb", "out.ipynb", "-p", "sauce", "digits"]
    done = subprocess.run(command, cwd=clone[0], env=clone[1], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Notebook 01_ingest has no parameter 'sauce'; use some of source, size, colour, key_column, " in done.stderr


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"trials": "abc"}, "Parameter trials must be of type int, such as 4; found 'abc'"),
        ({"space": 3}, "Parameter space must be of type dict"),
        ({"trials": True}, "Parameter trials must be of type int"),
        ({"minutes": "4"}, "Parameter minutes must be of type float"),
        ({"space": []}, "Parameter space must be of type dict"),
        (
            {"In": ["# Parameters\ntrials = 2\ntrialz = 1\n"]},
            "Notebook 02_search has no parameter 'trialz'; use some of service, dataset_version, network, space",
        ),
    ],
)
def test_check_names_what_is_wrong(values: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ParameterError, match=words):
        pipeline.check("02_search", values)


def test_only_a_space_may_be_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ParameterError, match="Parameter corrections must be of type dict, such as {}; found 'file.json'"):
        pipeline.check("01_ingest", {"corrections": "file.json"})


def test_check_takes_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    given = {"trials": 2, "minutes": 3, "network": "mlp", "space": "space.yaml", "result": "x"}
    # Names of other cells are there when a cell is run again by hand.
    again = {**given, "data": 1, "In": ["", "import x", "# Parameters\ntrials = 2", "data = 1"], "pipeline": pipeline}
    assert pipeline.check("02_search", again) == {
        "trials": 2,
        "minutes": 3,
        "network": "mlp",
        "space": "space.yaml",
    }
