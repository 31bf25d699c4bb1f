"""Work of this machine that outlives its caller: one at a time per name, found again, stopped as a whole."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from rowmill import settings
from rowmill.errors import BusyError, HeldError
from rowmill.records import now

_TAIL_BYTES = 64 * 1024
_START_SECONDS = 20.0  # as long as a stop of the job before may take

# A child that is collected while it runs warns; these are meant to run on.
_children: list[subprocess.Popen[bytes]] = []


@contextlib.contextmanager
def lock(state: Path, name: str, *, what: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock `name` of this machine; the kernel frees it when the holder dies.

    Args:
        state: The folder of local state.
        name: The lock's file name.
        what: What the holder does, as a noun phrase: "a run", "a deployment of digits".
        wait: Seconds to wait for it.

    Raises:
        HeldError: Another process holds it.
        BusyError: The disk is full, for it or for what is done under it.
    """
    path, deadline = state / "locks" / name, time.monotonic() + wait
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as file:
            while not try_lock(file):
                if time.monotonic() >= deadline:
                    file.seek(0)
                    holder, step = file.read() or "unknown", "wait until it ends, then try again"
                    raise HeldError(f"{what[0].upper()}{what[1:]} is going on already", found=f"process {holder}", step=step)
                time.sleep(0.01)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            try:
                yield
            finally:
                file.truncate(0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sentence = f"{what[0].upper()}{what[1:]} is not done, for the disk is full: {error.filename or state} cannot be written"
        raise BusyError(sentence, step="make room, then try again") from error


def held(state: Path, name: str) -> bool:
    """Return whether a process holds the lock, as its file tells; to take it, if only for a moment, could refuse another one."""
    path = state / "locks" / name
    try:
        holder = psutil.Process(int(path.read_text("utf-8")))
        # A process that is younger than the entry has the pid of a holder that died.
        return holder.create_time() <= path.stat().st_mtime + 1 and holder.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, psutil.Error):
        return False


