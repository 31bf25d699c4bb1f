"""The set-up: what bootstrap.sh, make and .ci/run promise.

The programs of the machine are replaced by small stubs that note their calls.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = "awk bash cat cp dirname env git grep ldd make mkdir rm sh tail touch uname"
NOTE_CALL = 'printf "%s|" "${0##*/}" "$@" >>"$CALLS"; echo >>"$CALLS"'
FAIL_ON_WISH = 'case "$*" in $FAILS) echo "no luck"; exit 1 ;; esac'
PYTHON = f"""
case "$*" in -c*platform*) echo "${{VERSION-CPython 3.12.4}}"; exit ;; esac
{NOTE_CALL}
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *version_info*) echo 3.12 ;;
esac
{FAIL_ON_WISH}
case "$*" in "-m pip install uv") cp "$STUBS/uv-of-pip" .venv/bin/uv ;; esac
"""
UV = f"""
[ "$1" != --version ] || exit 0
{NOTE_CALL}
{FAIL_ON_WISH}
case "$*" in venv*) mkdir -p .venv/bin; cp "$STUBS/python-of-uv" .venv/bin/python ;; esac
"""
SUDO = 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"'


class Machine:
    """A fresh clone on a machine that has a few tools, and as much of Python as a test stubs."""

    def __init__(self, folder: Path, clone: Path) -> None:
        """Lay out the folder that is all of PATH."""
        self.clone = clone
        self.stubs = folder / "stubs"
        self.stubs.mkdir()
        for tool in filter(shutil.which, TOOLS.split()):
            (self.stubs / tool).symlink_to(str(shutil.which(tool)))
        self.has("uv-of-pip", UV)
        self.has("python-of-uv", PYTHON)
        self.notes = folder / "calls"

    def has(self, name: str, script: str = "exit 0") -> None:
        """Put a stub on PATH, in the place of the tool of this name."""
        (self.stubs / name).unlink(missing_ok=True)
        (self.stubs / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.stubs / name).chmod(0o755)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone, with nothing of this machine's environment."""
        known = {"PATH": str(self.stubs), "HOME": str(self.clone), "STUBS": str(self.stubs), "CALLS": str(self.notes)}
        known |= {"FAILS": "", **environment}
        return subprocess.run(command, cwd=self.clone, env=known, capture_output=True, text=True, check=False)

    def calls(self) -> list[str]:
        """Return the stubs' calls since the last time, as program|argument|argument|."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        self.notes.unlink(missing_ok=True)
        return lines


@pytest.fixture(name="machine")
def fixture_machine(tmp_path: Path, clone_to: Callable[[Path], Path]) -> Machine:
    """A machine without any Python."""
    return Machine(tmp_path, clone_to(tmp_path / "a clone"))


def assert_only_sentence(machine: Machine, run: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check that a set-up ended with one sentence that holds these words, and left no .venv."""
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.count("\n") == 1
    for word in words:
        assert word in run.stderr
    assert not (machine.clone / ".venv").exists()


@pytest.mark.parametrize("version", ["CPython 3.10.4", "CPython 3.14.0", "PyPy 3.11.13"])
def test_unsuitable_python_is_named(machine: Machine, version: str) -> None:
    """A Python that will not do is named, with the command that brings one."""
    machine.has("python3", PYTHON)
    run = machine.run("sh", "bootstrap.sh", "run", VERSION=version)
    assert_only_sentence(machine, run, "CPython 3.11, 3.12 or 3.13", f"python3 ({version})", "`curl ")


def test_a_second_set_up_at_once_waits_its_turn(machine: Machine) -> None:
    """A running set-up is named; one that died does not stand in the way; a turn is given back at the end."""
    machine.has("uv", UV)
    machine.has("python3", PYTHON)
    turn = machine.clone / ".rowmill" / "setup.turn"
    turn.mkdir(parents=True)
    (turn / "pid").write_text(str(os.getpid()))
    assert_only_sentence(machine, machine.run("sh", "bootstrap.sh", "run"), f"Another set-up is going on here, process {os.getpid()}")
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    (turn / "pid").write_text(str(gone.pid))
    assert machine.run("sh", "bootstrap.sh", "run").returncode == 0 and not turn.exists()


def test_no_python_at_all(machine: Machine) -> None:
    """A machine without Python is told so."""
    assert_only_sentence(machine, machine.run("sh", "bootstrap.sh", "run"), "found no Python at all", "`curl ")


def test_uv_that_brings_no_python(machine: Machine) -> None:
    """Where uv finds and fetches none, the sentence names uv's own command."""
    machine.has("uv", UV)
    run = machine.run("sh", "bootstrap.sh", "run", FAILS="venv*")
    assert_only_sentence(machine, run, "found no Python at all", "`uv python install 3.13`")


