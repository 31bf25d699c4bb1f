"""A search's own folder: its plan, each trial as it runs, the time spent; whole after a kill at any moment. Loads no Keras."""

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rowmill import jobs
from rowmill.errors import BusyError, SearchError
from rowmill.records import DatasetVersion, ModelId, Trial
from rowmill.registry import Registry
from rowmill.tables import from_row, to_row
from rowmill.training.plan import Plan

_RECORD, _MEMORY, _FINDINGS = "trial.json", "oracle.json", "findings.json"
_FINISHED, _CLOSED = "finished", "closed"


class UnwritableError(SearchError):
    """A search's folder cannot be written; what was put in place before stays whole."""


@dataclass
class Study:
    """One search on this machine's disk.

    Attributes:
        folder: `<state>/searches/<experiment>`: `plan.json`, `spent`, and a folder per trial.
        seed: The plan's, or the one that was drawn for it.
        before: Seconds that were spent before this process took the search up.
    """

    folder: Path
    plan: dict[str, Any]
    service: str
    dataset_version: str
    seed: int
    before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def experiment(self) -> str:
        """The search's name, the first half of its trials' ids."""
        return self.folder.name

    @property
    def spent(self) -> float:
        """Seconds that the search has run so far, over all resumes."""
        return self.before + time.monotonic() - self.started

    def model_id(self, place: int) -> str:
        """Return the id of the trial with this number, counted from 1."""
        return str(ModelId(self.experiment, f"t{place:03d}"))

    def trial_folder(self, model_id: str) -> Path:
        """Return where a trial's record and checkpoints are."""
        return self.folder / ModelId.parse(model_id).trial

    def put(self, trial: Trial) -> None:
        """Write a trial's record as it is now."""
        row = {**to_row(trial), "at": trial.at.isoformat()}
        write(self.trial_folder(trial.model_id) / _RECORD, json.dumps(row).encode())

    def trial(self, model_id: str) -> Trial:
        """Return a trial's record; it must be there."""
        return _read(self.trial_folder(model_id) / _RECORD)

    def trials(self) -> list[Trial]:
        """Return all trials as they are now, the running ones with their curve so far; a damaged record is left out."""
        found = []
        for path in sorted(self.folder.glob(f"t*/{_RECORD}")):
            with contextlib.suppress(OSError, ValueError, KeyError):
                found.append(_read(path))
        return sorted(found, key=lambda trial: number(trial.model_id))

    def remember(self, place: int, memory: Mapping[str, Any]) -> None:
        """Keep what an algorithm must know of a trial beside its values."""
        write(self.folder / f"t{place:03d}" / _MEMORY, json.dumps(memory).encode())

    def memory(self, place: int) -> dict[str, Any]:
        """Return what was kept of a trial; nothing where that is lost."""
        with contextlib.suppress(OSError, ValueError):
            kept: dict[str, Any] = json.loads((self.folder / f"t{place:03d}" / _MEMORY).read_text("utf-8"))
            return kept
        return {}

    @property
    def mark(self) -> tuple[int, ...]:
        """What changes with each change of a trial's record; to ask it costs less than to read them."""
        return tuple(sorted(path.stat().st_mtime_ns for path in self.folder.glob(f"t*/{_RECORD}")))

    @property
    def touched(self) -> float:
        """When something in its folder was put in place last, in seconds since 1970."""
        return self.folder.stat().st_mtime

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end, so that nothing is left to train."""
        return (self.folder / _FINISHED).exists()

    @property
    def is_closed(self) -> bool:
        """Whether what it found is a model, or it found nothing: the same plan is then another search."""
        return (self.folder / _CLOSED).exists()

    @property
    def is_running(self) -> bool:
        """Whether a process of this machine trains it."""
        return jobs.held(self.folder.parent.parent, _lock_name(self.experiment))

    def keep_findings(self, sentences: Sequence[str]) -> None:
        """Keep what the check-up found before the first trial."""
        write(self.folder / _FINDINGS, json.dumps(list(sentences)).encode())

    def findings(self) -> tuple[str, ...]:
        """Return what the check-up found; nothing where none was made."""
        with contextlib.suppress(OSError, ValueError):
            return tuple(map(str, json.loads((self.folder / _FINDINGS).read_text("utf-8"))))
        return ()

    def keep_time(self) -> None:
        """Write down the seconds spent."""
        write(self.folder / "spent", json.dumps(round(self.spent, 3)).encode())

    def finish(self) -> None:
        """Mark the search as done; what only a resume needs goes."""
        write(self.folder / _FINISHED, b"")
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def close(self) -> None:
        """Mark the search as one that nobody takes up again."""
        self.finish()
        write(self.folder / _CLOSED, b"")


def number(model_id: str) -> int:
    """Return the number of a trial, counted from 1."""
    return int(ModelId.parse(model_id).trial[1:])


def progress(state: Path, experiment: str) -> list[Trial]:
    """Return a search's trials as they are at this moment, running ones with their curve so far; reads local files only.

    Args:
        state: The folder of local state, `settings.state`.
        experiment: The search's name; that of the newest when empty.
    """
    folders = _newest_first(state)
    chosen = state / "searches" / experiment if experiment else next(iter(folders), state / "none")
    return Study(chosen, {}, "", "", 0).trials()


def known(state: Path, most: int) -> list[Study]:
    """Return so many of this machine's searches, the one that began last first; a damaged one is left out."""
    found = []
    for folder in _newest_first(state)[:most]:
        with contextlib.suppress(OSError, ValueError, KeyError):
            found.append(joined(folder))
    return found


