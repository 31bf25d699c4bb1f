"""A trial's state after an epoch, on disk: its network's and its optimizer's variables and its curve in one file."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rowmill.records import ModelId, Trial
from rowmill.training import study

_PREFIX, _SUFFIX = "e", ".npz"


def save(model: Any, trial: Trial, folder: Path) -> None:
    """Write the state after the trial's last epoch; only this one and that of the best epoch stay."""
    arrays: dict[str, Any] = {f"model{place}": variable.numpy() for place, variable in enumerate(model.variables)}
    arrays |= {f"optimizer{place}": variable.numpy() for place, variable in enumerate(model.optimizer.variables)}
    so_far = {name: getattr(trial, name) for name in ("curve", "score", "accuracy", "seconds")}
    path = _path(folder, len(trial.curve))
    study.put(path, lambda new: _write(new, {**arrays, "so_far": np.array(json.dumps(so_far))}))
    best = _path(folder, 1 + int(np.argmax(trial.curve)))
    for other in set(_paths(folder)) - {path, best}:
        other.unlink()


def restored(model: Any, folders: Sequence[Path | None]) -> dict[str, Any]:
    """Put the last readable state of the first folder that has one into the model, and return what its trial had reached."""
    for folder in folders:
        for path in _paths(folder)[::-1] if folder else ():
            if (arrays := _read(path)) is None:
                continue
            for part, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
                for place, variable in enumerate(variables):
                    variable.assign(arrays[f"{part}{place}"])
            so_far = json.loads(str(arrays["so_far"]))
            return {**so_far, "curve": tuple(so_far["curve"])}
    return {"curve": (), "seconds": 0.0}


def drop(folder: Path) -> None:
    """Remove a trial's states; should one be wanted again, it is trained again."""
    for path in _paths(folder):
        path.unlink(missing_ok=True)


def close(state: Path, model_id: str) -> None:
    """Close the search that a model comes from, where it lies on this machine; its states go."""
    with contextlib.suppress(OSError, ValueError, KeyError, study.UnwritableError):
        ended = study.joined(state / "searches" / ModelId.parse(model_id).experiment)
        ended.close()
        for trial in ended.trials():
            drop(ended.trial_folder(trial.model_id))


def attempts(folder: Path, epochs: int) -> int:
    """Return how many times in a row a trial was begun after so many epochs, with this one: a process that dies leaves no other trace."""
    path = folder / "attempts"
    try:
        before, count = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        before, count = -1, 0
    count = count + 1 if before == epochs else 1
    study.write(path, json.dumps([epochs, count]).encode())
    return count


def forget_attempts(folder: Path) -> None:
    """Count anew: the process was ended on purpose."""
    (folder / "attempts").unlink(missing_ok=True)


def read(folder: Path, epoch: int) -> dict[str, npt.NDArray[Any]] | None:
    """Return the arrays after an epoch, the network's as `model0`, `model1`...; None where they are missing or damaged."""
    return _read(_path(folder, epoch))


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _path(folder: Path, epoch: int) -> Path:
    return folder / f"{_PREFIX}{epoch:04d}{_SUFFIX}"


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"))


def _read(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    """Return a checkpoint's arrays; None for one that is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception:  # pylint: disable=broad-exception-caught  # zip, zlib and numpy raise many kinds for a torn file
        return None
