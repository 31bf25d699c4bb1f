"""Several processes, here or on other machines, train the trials of one search by Keras Tuner's own chief and workers.

A worker is `python -m rowmill.training.workers FOLDER` with `KERASTUNER_ORACLE_IP`, `KERASTUNER_ORACLE_PORT` and a
`KERASTUNER_TUNER_ID` of its own; FOLDER is the search's, on a disk that all see. It ends when the chief is silent.
"""

import collections
import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from rowmill import settings
from rowmill.data.dataset import Dataset, Examples
from rowmill.errors import ParameterError, SearchError
from rowmill.training import oracles, study, trainer
from rowmill.training.plan import Plan
from rowmill.training.study import Study
from rowmill.training.tuner import Tuner, failed, job_of

_LOOP_SECONDS, _BEAT_SECONDS, _SILENCE_SECONDS, _GRACE_SECONDS = 0.2, 2.0, 30.0, 10.0
_STILLBORN = 3
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9


def run(opened: Study, plan: Plan, data: Dataset, oracle: Any, watch: trainer.Watch) -> None:
    """Let workers train until the oracle has no more trials.

    Args:
        opened: The search; its lock is held.
        plan: Says how many workers are started here, and where others may come from.
        data: What they train on.
        oracle: Hands out the trials.
        watch: Called with each running trial when it has ended another epoch.

    Raises:
        SearchError: Workers die before they train.
    """
    (opened.folder / "over").unlink(missing_ok=True)
    _lay_out(data, opened.folder / "data")
    with _serving(oracle, plan.address) as port:
        chief = _Chief(opened, oracle, plan, plan.address.partition(":")[0] or "127.0.0.1", port)
        try:
            chief.supervise(watch)
        finally:
            chief.dismiss()


@dataclass
class _Chief:
    """Starts workers, and gives their trials to others when they die."""

    study: Study
    oracle: Any
    plan: Plan
    host: str
    port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    losses: collections.Counter[str] = field(default_factory=collections.Counter)
    beats: dict[str, tuple[int, float]] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)

    def supervise(self, watch: trainer.Watch) -> None:
        """Return when all trials have ended."""
        for place in range(self.plan.workers):
            self._start(f"w{place + 1}")
        while self._at_work():
            time.sleep(_LOOP_SECONDS)
            for error in self.oracle.errors:
                raise error
            self._bury()
            self._end_the_late()
            self._show(watch)
            if any(self.plan.goal.reached(t.score) for t in self.study.trials() if t.state == "completed"):
                study.write(self.study.folder / "over", b"")

    def dismiss(self) -> None:
        """End the workers of this machine."""
        for process in self.processes.values():
            process.kill()
            process.wait()

    def _at_work(self) -> bool:
        """Return whether a trial runs or may still begin."""
        if self.oracle.ongoing_trials or any(process.poll() is None for process in self.processes.values()):
            return True
        # Workers from elsewhere may come until the budget is spent.
        return bool(self.plan.address) and not self.oracle.over()

    def _start(self, worker: str) -> None:
        log = self.study.folder / f"{worker}.log"
        variables = {
            "KERASTUNER_ORACLE_IP": self.host,
            "KERASTUNER_ORACLE_PORT": str(self.port),
            "KERASTUNER_TUNER_ID": worker,
            "OMP_NUM_THREADS": "1",
            # gRPC would ask a proxy even for this machine.
            "no_grpc_proxy": self.host,
        }
        command = [sys.executable, "-m", "rowmill.training.workers", str(self.study.folder.resolve())]
        with log.open("ab") as output:
            self.processes[worker] = subprocess.Popen(  # pylint: disable=consider-using-with  # `dismiss` ends it
                command, env=settings.environment(variables), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def _bury(self) -> None:
        """Give the trials of dead and silent workers back, and start anew those of this machine."""
        for worker, process in list(self.processes.items()):
            code = process.poll()
            if code:
                self._lose(worker, f"signal {-code}, perhaps for lack of memory" if code < 0 else f"exit code {code}")
                self._start(worker)
        for worker in set(self.oracle.ongoing_trials) - set(self.processes):
            if self._is_silent(worker):
                self._lose(worker, "no word for half a minute")

    def _lose(self, worker: str, how: str) -> None:
        """Queue a dead worker's trial again, or let it fail when that has happened before."""
        suggestion = self.oracle.ongoing_trials.get(worker)
        self.losses[suggestion.trial_id if suggestion else worker] += 1
        if suggestion is None:
            if self.losses[worker] >= _STILLBORN:
                raise SearchError(
                    f"Worker {worker} ends before it trains, with {how}",
                    found=_last_line(self.study.folder / f"{worker}.log"),
                    step="mend that",
                )
        elif self.losses[suggestion.trial_id] == 1:
            self.oracle.requeue(worker)
        else:
            self._fail(suggestion, f"its process ended twice, with {how}")

    def _end_the_late(self) -> None:
        """End workers of this machine that sit on a trial for too long: one that hangs in a step never looks at its own clock."""
        self.since = {id_: self.since.get(id_, time.monotonic()) for id_ in (s.trial_id for s in self.oracle.ongoing_trials.values())}
        limit = self.plan.trial_minutes * 60
        for worker, suggestion in list(self.oracle.ongoing_trials.items()):
            if limit and worker in self.processes and time.monotonic() - self.since[suggestion.trial_id] > limit + _GRACE_SECONDS:
                self.processes[worker].kill()
                self.processes[worker].wait()
                self._fail(suggestion, f"it took longer than {self.plan.trial_minutes:g} minutes, and its process answered no more")
                self._start(worker)

    def _fail(self, suggestion: Any, why: str) -> None:
        trial = self.study.trial(self.study.model_id(int(suggestion.trial_id) + 1))
        self.study.put(failed(trial, why))
        suggestion.status = "FAILED"
        self.oracle.end_trial(suggestion)

    def _is_silent(self, worker: str) -> bool:
        """Return whether a worker of another machine has not shown itself for a while; clocks may differ, so only change counts."""
        path = self.study.folder / "alive" / worker
        beat = path.stat().st_mtime_ns if path.exists() else 0
        if self.beats.get(worker, (-1, 0.0))[0] != beat:
            self.beats[worker] = (beat, time.monotonic())
        return time.monotonic() - self.beats[worker][1] > _SILENCE_SECONDS

    def _show(self, watch: trainer.Watch) -> None:
        for trial in self.study.trials():
            if trial.state == "running" and len(trial.curve) > self.epochs.get(trial.model_id, 0):
                self.epochs[trial.model_id] = len(trial.curve)
                watch(trial)


@contextlib.contextmanager
def _serving(oracle: Any, address: str) -> Iterator[int]:
    """Answer workers on an address, `host:port`; on 127.0.0.1 and a free port when it is empty. Yields the port."""
    oracle.errors = []
    oracle.begun, oracle.ended = _kept(oracle, oracle.begun), _kept(oracle, oracle.ended)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(oracle), server)
    try:
        port = server.add_insecure_port(address or "127.0.0.1:0")
    except RuntimeError as error:
        raise ParameterError(
            f"The search cannot listen on {address}", step="give host:port of this machine, with a port that nothing listens on"
        ) from error
    server.start()
    try:
        yield port
    finally:
        server.stop(0)


