"""An ingest that is killed at any moment leaves the versions before it whole; two at once do not mix; on both warehouses."""

import dataclasses
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rowmill.data import dataset, sources, versions, warehouse
from rowmill.data.sources import Source
from rowmill.records import DatasetVersion
from rowmill.settings import Settings

from tests.conftest import project_in
from tests.emulator.process import Emulator

ROWS = 4000
# A server that has imported all, from which each process is forked: Google's clients alone take two seconds.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["rowmill.data.bigquery", __name__])


def many(seed: int) -> Source:
    """Return many random examples that only this seed makes."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (ROWS, 8, 8, 1), dtype=np.uint8)
    keys, labels = [f"k{row}" for row in range(ROWS)], [str(row % 10) for row in range(ROWS)]
    return Source("many", f"seed {seed}", keys, images, labels, np.zeros(ROWS, dtype=bool))


def ingest(project: Settings, seed: int, ready) -> None:
    """Ingest as another process, from the moment that `ready` is set."""
    os.environ["BIGQUERY_EMULATOR_HOST"] = project.warehouse_emulator
    store, source = warehouse.connect(project), many(seed)
    ready.set()
    dataset.ingest(store, source)


def assert_whole(project: Settings, version: DatasetVersion) -> None:
    """Compare a version with what was ingested."""
    data, source = dataset.load(warehouse.connect(project), version), many(int(version.source.removeprefix("seed ")))
    place = {key: row for row, key in enumerate(source.keys)}
    for part, split in ((data.train, "train"), (data.validation, "validation")):
        assert len(part.keys) == version.counts[split]
        assert np.array_equal(part.images, source.images[[place[key] for key in part.keys]])


@pytest.fixture(name="place", scope="module", params=["sqlite", "bigquery"])
def fixture_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, float]]:
    """A project with one version, and the seconds that its ingest took."""
    state = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patched:
        project = project_in(state)
        if request.param == "bigquery":
            emulator: Emulator = request.getfixturevalue("emulator")
            patched.setenv("BIGQUERY_EMULATOR_HOST", emulator.address)
            project = dataclasses.replace(project, warehouse_kind="bigquery", **emulator.warehouse)
        store, source = warehouse.connect(project), many(0)
        start = time.monotonic()
        dataset.ingest(store, source)
        yield project, time.monotonic() - start


@pytest.mark.parametrize("moment", range(10))
def test_killed_at_a_seeded_moment(place: tuple[Settings, float], moment: int) -> None:
    project, seconds = place
    store, seed = warehouse.connect(project), moment + 1
    before = dataset.versions(store)
    ready = CONTEXT.Event()
    worker = CONTEXT.Process(target=ingest, args=(project, seed, ready))
    worker.start()
    assert ready.wait(60)
    time.sleep(random.Random(moment).uniform(0, seconds))
    worker.kill()
    worker.join()
    found = dataset.versions(store)
    assert found[: len(before)] == before and [version.source for version in found[len(before) :]] in ([], [f"seed {seed}"])
    again = dataset.ingest(store, many(seed))
    assert again.source == f"seed {seed}" and dataset.versions(store)[: len(before)] == before
    for version in {before[0].version: before[0], before[-1].version: before[-1], again.version: again}.values():
        assert_whole(project, version)


def test_two_ingests_at_once_are_both_whole(place: tuple[Settings, float]) -> None:
    project = place[0]
    events = [CONTEXT.Event(), CONTEXT.Event()]
    workers = [CONTEXT.Process(target=ingest, args=(project, 101 + number, event)) for number, event in enumerate(events)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = {version.source: version for version in dataset.versions(warehouse.connect(project), "many")}
    for seed in (101, 102):
        assert_whole(project, found[f"seed {seed}"])


def test_an_ingest_beside_a_correction_loses_neither(tmp_path: Path) -> None:
    store = warehouse.connect(project_in(tmp_path))
    version = dataset.ingest(store, sources.load("digits"))
    corrected = versions.correct(store, version, {"digits/00000": "5"}, "seen by eye")
    other = dataset.ingest(store, dataclasses.replace(sources.load("digits"), labels=["3", *sources.load("digits").labels[1:]]))
    assert {v.version for v in dataset.versions(store)} == {version.version, corrected.version, other.version}
