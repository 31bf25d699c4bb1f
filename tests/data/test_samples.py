"""A few rows by chance: of the validation split alone, as they are after corrections, without the other images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from rowmill.data import dataset, samples, versions
from rowmill.data.warehouse import Warehouse
from rowmill.settings import Settings
from rowmill.tables import EXAMPLES, Table

from tests.conftest import digits_store


class Counting:
    """A warehouse that counts the images that it gives."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse, self.cache, self.images = warehouse, None, 0

    def append(self, table: Table, rows: pd.DataFrame) -> None:
        """Pass rows on."""
        self.warehouse.append(table, rows)

    def read(self, table: Table, where: Mapping[str, Any] | None = None, columns: Sequence[str] = ()) -> pd.DataFrame:
        """Pass a question on."""
        assert table != EXAMPLES or "image" not in columns and columns
        return self.warehouse.read(table, where, columns)

    def scan(self, table: Table, where: Mapping[str, Sequence[str]] | None = None, columns: Sequence[str] = ()) -> pa.Table:
        """Pass a question on."""
        found = self.warehouse.scan(table, where, columns)
        self.images += len(found)
        return found


def test_rows_are_those_of_the_validation_split_and_no_others_are_read(project: Settings) -> None:
    store = Counting(digits_store(project))
    version = dataset.find(store)
    drawn = samples.draw(store, version, 20, seed=1)
    assert store.images == 20 == len(set(drawn.keys)) and drawn.images.shape == (20, 8, 8, 1) and drawn.images.dtype == np.uint8
    validation = dataset.load(store, version).validation
    places = [validation.keys.index(key) for key in drawn.keys]
    assert np.array_equal(drawn.images, validation.images[places]) and np.array_equal(drawn.targets, validation.targets[places])
    assert samples.draw(store, version, 20, seed=1).keys == drawn.keys != samples.draw(store, version, 20, seed=2).keys


def test_a_corrected_label_and_a_split_that_is_small(project: Settings) -> None:
    store = digits_store(project)
    version = dataset.find(store)
    key = samples.draw(store, version, 1, seed=1).keys[0]
    corrected = versions.correct(store, version, {key: "7"}, "seen by eye")
    every = samples.draw(store, corrected, 10_000, seed=1)
    assert len(every.keys) == corrected.counts["validation"]
    assert corrected.labels[every.targets[every.keys.index(key)]] == "7"
