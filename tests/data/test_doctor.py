"""The label doctor finds planted wrong labels, and reads no holdout."""

import dataclasses
import os

import numpy as np
import pytest
from rowmill.data import dataset, doctor, sources, warehouse
from rowmill.data.dataset import Dataset
from rowmill.errors import SourceError
from rowmill.settings import Settings

FOLDER = os.environ.get("ROWMILL_MNIST", "")


def planted(project: Settings, source: sources.Source, count: int) -> tuple[Dataset, set[str]]:
    """Ingest a source with so many wrong labels outside the holdout; return what training sees and the keys."""
    generator = np.random.default_rng(5)
    splits = dataset.assign_splits(source.keys, source.declared_holdout)
    open_rows = [row for row, split in enumerate(splits) if split != "holdout"]
    chosen = generator.choice(open_rows, count, replace=False)
    labels = list(source.labels)
    for row in chosen:
        labels[row] = str((int(labels[row]) + generator.integers(1, 10)) % 10)
    store = warehouse.connect(project)
    version = dataset.ingest(store, dataclasses.replace(source, labels=labels))
    return dataset.load(store, version), {source.keys[row] for row in chosen}


def test_finds_planted_labels_in_the_digits_and_suggests_the_true_ones(project: Settings) -> None:
    source = sources.load("digits")
    data, wrong = planted(project, source, 40)
    ranked = doctor.suspects(data)
    assert set(ranked.columns) == {"key", "given", "suggested", "confidence", "suggested_confidence"}
    assert len(wrong & set(ranked["key"][:40])) >= 34
    assert ranked["confidence"].is_monotonic_increasing and len(ranked) == len(data.train.keys) + len(data.validation.keys)
    truth, suggested = dict(zip(source.keys, source.labels, strict=True)), ranked.set_index("key")["suggested"]
    assert np.mean([suggested[key] == truth[key] for key in wrong]) >= 0.85


def test_nobody_is_suspected_when_none_is_asked_for(project: Settings) -> None:
    found = doctor.suspects(planted(project, sources.load("digits"), 1)[0], 0)
    assert found.empty and found.columns.tolist() == ["key", "given", "suggested", "confidence", "suggested_confidence"]


def test_a_label_with_too_few_rows_is_named(project: Settings) -> None:
    data, _ = planted(project, sources.load("digits"), 1)
    keep = (data.train.targets != 4) | (np.cumsum(data.train.targets == 4) <= 1)
    train = dataset.Examples(
        [k for k, kept in zip(data.train.keys, keep, strict=True) if kept], data.train.images[keep], data.train.targets[keep]
    )
    none = data.validation.targets != 4
    validation = dataset.Examples(
        [k for k, kept in zip(data.validation.keys, none, strict=True) if kept], data.validation.images[none], data.validation.targets[none]
    )
    with pytest.raises(SourceError, match="The doctor needs at least 3 rows of label '4'; found 1"):
        doctor.suspects(Dataset(data.version, train, validation))


@pytest.mark.skipif(not FOLDER, reason="ROWMILL_MNIST names no folder with the real MNIST files: the doctor was not tried on MNIST")
def test_finds_480_of_600_planted_labels_in_mnist(project: Settings) -> None:
    data, wrong = planted(project, sources.load(FOLDER), 600)
    assert len(wrong & set(doctor.suspects(data)["key"][:600])) >= 480
