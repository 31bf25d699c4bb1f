"""The real MNIST: byte-exact, and learnt well enough within a short search with the default settings."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from rowmill.data import dataset, sources, warehouse
from rowmill.judging import validation
from rowmill.records import DatasetVersion
from rowmill.registry import connected
from rowmill.serving import release
from rowmill.settings import Settings

FOLDER = os.environ.get("ROWMILL_MNIST", "")
MD5 = {"train": "6bbc9ace898e44ae57da46a324031adb", "t10k": "2646ac647ad5339dbf082846283269ea"}
HEADER = bytes.fromhex("00000803")

pytestmark = pytest.mark.skipif(
    not FOLDER, reason="ROWMILL_MNIST names no folder with the real MNIST files: nothing is known about MNIST from this run"
)


@pytest.fixture(name="version")
def fixture_version(project: Settings) -> DatasetVersion:
    """MNIST in the project's warehouse."""
    return dataset.ingest(warehouse.connect(project), sources.load(FOLDER))


def test_every_pixel_survives_the_warehouse(project: Settings, version: DatasetVersion) -> None:
    store = warehouse.connect(project)
    data, holdout = dataset.load(store, version), dataset.load_holdout(store, version)
    keys = data.train.keys + data.validation.keys
    train = np.concatenate([data.train.images, data.validation.images])[np.argsort(keys)]
    for part, images in (("train", train), ("t10k", holdout.images[np.argsort(holdout.keys)])):
        header = HEADER + np.array(images.shape[:3], ">u4").tobytes()
        assert hashlib.md5(header + images.tobytes()).hexdigest() == MD5[part]


def test_a_first_model_reaches_985_on_the_holdout(project: Settings, version: DatasetVersion) -> None:
    from rowmill.training import artefact, search  # pylint: disable=import-outside-toplevel

    models = connected(project)
    data = dataset.load(models.warehouse, version)
    candidate = search.run(data, models, search.Plan("cnn", {}, search.Goal(0.9875, trials=1, minutes=5, epochs=4), seed=1))
    model = artefact.export(candidate, data, models)
    verdict = validation.run(release.open_service(project, Path(FOLDER).name), model.model_id)
    assert verdict.outcome == "better" and verdict.rows == 10_000 and verdict.candidate_accuracy >= 0.985
