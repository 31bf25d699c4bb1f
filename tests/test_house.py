"""The house's own rules: sizes, imports, and what may be where."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

LIBRARY = sorted((ROOT / "lib" / "rowmill").rglob("*.py"))
CODE = [*LIBRARY, *sorted((ROOT / "cloud_function").rglob("*.py"))]


def functions(path: Path) -> list[ast.FunctionDef]:
    """Return all functions of a file."""
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def body_lines(function: ast.FunctionDef) -> int:
    """Return the count of lines of a function's body, without its docstring, blank lines and comments."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    if not body:
        return 0
    return len(ast.unparse(ast.Module(body, [])).splitlines())


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= (150 if path.name == "main.py" else 300)
    large = [(function.name, body_lines(function)) for function in functions(path) if body_lines(function) > 25]
    assert not large


def test_every_room_says_what_it_is() -> None:
    assert all(ast.get_docstring(ast.parse(path.read_text())) for path in CODE)


def test_only_settings_reads_the_environment() -> None:
    readers = {str(path.relative_to(ROOT)) for path in CODE if re.search(r"environ(\[|\.get|,|\})|getenv", path.read_text())}
    # The function stands alone, and the key of its hashes must not lie in a file beside it.
    assert readers == {"lib/rowmill/settings.py", "cloud_function/lines.py"}


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("keras_tuner", {"oracles", "tuner", "workers"}),
        ("keras", {"backend"}),
        ("tensorflow", {"backend"}),
        ("yaml", {"calendars", "formats", "steps"}),
        ("sqlite3", {"sqlite"}),
        ("pandas_gbq", {"bigquery", "client", "patience", "refusals"}),
        ("google", {"bigquery", "client", "patience", "query", "refusals", "sink"}),
        ("papermill", {"notebook"}),
        ("matplotlib", {"charts", "monitor_charts", "run_charts", "search_charts", "verdict_charts"}),
        (
            "ipywidgets",
            {"change", "labelling", "model_card", "models", "monitor", "parts", "runs", "search", "search_watch", "serving_card", "tryit"},
        ),
        ("anywidget", {"labelling", "pad", "parts", "search_form", "table"}),
        ("PIL", {"images"}),
    ],
)
def test_each_outside_world_has_its_rooms(package: str, rooms: set[str]) -> None:
    pattern = re.compile(rf"^\s*(import|from) {package}\b", re.MULTILINE)
    assert {path.stem for path in LIBRARY if pattern.search(path.read_text())} == rooms


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("rowmill", "numpy|pandas|tensorflow|matplotlib"),
        ("rowmill.pages.models", "tensorflow|keras|matplotlib|sklearn|pandas_gbq"),
        ("rowmill.pages.monitor", "tensorflow|keras|matplotlib|sklearn|scipy.stats|scipy.optimize|papermill|pandas_gbq"),
        ("rowmill.pages.search", "tensorflow|keras|matplotlib|sklearn|papermill|functions_framework|pandas_gbq"),
        ("rowmill.pages.runs", "tensorflow|keras|matplotlib|networkx|sklearn|papermill|pandas_gbq"),
        ("rowmill.pages.tryit", "tensorflow|keras|matplotlib|sklearn|papermill|pandas_gbq"),
        ("rowmill.judging.validation", "tensorflow|keras|matplotlib|pandas_gbq"),
        ("rowmill.training.study", "tensorflow|keras|matplotlib|sklearn|pandas_gbq"),
        ("rowmill.serving.release", "tensorflow|keras|matplotlib|sklearn|pandas_gbq"),
        ("rowmill.__main__", "tensorflow|keras|matplotlib|sklearn|papermill|pandas_gbq"),
    ],
)
def test_nobody_pays_for_what_they_do_not_use(module: str, heavy: str) -> None:
    code = f"import sys, {module}; print([m for m in sys.modules if m in {heavy.split('|')}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_drawing_in_contributing_is_the_contract() -> None:
    drawn = (ROOT / "CONTRIBUTING.md").read_text()
    contract = (ROOT / "pyproject.toml").read_text()
    layers = re.search(r"layers = \[\n(.*?)\n\]", contract, re.DOTALL).group(1)
    picture = "\n".join(re.findall(r'"(.+?)"', layers))
    assert picture in drawn


def test_the_changelog_has_an_unreleased_part() -> None:
    assert "\n## Unreleased\n" in (ROOT / "CHANGELOG.md").read_text()
