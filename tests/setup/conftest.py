"""What the tests of the set-up share: the files git keeps, and fresh clones of them."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="kept", scope="session")
def fixture_kept() -> list[str]:
    """The paths git keeps, or would keep once they are added."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    paths = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [path for path in paths if (ROOT / path).is_file()]


@pytest.fixture(name="clone_to", scope="session")
def fixture_clone_to(kept: list[str]) -> Callable[[Path], Path]:
    """A function that lays the kept files into a folder, as a fresh clone has them, and returns it."""

    def clone_to(folder: Path) -> Path:
        for path in kept:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, folder / path)
        return folder

    return clone_to
