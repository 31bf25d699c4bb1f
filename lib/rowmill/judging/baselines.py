"""What every model must be compared with: the majority class and logistic regression on pixels."""

import warnings
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from rowmill.data import cache, dataset
from rowmill.data.dataset import Examples
from rowmill.data.warehouse import Warehouse
from rowmill.judging.statistics import Floats
from rowmill.records import DatasetVersion

_ITERATIONS = 60


def answers(warehouse: Warehouse, version: DatasetVersion, holdout: Examples, folder: Path) -> tuple[Floats, Floats]:
    """Return both baselines' probabilities on the holdout, (rows, labels) each; made once for a version, and kept.

    Args:
        warehouse: Holds the train split.
        version: Whose.
        holdout: Its holdout.
        folder: Where to keep them.
    """

    def fit() -> cache.Arrays:
        train = dataset.load(warehouse, version).train
        return {"majority": _majority(train, holdout, len(version.labels)), "logistic": _logistic(train, holdout, len(version.labels))}

    path = folder / f"{version.version}-{version.ingest_ids[-1]}.npz"
    arrays = cache.kept(path, ("majority", "logistic"), fit)
    return arrays["majority"], arrays["logistic"]


def note(majority: Floats, logistic: Floats, holdout: Examples) -> str:
    """Return in a sentence how many rows the baselines have right."""
    shares = [float((side.argmax(axis=1) == holdout.targets).mean()) for side in (majority, logistic)]
    return f"Baselines on the same rows: the majority class {shares[0]:.2%}, logistic regression on pixels {shares[1]:.2%} right."


def _majority(train: Examples, holdout: Examples, labels: int) -> Floats:
    probabilities = np.zeros((len(holdout.targets), labels))
    probabilities[:, np.bincount(train.targets).argmax()] = 1.0
    return probabilities


def _logistic(train: Examples, holdout: Examples, labels: int) -> Floats:
    # Imported when used: the Monitor page, which reads what validation knows, does without its 90 MB.
    from sklearn.exceptions import ConvergenceWarning  # pylint: disable=import-outside-toplevel
    from sklearn.linear_model import LogisticRegression  # pylint: disable=import-outside-toplevel

    def pixels(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32) / scale

    scale = max(1.0, float(train.images.max()))
    baseline = LogisticRegression(max_iter=_ITERATIONS)
    # Threads that wait for each other on a busy machine take many times as long as one.
    with warnings.catch_warnings(), threadpool_limits(1):
        # A yardstick need not be exact to the last digit.
        warnings.simplefilter("ignore", ConvergenceWarning)
        baseline.fit(pixels(train.images), train.targets)
    probabilities = np.zeros((len(holdout.targets), labels))
    probabilities[:, baseline.classes_] = baseline.predict_proba(pixels(holdout.images))
    return probabilities