@pytest.mark.parametrize(("version", "words"), [("PyPy 3.11.13", "is PyPy 3.11.13"), ("", "is no Python that runs")])
def test_wrong_rowmill_python(machine: Machine, version: str, words: str) -> None:
    """ROWMILL_PYTHON is taken at its word: when it will not do, no other Python takes its place."""
    machine.has("python3", PYTHON)
    machine.has("mine", f'VERSION="{version}"{PYTHON}')
    run = machine.run("sh", "bootstrap.sh", "run", ROWMILL_PYTHON="mine")
    assert_only_sentence(machine, run, "ROWMILL_PYTHON=mine", words, "`unset ROWMILL_PYTHON`")


def test_missing_venv_module(machine: Machine) -> None:
    """A Python without ensurepip leads to the package that brings it."""
    machine.has("python3.12", PYTHON)
    run = machine.run("sh", "bootstrap.sh", "run", FAILS="*venv*")
    assert_only_sentence(machine, run, "`sudo apt install python3.12-venv`")


@pytest.mark.parametrize("kind", ["Darwin x86_64", "Linux armv7l", "MINGW64_NT-10.0 x86_64"])
def test_unsupported_platform(machine: Machine, kind: str) -> None:
    """A platform TensorFlow is not built for is named before anything is made."""
    system, chip = kind.split()
    machine.has("uname", f"case $1 in -s) echo {system} ;; -m) echo {chip} ;; esac")
    run = machine.run("sh", "bootstrap.sh", "run")
    assert_only_sentence(machine, run, f"not for {kind}:", "`docker run ")


def test_musl_is_unsupported(machine: Machine) -> None:
    """Linux with musl, such as Alpine, is no supported platform."""
    machine.has("ldd", 'echo "musl libc (x86_64)" >&2; exit 1')
    assert_only_sentence(machine, machine.run("sh", "bootstrap.sh", "run"), "with musl", "`docker run ")


def test_set_up_by_uv(machine: Machine) -> None:
    """With uv on PATH, uv makes the environment, by the Python it finds or fetches, and compiles what it installs."""
    machine.has("uv", UV)
    assert machine.run("make", "run").returncode == 0
    into = "uv|pip|install|--python|.venv/bin/python|--compile-bytecode|"
    assert machine.calls() == [
        "uv|venv|--python|cpython>=3.11,<3.14|.venv|",
        f"{into}-r|requirements.lock|",
        f"{into}--no-deps|-e|.|",
        "python|-m|rowmill|run|",
    ]


def test_set_up_by_uv_of_pip(machine: Machine) -> None:
    """Without uv on PATH, pip brings it into .venv; a suitable Python is found behind an unsuitable one."""
    machine.has("python3.13", "exit 127")
    machine.has("python3.12", PYTHON)
    assert machine.run("sh", "bootstrap.sh", "dev").returncode == 0
    calls = machine.calls()
    assert calls[:2] == ["python3.12|-m|venv|.venv|", "python|-m|pip|install|uv|"]
    assert [call.split("|")[0] for call in calls[2:]] == ["uv", "uv"]
    assert "requirements-dev.lock" in calls[2]


def test_set_up_by_pip_alone(machine: Machine) -> None:
    """Where pip gets no uv, pip installs the lock itself."""
    machine.has("python3", PYTHON)
    assert machine.run("sh", "bootstrap.sh", "run", FAILS="-m pip install uv").returncode == 0
    install = "python|-m|pip|install|"
    assert machine.calls()[2:] == [f"{install}-r|requirements.lock|", f"{install}--no-deps|-e|.|"]


def test_broken_set_up_is_mended(machine: Machine) -> None:
    """A set-up that broke half-way points at its log, and the next one starts anew."""
    machine.has("uv", UV)
    broken = machine.run("make", "run", FAILS="*requirements.lock")
    assert broken.returncode != 0
    assert ".rowmill/setup.log says why" in broken.stderr
    assert (machine.clone / ".rowmill/setup.log").read_text() == "no luck\n"
    machine.calls()
    assert machine.run("make", "run").returncode == 0
    assert machine.calls()[0].startswith("uv|venv|")


@pytest.mark.parametrize("version", ["", "CPython 3.10.4"])
def test_unfit_venv_is_remade(machine: Machine, version: str) -> None:
    """A .venv whose Python does not run, or is not supported, is made anew."""
    machine.has("uv", UV)
    machine.has("old", f'VERSION="{version}"{PYTHON}')
    (machine.clone / ".venv/bin").mkdir(parents=True)
    shutil.copy(machine.stubs / "old", machine.clone / ".venv/bin/python")
    assert machine.run("make", "run").returncode == 0
    assert machine.calls()[0].startswith("uv|venv|")


