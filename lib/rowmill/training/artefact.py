"""A Keras model becomes the file that serves: LiteRT float32, its contract, golden examples, and the proof of parity."""

import json
import logging
import secrets
import shutil
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from rowmill.data.dataset import Dataset
from rowmill.errors import IntegrityError
from rowmill.records import Candidate, ModelRecord
from rowmill.registry import CARD_FILE, MODEL_FILE, Registry, file_hash
from rowmill.training.answers import store

CONTRACT = 1
TOLERANCE = 1e-4
_BATCH = 1024


def export(candidate: Candidate, data: Dataset, registry: Registry) -> ModelRecord:
    """Export a candidate, prove that the file answers as Keras does, and register it.

    Raises:
        IntegrityError: The file and Keras differ on the validation split; nothing is registered.
    """
    folder = registry.artefacts / f".new-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        path = folder / MODEL_FILE
        # TensorFlow would report each file of its own on the way.
        logging.getLogger("tensorflow").setLevel(logging.WARNING)
        candidate.network.export(str(path), format="litert", verbose=False)
        expected = candidate.network.predict(data.validation.images, batch_size=_BATCH, verbose=0)
        check_parity(path, data.validation.images, expected)
        card = _card(candidate, data, path, expected) | {"answers": store(folder, candidate.network, data, expected)}
        (folder / CARD_FILE).write_text(json.dumps(card), "utf-8")
        return registry.add_model(_record(candidate, data, folder), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_parity(path: Path, images: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32]) -> None:
    """Compare the file's probabilities with Keras's own.

    Args:
        path: The exported file.
        images: uint8, (examples, height, width, channels).
        expected: Keras's answers, float32, (examples, labels).

    Raises:
        IntegrityError: A label flips, or a probability differs by more than `TOLERANCE`.
    """
    answers = _answers(path, images)
    largest = float(np.abs(answers - expected).max())
    flips = int((answers.argmax(axis=1) != expected.argmax(axis=1)).sum())
    # Not `largest > TOLERANCE`: NaN must fail, too.
    if flips or not largest <= TOLERANCE:  # pylint: disable=unnecessary-negation
        raise IntegrityError(
            f"The exported file must answer as Keras does, within {TOLERANCE:g} and without a flipped label",
            found=f"a difference of {largest:.2g} and {flips} flips in {len(images)} examples",
            step="nothing is registered: look for a layer that LiteRT computes otherwise",
        )


def _answers(path: Path, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    place, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    parts = []
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        interpreter.resize_tensor_input(place, batch.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(place, batch)
        interpreter.invoke()
        parts.append(interpreter.get_tensor(answer))
    return np.concatenate(parts)


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


def _card(candidate: Candidate, data: Dataset, path: Path, expected: npt.NDArray[np.float32]) -> dict[str, Any]:
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
        "sha256": file_hash(path),
        "golden": {
            "instances": validation.images[first].tolist(),
            "predictions": expected[first].astype(float).tolist(),
            "tolerance": TOLERANCE,
        },
        "exporter": {name: version_of(name) for name in ("rowmill", "keras", "ai-edge-litert")},
    }