def try_lock(file: IO[Any]) -> bool:
    """Take the lock of an open file, if nobody holds it; it is held as long as the file is open."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True)
class Job:
    """Work to be done outside this process.

    Attributes:
        name: Of which one may run at a time.
        what: What it does, as a noun phrase: "a deployment of kx3v9q2m-t001".
        command: The argument list; never a shell string.
        cwd: The folder it starts in.
        variables: Environment variables on top of this process's own.
    """

    name: str
    what: str
    command: Sequence[str]
    cwd: Path
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """The latest job of a name: what it does, who started it and when (UTC), and whether it still runs."""

    name: str
    what: str
    actor: str
    at: datetime.datetime
    is_running: bool


def start_once(state: Path, job: Job) -> Work:
    """Start a detached job unless one of its name runs; of any number who ask at once, in any processes, one succeeds.

    Its log begins anew. `look` and `tail` show it to everybody, before and after its end.

    Args:
        state: The folder of local state.
        job: What to do.

    Raises:
        BusyError: One of that name runs; the sentence says what it does, who started it and when.
    """
    with lock(state, _start_lock(job.name), what=f"the start of {job.what}", wait=_START_SECONDS):
        if (other := look(state, job.name)) and other.is_running:
            raise BusyError(
                f"{other.what[0].upper()}{other.what[1:]} is under way",
                found=f"started by {other.actor} at {other.at.astimezone():%H:%M:%S}",
                step="wait until it ends, then try again",
            )
        log_path(state, job.name).unlink(missing_ok=True)
        work = Work(job.name, job.what, settings.actor(), now(), True)
        _launch(state, job, {"what": work.what, "actor": work.actor, "at": work.at.isoformat()})
        return work


def look(state: Path, name: str) -> Work | None:
    """Return the latest job that `start_once` started under this name; None where there was none, or `stop` ended it."""
    entry = _entry(state, name)
    try:
        at = datetime.datetime.fromisoformat(entry["at"])
        return Work(name, entry["what"], entry["actor"], at, find(state, name) is not None)
    except (KeyError, TypeError, ValueError):
        return None


def is_changing(state: Path, name: str) -> bool:
    """Return whether the job is being started or stopped at this moment; a stop ends processes one after the other."""
    return held(state, _start_lock(name))


def tail(state: Path, name: str) -> list[str]:
    """Return the last lines that the job wrote, of 64 kB at most; a line that was written over is as it was last."""
    try:
        with log_path(state, name).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.rstrip().split("\n")] if text.strip() else []


def start(state: Path, name: str, command: Sequence[str], cwd: Path, variables: Mapping[str, str]) -> psutil.Process:
    """Start a detached process that `find` and `stop` know by `name`; its output goes to the end of `log_path`. See `Job`."""
    return _launch(state, Job(name, name, command, cwd, variables), {})


def _launch(state: Path, job: Job, told: Mapping[str, str]) -> psutil.Process:
    log = log_path(state, job.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(  # pylint: disable=consider-using-with  # it outlives this process on purpose
            job.command,
            cwd=job.cwd,
            env=settings.environment(job.variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _children.append(child)
    process = psutil.Process(child.pid)
    # A process that was born a moment ago has no command yet, by which it is found.
    with contextlib.suppress(psutil.Error):
        while not process.cmdline() and child.poll() is None:
            time.sleep(0.001)
    entry = _entry_path(state, job.name)
    new = entry.with_suffix(".new")
    try:
        new.write_text(json.dumps({"pid": process.pid, "command": list(job.command), **told}), "utf-8")
        new.replace(entry)
    except OSError:
        child.kill()  # nobody would find it
        raise
    return process


def find(state: Path, name: str) -> psutil.Process | None:
    """Return the running process of the job, or None; a pid that now belongs to another program is not it."""
    entry = _entry(state, name)
    try:
        process = psutil.Process(entry["pid"])
        # By its command, not by its start time: that moves when the machine's clock is set.
        return process if process.cmdline() == entry["command"] else None
    except (psutil.Error, ValueError, TypeError, KeyError):
        return None


def stop(state: Path, name: str) -> bool:
    """Stop the job and its children, gently first; return whether it was running.

    A job that one of its children started is a job of its own and runs on.
    """
    # What starts meanwhile would lose its entry.
    with lock(state, _start_lock(name), what=f"the stop of {name}", wait=30.0):
        if (process := find(state, name)) is not None:
            family = _family(process, {other.pid for member in names(state) if (other := find(state, member))})
            # The job itself may put its children in order; what it leaves behind is asked, then killed.
            _end([process], psutil.Process.terminate, seconds=10)
            _end(family, psutil.Process.terminate, seconds=3)
            _end(family, psutil.Process.kill, seconds=3)
        _entry_path(state, name).unlink(missing_ok=True)
    for child in [child for child in _children if child.poll() is not None]:
        with contextlib.suppress(ValueError):  # another thread was quicker
            _children.remove(child)
    return process is not None


def _end(processes: Sequence[psutil.Process], ask: Callable[[psutil.Process], None], seconds: float) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            ask(process)
    psutil.wait_procs(processes, timeout=seconds)


def _family(process: psutil.Process, others: set[int]) -> list[psutil.Process]:
    """Return the process and what descends from it, without those others and what descends from them."""
    try:
        children = [child for child in process.children() if child.pid not in others]
    except psutil.NoSuchProcess:  # it ended by itself meanwhile
        return []
    return [process, *(member for child in children for member in _family(child, others))]


def names(state: Path) -> list[str]:
    """Return the names of all jobs on record, sorted."""
    return sorted(path.stem for path in (state / "jobs").glob("*.json"))


def log_path(state: Path, name: str) -> Path:
    """Return where the job's output goes."""
    return state / "jobs" / f"{name}.log"


def last_line(state: Path, name: str) -> str:
    """Return the last line that the job wrote, or an empty text."""
    return (tail(state, name) or [""])[-1]


def listening(port: int) -> bool:
    """Return whether something accepts connections on 127.0.0.1:`port`."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_lock(name: str) -> str:
    return f"job-{name}"


def _entry_path(state: Path, name: str) -> Path:
    return state / "jobs" / f"{name}.json"


def _entry(state: Path, name: str) -> dict[str, Any]:
    try:
        entry = json.loads(_entry_path(state, name).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return entry if isinstance(entry, dict) else {}
