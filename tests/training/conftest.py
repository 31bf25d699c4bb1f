"""Data for the tests of training: the digits in a registry, and small made-up examples; and what tells networks apart."""

import hashlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from rowmill.data.dataset import Dataset, Examples
from rowmill.records import DatasetVersion
from rowmill.registry import Registry, connected
from rowmill.settings import Settings

from tests.conftest import digits_in

Make = Callable[..., Dataset]


@pytest.fixture
def models(project: Settings) -> Registry:
    """An empty registry."""
    return connected(project)


@pytest.fixture
def data(models: Registry) -> Dataset:  # pylint: disable=redefined-outer-name  # a fixture's way
    """The digits."""
    return digits_in(models)


def weights_hash(network: Any) -> str:
    """Return a hash of all weights."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(w).tobytes() for w in network.get_weights())).hexdigest()


def _made(shape: tuple[int, int, int] = (8, 8, 1), rows: int = 96, classes: int = 4) -> Dataset:
    """Return noise whose brightness is the label."""
    targets = np.arange(rows, dtype=np.int64) % classes
    noise = np.random.default_rng(0).normal(60, 20, (rows, *shape))
    images = np.clip(noise + 40 * targets.reshape(-1, 1, 1, 1), 0, 255).astype(np.uint8)
    part = Examples([f"k{row}" for row in range(rows)], images, targets)
    labels = tuple(f"label {label}" for label in range(classes))
    counts = {"train": rows, "validation": rows, "holdout": 0}
    return Dataset(DatasetVersion("0" * 12, "made", ("i",), "0" * 64, "made up", labels, shape, counts), part, part)


@pytest.fixture(scope="session")
def made() -> Make:
    """Makes a small data set: shape, rows, classes."""
    return _made


@pytest.fixture(autouse=True)
def fixture_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C interrupt: a process that a shell started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