@contextlib.contextmanager
def opened(registry: Registry, plan: Plan, version: DatasetVersion) -> Iterator[Study]:
    """Take up the newest search of this plan and data set version whose outcome is no model yet, or begin a new one; hold its lock.

    A search that runs at this moment, here or in another process, is left alone: the new one is a search of its own.
    """
    with contextlib.ExitStack() as stack:
        study = _resumed(registry, plan, version, stack) or _begun(registry.state, plan, version, stack)
        _reconcile(study, registry)
        yield study


def joined(folder: Path) -> Study:
    """Return the search that lies in a folder, for a worker of it; the lock is its chief's.

    Raises:
        OSError, ValueError, KeyError: The folder holds no readable search.
    """
    entry = json.loads((folder / "plan.json").read_text("utf-8"))
    study = Study(folder, entry["plan"], entry["service"], entry["dataset_version"], entry["seed"])
    return dataclasses.replace(study, before=_seconds_before(study))


def version_of(study: Study, labels: tuple[str, ...], shape: tuple[int, ...]) -> DatasetVersion:
    """Return the data set version that a worker trains on, as far as it is known to the search's folder."""
    return DatasetVersion(study.dataset_version, study.service, (), "", "", labels, shape, {})


def write(path: Path, content: bytes) -> None:
    """Put a file in place as a whole: a reader, and whoever comes after a kill, sees the old one or the new one."""
    put(path, lambda new: new.write_bytes(content))


def put(path: Path, save: Callable[[Path], Any]) -> None:
    """Let `save` write a file beside `path`, then put it in place as a whole.

    Raises:
        UnwritableError: The disk is full, or refuses.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(new)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        step = "make room, then run the search again with the same plan to go on from there"
        raise UnwritableError(f"The search cannot write {path}", found=error.strerror or str(error), step=step) from error


def _read(path: Path) -> Trial:
    row = json.loads(path.read_text("utf-8"))
    return from_row(Trial, {**row, "at": pd.Timestamp(row["at"])})


def _newest_first(state: Path) -> list[Path]:
    plans = sorted((state / "searches").glob("*/plan.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [path.parent for path in plans]


def _resumed(registry: Registry, plan: Plan, version: DatasetVersion, stack: contextlib.ExitStack) -> Study | None:
    for folder in _newest_first(registry.state):
        with contextlib.suppress(OSError, ValueError, KeyError, BusyError):
            study = joined(folder)
            if (study.plan, study.service, study.dataset_version) != (plan.identity(), version.service, version.version):
                continue
            stack.enter_context(_lock(registry.state, study.experiment))
            # Asked under the lock: until now it may have been running.
            if not study.is_closed and not _has_model(registry, study):
                return study
    return None


def _has_model(registry: Registry, study: Study) -> bool:
    """Return whether its candidate was exported by a process that was killed before it could close the search."""
    return any(ModelId.parse(model.model_id).experiment == study.experiment for model in registry.models(study.service))


def _begun(state: Path, plan: Plan, version: DatasetVersion, stack: contextlib.ExitStack) -> Study:
    experiment = ModelId.mint_experiment()
    stack.enter_context(_lock(state, experiment))
    seed = plan.seed or int(np.random.default_rng().integers(1, 2**31))
    entry: dict[str, Any] = {"plan": plan.identity(), "service": version.service, "dataset_version": version.version, "seed": seed}
    folder = state / "searches" / experiment
    write(folder / "plan.json", json.dumps(entry).encode())
    return Study(folder, **entry)


def _lock(state: Path, experiment: str) -> contextlib.AbstractContextManager[None]:
    return jobs.lock(state, _lock_name(experiment), what=f"search {experiment}")


def _lock_name(experiment: str) -> str:
    return f"search-{experiment}"


def _seconds_before(study: Study) -> float:
    try:
        return float(json.loads((study.folder / "spent").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return sum(trial.seconds for trial in study.trials())


def _reconcile(study: Study, registry: Registry) -> None:
    """Make folder and warehouse agree after a kill between two writes, or after a damaged file."""
    on_record = {t.model_id: t for t in registry.trials(study.service) if ModelId.parse(t.model_id).experiment == study.experiment}
    kept = {trial.model_id: trial for trial in study.trials()}
    for model_id, trial in on_record.items():
        if model_id not in kept or (kept[model_id].state == "running" and trial.state != "running"):
            study.put(trial)
    for model_id, trial in kept.items():
        recorded = on_record.get(model_id)
        if recorded is None or (recorded.state == "running" and trial.state != "running"):
            registry.add(trial)
