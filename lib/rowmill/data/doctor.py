"""The label doctor: which labels are likeliest wrong, by models that never saw them."""

import warnings

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from rowmill.data.dataset import Dataset
from rowmill.errors import ParameterError, SourceError

_FOLDS = 3
_REPEATS = 3


def suspects(data: Dataset, most: int | None = None) -> pd.DataFrame:
    """Rank the train and validation rows by how little their given label is believed; the holdout is not read.

    Each row is judged by small networks that were trained on other rows, and their probabilities are averaged over three
    ways to divide the rows: the self-confidence of Northcutt, Jiang and Chuang (2021, Journal of Artificial Intelligence
    Research 70:1373).

    Args:
        data: What training may see.
        most: At most so many rows, all when left out; for 0 nothing is trained.

    Returns:
        One row per example, the likeliest wrong label first: `key`, `given` and `suggested` label, `confidence` in the given
        label and in the suggested one (`suggested_confidence`), 0 to 1.

    Raises:
        SourceError: A label has too few rows to be divided.
        ParameterError: `most` is below 0.
    """
    if most is not None and most < 0:
        raise ParameterError("The number of suspects cannot be below 0", found=str(most), step="give 0 for none, or such as 24")
    if most == 0:
        return pd.DataFrame(columns=["key", "given", "suggested", "confidence", "suggested_confidence"])
    keys = [*data.train.keys, *data.validation.keys]
    images = np.concatenate([data.train.images, data.validation.images])
    targets = np.concatenate([data.train.targets, data.validation.targets])
    counts = np.bincount(targets, minlength=len(data.version.labels))
    if counts.min() < _FOLDS:
        rarest = data.version.labels[int(counts.argmin())]
        raise SourceError(
            f"The doctor needs at least {_FOLDS} rows of label {rarest!r}", found=str(counts.min()), step="add examples of it"
        )
    # One thread: the matrices are small, and threads that wait for each other on a busy machine take ten times as long.
    with threadpool_limits(1):
        believed = np.mean([_out_of_fold(images, targets, seed) for seed in range(_REPEATS)], axis=0)
    labels = np.array(data.version.labels)
    frame = pd.DataFrame(
        {
            "key": keys,
            "given": labels[targets],
            "suggested": labels[believed.argmax(axis=1)],
            "confidence": believed[np.arange(len(targets)), targets],
            "suggested_confidence": believed.max(axis=1),
        }
    )
    return frame.sort_values("confidence", ignore_index=True, kind="stable").head(len(frame) if most is None else most)


def _out_of_fold(images: npt.NDArray[np.uint8], targets: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.float64]:
    """Return each row's probabilities, (rows, labels), by a network that was trained on the other folds."""
    pixels = images.reshape(len(images), -1).astype(np.float32) / max(1, int(images.max()))
    believed = np.zeros((len(targets), int(targets.max()) + 1))
    # About 180,000 rows seen: a network that trains longer learns the wrong labels by heart.
    epochs = max(3, min(60, 180_000 // len(targets)))
    for rest, fold in StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(pixels, targets):
        network = MLPClassifier((256,), max_iter=epochs, batch_size=min(128, len(rest)), random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(pixels[rest], targets[rest])
        believed[fold] = network.predict_proba(pixels[fold])
    return believed
