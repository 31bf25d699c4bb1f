"""A clone of what a run needs, with ports of its own."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rowmill import jobs

from tests.conftest import ROOT

PARTS = ("notebooks", "dashboards", "cloud_function", "rowmill.toml", "pipeline.yaml")
SMALL = "trials=1 epochs=12 minutes=2.0 seed=11 check_up=False"

Rowmill = Callable[..., subprocess.CompletedProcess[str]]


def facts(output: str) -> dict[str, str]:
    """Return the facts at the end of a run's output."""
    return dict(re.findall(r"^(Model|Verdict|Function|Dashboard|Try|Stop): (.+)$", output, re.MULTILINE))


def make_clone(folder: Path) -> dict[str, str]:
    """Lay the parts into the folder; return the environment to use them in."""
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    ports = {"ROWMILL_TARGET_PORT": str(jobs.free_port()), "ROWMILL_DASHBOARD_PORT": str(jobs.free_port())}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROWMILL_")}
    return {**kept, **ports, "HOME": str(folder)}


def nbval(path: Path, clone: tuple[Path, dict[str, str]]) -> None:
    """Run a notebook again, comparing the outputs that it marks."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "--nbval-current-env",
        "--nbval-cell-timeout=120",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:bqemulator",
        str(path),
    ]
    done = subprocess.run(command, cwd=clone[0], env=clone[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.fixture(name="clone", scope="module")
def fixture_clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """The clone's folder and environment; all that it leaves running is stopped."""
    folder = tmp_path_factory.mktemp("clone")
    yield folder, make_clone(folder)
    for name in jobs.names(folder / ".rowmill"):
        jobs.stop(folder / ".rowmill", name)


@pytest.fixture(name="rowmill", scope="module")
def fixture_rowmill(clone: tuple[Path, dict[str, str]]) -> Rowmill:
    """Call what `make` calls, in the clone."""
    folder, environment = clone

    def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rowmill", *arguments]
        return subprocess.run(
            command, cwd=folder, env={**environment, **variables}, capture_output=True, text=True, check=False, timeout=280
        )

    return call
