"""Keeps Keras's own answers beside the exported file, so that whoever judges it can compare without Keras."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rowmill.data.dataset import Dataset
from rowmill.registry import ANSWERS_FILE, file_hash


def store(folder: Path, network: Any, data: Dataset, expected: npt.NDArray[np.float32]) -> dict[str, str]:
    """Write the answers into the model's folder, and return what `model.json` says of them: file and SHA-256.

    The file is an `.npz` with `keys` (UTF-8 lines as uint8) and `validation`, float32 (rows, labels), of the validation split;
    and `silhouettes`, uint8 0 or 1 (labels, *shape): the first validation row of each label, its pixels above their mean;
    with Keras's answers to them as they are, `dim`, and times 255, `bright`, both (labels, labels). Whoever scales pixels
    otherwise than Keras does is told by these.

    Args:
        folder: Where the exported file lies.
        network: The Keras model.
        data: Its validation split is what was asked.
        expected: Keras's answers to that.
    """
    images, targets = data.validation.images, data.validation.targets
    first = images[[int(np.argmax(targets == target)) for target in range(len(data.version.labels))]]
    silhouettes = (first > first.mean(axis=(1, 2, 3), keepdims=True)).astype(np.uint8)
    shades = network.predict(np.concatenate([silhouettes, silhouettes * np.uint8(255)]), verbose=0)
    dim, bright = shades[: len(first)], shades[len(first) :]
    keys = np.frombuffer("\n".join(data.validation.keys).encode(), np.uint8)
    path = folder / ANSWERS_FILE
    np.savez_compressed(path, keys=keys, validation=expected, silhouettes=silhouettes, dim=dim, bright=bright)
    return {"file": ANSWERS_FILE, "sha256": file_hash(path)}
