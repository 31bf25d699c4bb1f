"""A Keras model becomes the file that serves: LiteRT, its contract, golden examples, and the proof of parity."""

import json
import secrets
import shutil
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rowmill.data.dataset import Dataset
from rowmill.records import LIMITS, Candidate, ModelRecord
from rowmill.registry import CARD_FILE, MODEL_FILE, Registry, file_hash
from rowmill.training import checkpoints, exports
from rowmill.training.answers import store
from rowmill.training.exports import TOLERANCE, Form, Parity

CONTRACT = 1
# Of golden answers that are the file's own: other processors round a quantised network otherwise.
_QUANTISED_TOLERANCE = 1e-2


def export(candidate: Candidate, data: Dataset, registry: Registry, form: Form = Form()) -> ModelRecord:  # noqa: B008  # frozen
    """Export a candidate, prove that each file answers as Keras does, and register it; its search is then closed.

    Raises:
        IntegrityError: A file and Keras differ on the validation split; nothing is registered.
        ParameterError: A further file needs a package that is not installed.
    """
    folder = registry.artefacts / f".new-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    images = data.validation.images
    try:
        exports.served(candidate.network, folder / MODEL_FILE, form.precision)
        expected = np.asarray(candidate.network.predict(images, batch_size=exports.BATCH, verbose=0), np.float32)
        parity = check_parity(folder / MODEL_FILE, images, expected, form.precision)
        card = _card(candidate, data, folder, expected) | {"parity": _told(parity, data, form.precision), "also": {}}
        card["input"]["resize"] = form.resize
        if form.precision != "float32":
            _answer_by_file(card["golden"], folder / MODEL_FILE)
        for name in form.also:
            card["also"][name] = _further(candidate, data, folder, (name, expected))
        card["answers"] = store(folder, candidate.network, data, expected)
        (folder / CARD_FILE).write_text(json.dumps(card), "utf-8")
        model = registry.add_model(_record(candidate, data, folder), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    checkpoints.close(registry.state, model.model_id)
    return model


def check_parity(path: Path, images: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32], precision: str = "float32") -> Parity:
    """Compare the served file's probabilities with Keras's own.

    Args:
        path: The exported file.
        images: uint8, (examples, height, width, channels).
        expected: Keras's answers, float32, (examples, labels).
        precision: What it was exported in, which says how far it may be off.

    Raises:
        IntegrityError: More labels flip, or a probability differs by more than the precision allows.
    """
    parity = exports.compare(exports.answers(exports.runtime(path), images), expected)
    exports.check(precision, parity, exports.LIMITS[precision])
    return parity


def _told(parity: Parity, data: Dataset, precision: str) -> dict[str, Any]:
    """Return what `model.json` says of parity; a flipped row by its key."""
    flips = [data.validation.keys[row] for row in parity.flips]
    return {"precision": precision, "rows": parity.rows, "largest": parity.largest, "flips": flips}


def _answer_by_file(golden: dict[str, Any], path: Path) -> None:
    """Let a quantised file's golden answers be its own, which Keras's would blur: parity is proven on its own, more widely."""
    found = exports.answers(exports.runtime(path), np.array(golden["instances"], np.uint8))
    golden |= {"predictions": found.astype(float).tolist(), "tolerance": _QUANTISED_TOLERANCE}


def _further(candidate: Candidate, data: Dataset, folder: Path, wish: tuple[str, npt.NDArray[np.float32]]) -> dict[str, Any]:
    name, expected = wish
    path, ask = exports.also(candidate.network, folder, name)
    parity = exports.compare(exports.answers(ask, data.validation.images), expected)
    exports.check(name, parity, exports.LIMITS["float32"])
    return {"file": path.name, "sha256": file_hash(path), **_told(parity, data, "float32")}


def _record(candidate: Candidate, data: Dataset, folder: Path) -> ModelRecord:
    trial, path = candidate.trial, folder / MODEL_FILE
    return ModelRecord(
        model_id=trial.model_id,
        service=trial.service,
        dataset_version=trial.dataset_version,
        sha256=file_hash(path),
        card_sha256=file_hash(folder / CARD_FILE),
        size=path.stat().st_size,
        shape=data.version.shape,
        labels=data.version.labels,
        accuracy=trial.accuracy,
        hyperparameters=trial.hyperparameters,
        seed=trial.seed,
    )


def _card(candidate: Candidate, data: Dataset, folder: Path, expected: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Return what `model.json` says; its golden examples are the first validation row of each label."""
    trial, version, validation = candidate.trial, data.version, data.validation
    first = [int(np.flatnonzero(validation.targets == target)[0]) for target in range(len(version.labels))]
    return {
        "contract": CONTRACT,
        "model": trial.model_id,
        "service": trial.service,
        "dataset": trial.dataset_version,
        "input": {"shape": version.shape, "dtype": "uint8", "minimum": 0, "maximum": 255},
        "labels": version.labels,
        "file": MODEL_FILE,
        "sha256": file_hash(folder / MODEL_FILE),
        "limits": LIMITS,
        "golden": {
            "instances": validation.images[first].tolist(),
            "predictions": expected[first].astype(float).tolist(),
            "tolerance": TOLERANCE,
        },
        "exporter": {name: version_of(name) for name in ("rowmill", "keras", "ai-edge-litert")},
    }
