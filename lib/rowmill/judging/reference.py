"""What a model answers to its holdout, without the truth: the yardstick for whether other things are asked of it than it was judged on.

There is no true label in it, and no model is compared with another. So it says nothing of which model is better, and the ledger of looks
has nothing to count.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from rowmill.data import cache, dataset
from rowmill.records import ModelRecord
from rowmill.serving.release import Service

NUMBERS = ("label", "confidence", "mean", "deviation")
_PART = 1000  # images, for the deviation needs a copy of them in 64 bits


def kept(service: Service, model: ModelRecord) -> pd.DataFrame | None:
    """Return a model's reference; None where it was not asked yet, see `validation.refer`.

    Returns:
        A row per image of the holdout of the model's data set version: label (int64, its place in the model's labels), confidence (0 to
        1), mean and deviation (of its pixels, 0 to 255), rounded as the function's lines are.
    """
    arrays = cache.kept(_path(service, model), NUMBERS, dict)
    return pd.DataFrame(arrays) if arrays else None


def keep(service: Service, model: ModelRecord, answers: npt.NDArray[np.float64], images: npt.NDArray[np.uint8]) -> None:
    """Keep a model's answers to its holdout, (rows, labels); what is kept already stays."""
    cache.kept(_path(service, model), NUMBERS, lambda: numbers(answers, images))


def numbers(answers: npt.NDArray[np.float64], images: npt.NDArray[np.uint8]) -> cache.Arrays:
    """Return of each image what `kept` has columns for.

    Args:
        answers: Probabilities, (rows, labels).
        images: (rows, height, width, channels).
    """
    parts = [part.reshape(len(part), -1) for part in np.array_split(images, -(-len(images) // _PART))]
    means = np.concatenate([part.mean(axis=1) for part in parts]).round(3)
    deviations = np.concatenate([part.std(axis=1) for part in parts]).round(3)
    return dict(zip(NUMBERS, (answers.argmax(axis=1), answers.max(axis=1).round(6), means, deviations), strict=True))


def _path(service: Service, model: ModelRecord) -> Path:
    version = dataset.find(service.registry.warehouse, service.name, model.dataset_version)
    return service.settings.state / "references" / f"{model.model_id}-{model.sha256[:8]}-{version.ingest_ids[-1]}.npz"
