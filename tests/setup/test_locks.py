"""The locks, environment.yml and what git keeps: every way of installing rowmill gives the same versions."""

import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import distributions, metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ["requirements.lock", "requirements-dev.lock", "cloud_function/requirements.txt"]


def pins(path: str) -> set[tuple[str, str]]:
    """Return each name and version of a file of pinned requirements; a name may have one version per Python."""
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / path).read_text(), flags=re.MULTILINE)
    return {(canonicalize_name(name), version) for name, version in found}


@pytest.fixture(name="conda")
def fixture_conda(clone_to: Callable[[Path], Path]) -> Iterator[Path]:
    """A fresh clone with a fresh environment in env/; both go at the end, for they are large."""
    with tempfile.TemporaryDirectory() as folder:
        clone = clone_to(Path(folder))
        subprocess.run([sys.executable, "-m", "venv", clone / "env"], check=True)
        yield clone


@pytest.mark.timeout(1800)
def test_environment_yml_installs_by_plain_pip(conda: Path) -> None:
    """The pip section installs the way conda does it, the package follows as its own step, and both can be imported."""
    specs = next(part["pip"] for part in yaml.safe_load((conda / "environment.yml").read_text())["dependencies"][2:])
    (conda / "condaenv.requirements.txt").write_text("\n".join(specs))
    install = ["-m", "pip", "install", "--quiet", "--no-compile"]
    for arguments in (
        [*install, "-U", "-r", "condaenv.requirements.txt", "--exists-action=b"],
        [*install, "--no-deps", "-e", "."],
        ["-m", "pip", "check"],
        ["-c", "import rowmill, tensorflow, ai_edge_litert.interpreter, papermill, voila"],
    ):
        done = subprocess.run([conda / "env/bin/python", *arguments], cwd=conda, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_environment_yml_pins_nothing_twice() -> None:
    """environment.yml repeats the Python of pyproject.toml and leaves all versions to the lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python, *others = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert python == f"python {project['requires-python']}"
    assert others == ["pip", {"pip": ["-r requirements.lock"]}]


def test_no_file_holds_a_registry_address(kept: list[str]) -> None:
    """Where packages come from is each machine's own choice."""
    address = re.compile(rb"pypi\.(?:org|python)|pythonhosted\.(?:org)|index-url[= ]+\S+://")
    assert [path for path in kept if address.search((ROOT / path).read_bytes())] == []


def test_git_keeps_every_room(kept: list[str]) -> None:
    """No module of lib/ is hidden from git."""
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "lib").rglob("*.py")} <= set(kept)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_requirement_has_a_hash(lock: str) -> None:
    """Each entry of a lock is one version, with hashes."""
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
    whole = re.compile(r"[\w.-]+==[^\s;]+( ; [^\\]+)? \\(\n    --hash=sha256:[0-9a-f]{64}( \\)?)+")
    assert [entry for entry in entries if not whole.fullmatch(entry)] == []


def test_locked_packages_admit_this_python() -> None:
    """No locked package refuses this Python: pip heeds that, and uv looks at the lower bound only."""
    installed = {canonicalize_name(found.name) for found in distributions()}
    for name in {name for name, _ in pins("requirements-dev.lock")} & installed:
        assert platform.python_version() in SpecifierSet(metadata(name).json.get("requires_python", "")), name


def test_lock_meets_the_dependencies() -> None:
    """Every dependency pyproject.toml names is in the lock, in versions it allows."""
    locked = pins("requirements.lock")
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        wanted = Requirement(line)
        versions = [version for name, version in locked if name == canonicalize_name(wanted.name)]
        assert versions and all(version in wanted.specifier for version in versions), line


def test_tools_leave_the_run_time_versions() -> None:
    """What is tested is what runs: the lock with the tools holds the run-time lock."""
    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_function_runs_on_locked_versions() -> None:
    """The function's requirements are the lock's versions, and TensorFlow is none of them."""
    function = pins("cloud_function/requirements.txt")
    assert function
    assert function <= pins("requirements.lock")
    assert not [name for name, _ in function if name.startswith("tensorflow")]
