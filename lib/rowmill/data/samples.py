"""A few rows of a data set version by chance, without reading the rest of its images."""

import numpy as np
import numpy.typing as npt

from rowmill.data import dataset
from rowmill.data.contract import VALIDATION
from rowmill.data.dataset import Examples
from rowmill.data.rows import bytes_of
from rowmill.data.warehouse import Warehouse
from rowmill.records import DatasetVersion
from rowmill.tables import EXAMPLES


def draw(warehouse: Warehouse, version: DatasetVersion, count: int, seed: int) -> Examples:
    """Return rows of the validation split: the holdout is judging's alone, and training has learnt the train split.

    Args:
        warehouse: Where the rows are.
        version: Whose they are.
        count: How many; fewer where the split has fewer.
        seed: The same one draws the same rows.
    """
    rows = dataset.rows_of(warehouse, version, ("example_id", "label"), VALIDATION)
    chosen = rows.sample(min(count, len(rows)), random_state=seed)
    keys = chosen["example_id"].tolist()
    images: dict[str, npt.NDArray[np.uint8]] = {}
    for ingest_id in version.ingest_ids:  # of one key the last ingest's row counts
        found = warehouse.scan(EXAMPLES, {"ingest_id": [ingest_id], "split": [VALIDATION], "example_id": keys}, ("example_id", "image"))
        pixels = [bytes_of(chunk, int(np.prod(version.shape))) for chunk in found["image"].chunks]
        images |= dict(zip(found["example_id"].to_pylist(), (image for part in pixels for image in part), strict=True))
    targets = np.array([version.labels.index(label) for label in chosen["label"]], np.int64)
    return Examples(keys, np.array([images[key] for key in keys], np.uint8).reshape(len(keys), *version.shape), targets)
