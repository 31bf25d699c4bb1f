"""Jobs outlive their caller, are found again, and are stopped as a whole; locks end with their holder."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rowmill import jobs, settings
from rowmill.errors import BusyError

SLEEP = [sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"]


@pytest.fixture(autouse=True)
def _stopped(tmp_path: Path) -> Iterator[None]:
    """Stop whatever a test left running, and let its ended processes go."""
    yield
    for name in jobs.names(tmp_path) or ["none"]:
        jobs.stop(tmp_path, name)


def hold(state: Path, ready) -> None:
    """Hold a lock for ever, as another process."""
    with jobs.lock(state, "thing", what="a thing"):
        ready.set()
        time.sleep(600)


def test_a_job_is_found_and_stopped_with_its_children(tmp_path: Path) -> None:
    process = jobs.start(tmp_path, "sleeper", SLEEP, tmp_path, {})
    deadline = time.monotonic() + 10
    while not process.children() and time.monotonic() < deadline:
        time.sleep(0.02)
    (child,) = process.children()
    assert jobs.find(tmp_path, "sleeper") == process and jobs.names(tmp_path) == ["sleeper"]
    assert jobs.stop(tmp_path, "sleeper")
    assert not child.is_running() and jobs.find(tmp_path, "sleeper") is None and jobs.names(tmp_path) == []
    assert not jobs.stop(tmp_path, "sleeper")


def test_a_job_that_a_job_started_runs_on(tmp_path: Path) -> None:
    start = f"from pathlib import Path; from rowmill import jobs; state = Path({str(tmp_path)!r}); "
    inner = start + f"jobs.start(state, 'inner', {SLEEP!r}, state, {{}}); import time; time.sleep(600)"
    outer = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"]
    jobs.start(tmp_path, "outer", outer, tmp_path, {})
    deadline = time.monotonic() + 20
    while jobs.find(tmp_path, "inner") is None and time.monotonic() < deadline:
        time.sleep(0.05)
    started = time.monotonic()
    assert jobs.stop(tmp_path, "outer") and time.monotonic() - started < 8
    assert jobs.find(tmp_path, "inner") is not None and jobs.stop(tmp_path, "inner")


def test_a_job_is_stopped_though_its_children_come_and_go(tmp_path: Path) -> None:
    loop = "while :; do /bin/true; /bin/true & done"
    for _ in range(2):
        jobs.start(tmp_path, "busy", ["/bin/sh", "-c", f"sh -c '{loop}' & sh -c '{loop}'"], tmp_path, {})
        time.sleep(0.1)
        assert jobs.stop(tmp_path, "busy")


def test_a_job_outlives_its_caller(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from rowmill import jobs; jobs.start(Path({str(tmp_path)!r}), 'sleeper', {SLEEP!r}, Path('/'), {{}})"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert jobs.find(tmp_path, "sleeper") is not None
    assert jobs.stop(tmp_path, "sleeper")


def test_a_pid_that_belongs_to_another_program_is_left_alone(tmp_path: Path) -> None:
    jobs.start(tmp_path, "short", [sys.executable, "-c", ""], tmp_path, {}).wait()
    entry = tmp_path / "jobs" / "short.json"
    entry.write_text(entry.read_text().replace(f'"pid": {json.loads(entry.read_text())["pid"]}', f'"pid": {os.getpid()}'))
    assert json.loads(entry.read_text())["pid"] == psutil.Process().pid
    assert jobs.find(tmp_path, "short") is None and not jobs.stop(tmp_path, "short")


def test_what_a_job_says_is_kept(tmp_path: Path) -> None:
    jobs.start(
        tmp_path, "talker", [sys.executable, "-c", "import os; print('a'); print(os.environ['WORD'])"], tmp_path, {"WORD": "last"}
    ).wait()
    assert jobs.last_line(tmp_path, "talker") == "last" and jobs.last_line(tmp_path, "nobody") == ""
    jobs.stop(tmp_path, "talker")


def test_of_many_who_start_a_job_at_once_one_succeeds_and_the_others_are_told_who(tmp_path: Path) -> None:
    code = (
        f"import sys, time; from pathlib import Path; from rowmill import jobs; from rowmill.errors import BusyError; state = Path({str(tmp_path)!r})\n"
        f"job = jobs.Job('sleeper', 'a long sleep', {SLEEP!r}, state)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n    print(jobs.start_once(state, job).is_running)\nexcept BusyError as error:\n    print(error)\n"
    )
    pipe = subprocess.PIPE
    askers = [subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) for _ in range(5)]
    assert all(asker.stdout.readline() == "ready\n" for asker in askers)
    for asker in askers:
        asker.stdin.write("go\n")
        asker.stdin.flush()
    said = sorted(asker.communicate()[0].strip() for asker in askers)
    assert said[-1] == "True" and len(set(said[:-1])) == 1
    assert said[0].startswith(f"A long sleep is under way; found started by {settings.actor()} at ")
    work = jobs.look(tmp_path, "sleeper")
    assert work.is_running and (work.what, work.actor) == ("a long sleep", settings.actor())
    assert jobs.stop(tmp_path, "sleeper") and jobs.look(tmp_path, "sleeper") is None


def test_a_job_that_ended_is_told_of_and_may_start_again(tmp_path: Path) -> None:
    says = jobs.Job("talker", "some talk", [sys.executable, "-c", r"print('50 %\r100 %'); print('<b>done')"], tmp_path)
    for _ in range(2):
        assert jobs.start_once(tmp_path, says).is_running
        while jobs.look(tmp_path, "talker").is_running:
            time.sleep(0.01)
        assert jobs.tail(tmp_path, "talker") == ["100 %", "<b>done"]  # this job's alone
    assert jobs.look(tmp_path, "nobody") is None and jobs.tail(tmp_path, "nobody") == []
    jobs.stop(tmp_path, "talker")


def test_a_job_that_starts_while_the_one_before_is_being_stopped_stays_known(tmp_path: Path) -> None:
    # Its child ends only when it is killed, and the stop waits for that.
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    parent = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stubborn!r}])"]
    jobs.start_once(tmp_path, jobs.Job("sleeper", "the first sleep", parent, tmp_path))
    while not jobs.tail(tmp_path, "sleeper"):
        time.sleep(0.01)
    first = jobs.find(tmp_path, "sleeper")
    stopping = threading.Thread(target=jobs.stop, args=(tmp_path, "sleeper"))
    stopping.start()
    first.wait(10)
    assert stopping.is_alive() and jobs.is_changing(tmp_path, "sleeper")
    jobs.start_once(tmp_path, jobs.Job("sleeper", "the second sleep", SLEEP, tmp_path))
    stopping.join()
    assert not jobs.is_changing(tmp_path, "sleeper")
    assert jobs.look(tmp_path, "sleeper").what == "the second sleep" and jobs.find(tmp_path, "sleeper") is not None
    jobs.stop(tmp_path, "sleeper")


def test_whether_a_lock_is_held_is_known_without_taking_it(tmp_path: Path) -> None:
    assert not jobs.held(tmp_path, "search")
    with jobs.lock(tmp_path, "search", what="a search"):
        assert jobs.held(tmp_path, "search")
    assert not jobs.held(tmp_path, "search")  # though this process lives on
    path = tmp_path / "locks" / "search"
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    path.write_text(str(sleeper.pid))
    assert jobs.held(tmp_path, "search")
    os.utime(path, (0, 0))
    assert not jobs.held(tmp_path, "search")  # a younger process has the pid of a holder that died
    path.touch()
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not jobs.held(tmp_path, "search")  # it is a zombie now
    sleeper.wait()
    assert not jobs.held(tmp_path, "search")


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(20)
    with (
        pytest.raises(BusyError, match=f"A thing is going on already; found process {holder.pid}"),
        jobs.lock(tmp_path, "thing", what="a thing"),
    ):
        pass
    holder.kill()
    holder.join()
    with jobs.lock(tmp_path, "thing", what="a thing", wait=5):
        pass
