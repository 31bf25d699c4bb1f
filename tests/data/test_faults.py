"""An ingest that is killed at any moment leaves the versions before it whole; two at once do not mix."""

import dataclasses
import multiprocessing
import random
import time

import numpy as np
import pytest
from rowmill.data import dataset, sources, versions, warehouse
from rowmill.data.sources import Source
from rowmill.settings import Settings

ROWS = 20_000


def many(seed: int) -> Source:
    """Return many random examples that only this seed makes."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (ROWS, 8, 8, 1), dtype=np.uint8)
    return Source(
        "many",
        f"seed {seed}",
        [f"k{row}" for row in range(ROWS)],
        images,
        [str(row % 10) for row in range(ROWS)],
        np.zeros(ROWS, dtype=bool),
    )


def ingest(project: Settings, seed: int, ready) -> None:
    """Ingest as another process, from the moment that `ready` is set."""
    source = many(seed)
    store = warehouse.connect(project)
    ready.set()
    dataset.ingest(store, source)


def assert_whole(project: Settings, version, seed: int) -> None:
    """Compare a version with what was ingested."""
    store = warehouse.connect(project)
    data, source = dataset.load(store, version), many(seed)
    place = {key: row for row, key in enumerate(source.keys)}
    assert np.array_equal(data.train.images, source.images[[place[key] for key in data.train.keys]])


@pytest.mark.parametrize("moment", range(10))
def test_killed_at_a_seeded_moment(project: Settings, moment: int) -> None:
    store = warehouse.connect(project)
    first = dataset.ingest(store, many(0))
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    worker = context.Process(target=ingest, args=(project, 1, ready))
    worker.start()
    assert ready.wait(60)
    time.sleep(random.Random(moment).uniform(0, 0.35))
    worker.kill()
    worker.join()
    found = dataset.versions(store, "many")
    assert found[0] == first and len(found) <= 2
    for seed, version in enumerate(found):
        assert_whole(project, version, seed)
    assert_whole(project, dataset.ingest(store, many(1)), 1)


def test_two_ingests_at_once_are_both_whole(project: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    events = [context.Event(), context.Event()]
    workers = [context.Process(target=ingest, args=(project, seed, event)) for seed, event in zip((1, 2), events, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = {version.source: version for version in dataset.versions(warehouse.connect(project), "many")}
    assert sorted(found) == ["seed 1", "seed 2"]
    for seed in (1, 2):
        assert_whole(project, found[f"seed {seed}"], seed)


def test_an_ingest_beside_a_correction_loses_neither(project: Settings) -> None:
    store = warehouse.connect(project)
    version = dataset.ingest(store, sources.load("digits"))
    corrected = versions.correct(store, version, {"digits/00000": "5"}, "seen by eye")
    other = dataset.ingest(store, dataclasses.replace(sources.load("digits"), labels=["3", *sources.load("digits").labels[1:]]))
    assert {v.version for v in dataset.versions(store)} == {version.version, corrected.version, other.version}