def _kept(oracle: Any, call: Callable[..., None]) -> Callable[..., None]:
    """Return the call with its errors kept for the chief: a worker could do nothing about them."""

    def guarded(*values: Any) -> None:
        try:
            call(*values)
        except Exception as error:  # pylint: disable=broad-exception-caught  # raised again by the chief
            oracle.errors.append(error)

    return guarded


def _lay_out(data: Dataset, folder: Path) -> None:
    """Write the arrays that workers map into their memory."""
    for split in ("train", "validation"):
        examples = getattr(data, split)
        for name, array in (("images", examples.images), ("targets", examples.targets)):
            study.put(folder / f"{split}-{name}.npy", lambda path, array=array: _save(path, array))  # type: ignore[misc]
    study.write(folder / "labels.json", json.dumps(data.version.labels).encode())


def _save(path: Path, array: Any) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _laid_out(opened: Study) -> Any:
    """Return what `_lay_out` wrote, as far as training looks at it."""
    folder = opened.folder / "data"
    splits = [
        Examples([], *(np.load(folder / f"{split}-{name}.npy", mmap_mode="r") for name in ("images", "targets")))
        for split in ("train", "validation")
    ]
    labels = tuple(json.loads((folder / "labels.json").read_text("utf-8")))
    return Dataset(study.version_of(opened, labels, splits[0].images.shape[1:]), *splits)


def _last_line(path: Path) -> str:
    lines = path.read_text("utf-8", errors="replace").strip().splitlines() if path.is_file() else []
    return lines[-1] if lines else ""


def _work(folder: Path) -> None:
    """Train what the chief hands out until it has no more."""
    if sys.platform == "linux":
        # A chief that is killed takes the workers of its machine with it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    chief = settings.chief()
    threading.Thread(target=_beat, args=(folder / "alive" / chief.worker, chief), daemon=True).start()
    trainer.use_threads(1)
    opened = study.joined(folder)
    plan = Plan.read(opened.plan)
    job = job_of(plan, _laid_out(opened))
    oracle = oracles.make(plan.algorithm, plan.space, opened.seed, job.epochs)  # type: ignore[arg-type]  # read by the chief
    Tuner(opened, plan, job, oracle, lambda _: None).search()


def _beat(sign: Path, chief: settings.Chief) -> None:
    """Show that this worker lives; end it when the chief does not."""
    sign.parent.mkdir(exist_ok=True)
    silent = 0
    while silent < 3:
        with contextlib.suppress(OSError):  # as long as the chief answers, a full disk is the trial's affair
            sign.touch()
        time.sleep(_BEAT_SECONDS)
        silent = 0 if _answers(chief) else silent + 1
    os._exit(3)


def _answers(chief: settings.Chief) -> bool:
    """Return whether the chief can be reached; a name that cannot be resolved is silence, too."""
    try:
        with socket.create_connection((chief.host, chief.port), timeout=_BEAT_SECONDS):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