def test_second_run_installs_nothing(machine: Machine) -> None:
    """One set-up lasts, and that for the tests serves every target, until the lock changes or the Python is gone."""
    machine.has("uv", UV)
    machine.run("make", "test")
    machine.calls()
    machine.run("make", "run")
    assert machine.calls() == ["python|-m|rowmill|run|"]
    (machine.clone / ".venv/bin/python").unlink()
    machine.run("make", "run")
    assert machine.calls()[0].startswith("uv|venv|")


@pytest.mark.parametrize("text", ["my rows.csv", """it's "so" `touch x` $(touch x) $x \\n""", "$(shell touch x)"])
def test_run_passes_values_as_they_are(machine: Machine, text: str) -> None:
    """SOURCE and PARAMETERS reach rowmill whole, whatever is in them."""
    machine.has("uv", UV)
    assert machine.run("make", "run", f"SOURCE={text}", PARAMETERS=text).returncode == 0
    assert machine.calls()[-1] == f"python|-m|rowmill|run|--source|{text}|--parameters|{text}|"
    assert not (machine.clone / "x").exists()


def test_help_names_every_target(machine: Machine) -> None:
    """`make` alone prints every target that a person may call."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    helped = machine.run("make").stdout
    assert re.findall(r"^make ([a-z]+) +\S", helped, flags=re.MULTILINE) == targets
    assert helped == machine.run("make", "help").stdout


@pytest.mark.parametrize(("name", "words"), [("", "make bench NAME="), ("no such", "There is no benchmarks/no such.py")])
def test_bench_asks_for_a_benchmark(machine: Machine, name: str, words: str) -> None:
    """`make bench` without the name of a benchmark says what it needs, and sets nothing up."""
    run = machine.run("make", "bench", f"NAME={name}")
    assert run.returncode != 0
    assert words in run.stderr
    assert not (machine.clone / ".venv").exists()


def test_stop_and_clean_need_no_set_up(machine: Machine) -> None:
    """`make stop` and `make clean` say so where nothing was ever set up."""
    for target in ("stop", "clean"):
        run = machine.run("make", target)
        assert (run.returncode, run.stdout) == (0, "Nothing to stop: rowmill is not set up here.\n")


def test_clean_stops_first_and_keeps_the_set_up(machine: Machine) -> None:
    """`make clean` stops what runs, then removes .rowmill/ and nothing else."""
    machine.has("uv", UV)
    machine.run("make", "run")
    machine.calls()
    assert machine.run("make", "clean").returncode == 0
    assert machine.calls() == ["python|-m|rowmill|stop|"]
    assert not (machine.clone / ".rowmill").exists()
    assert (machine.clone / ".venv/run.stamp").exists()


def test_lock_needs_uv(machine: Machine) -> None:
    """`make lock` says that it needs uv, and compiles all locks with it."""
    assert "needs uv" in machine.run("make", "lock").stderr
    machine.has("uv", UV)
    assert machine.run("make", "lock").returncode == 0
    written = [call.split("|")[-2] for call in machine.calls()]
    assert written == ["requirements.lock", "requirements-dev.lock", "cloud_function/requirements.txt"]


@pytest.mark.parametrize("code", [0, 2])
def test_ci_run_ends_as_make_does(machine: Machine, code: int) -> None:
    """.ci/run checks and tests with the MNIST beside the clone, and its end is make's end."""
    (machine.clone.parent / "shared/data/mnist").mkdir(parents=True)
    machine.has("make", f'{NOTE_CALL}; echo "$ROWMILL_MNIST"; exit {code}')
    run = machine.run(".ci/run")
    assert (run.returncode, run.stdout) == (code, f"{machine.clone.parent}/shared/data/mnist\n")
    assert machine.calls() == ["make|--keep-going|check|test|"]


def test_ci_run_installs_what_is_missing(machine: Machine) -> None:
    """With CI=true .ci/run fetches what the machine lacks, and goes on where one thing cannot be had."""
    machine.has("make")
    machine.has("curl")
    machine.has("sudo", SUDO)
    machine.has("apt-get", f"{NOTE_CALL}; {FAIL_ON_WISH}")
    run = machine.run(".ci/run", CI="true", FAILS="*chromium")
    assert (run.returncode, run.stderr) == (0, "chromium could not be installed.\n")
    calls = machine.calls()
    assert calls[0] == "apt-get|update|-qq|"
    assert [call.split("|")[-2] for call in calls[1:]] == ["python3-venv", "chromium", "fonts-dejavu-core"]
