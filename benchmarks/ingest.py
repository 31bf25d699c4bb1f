"""MNIST into the warehouse and back, beside the older projects' way: pixels as numbers in a text column of BigQuery.

All 70,000 images, on BigQuery's emulator and on SQLite, in turn with the older way and byte-exact each time. What training reads are
60,000 of them: those seconds are scaled to 70,000. Memory is the high-water mark (Linux) of processes of their own.
"""

import importlib.util
import multiprocessing
import os
import re
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from rowmill import settings
from rowmill.data import dataset, sources, warehouse
from rowmill.data.bigquery import BigqueryWarehouse
from rowmill.data.reading import Source
from rowmill.data.sqlite import SqliteWarehouse
from rowmill.data.warehouse import Warehouse
from rowmill.records import DatasetVersion
from rowmill.tables import EXAMPLES

from benchmarks.figures import ROOT, conclude, faster, seconds, within
from tests.emulator.process import Emulator, running

MNIST = Path(os.environ.get("ROWMILL_MNIST") or ROOT.parent / "shared" / "data" / "mnist")
REFERENCE = Path(os.environ.get("ROWMILL_REFERENCE") or ROOT.parent / "shared" / "reference")
RUNS, LOADS, MEMORY_RUNS = 3, 3, 3
OLDER, WRITE, READ, LOAD = "the older way", "writing", "reading", "reading for training"
# How many times faster than the older way, at least.
FASTER = {"BigQuery": {WRITE: 5, READ: 15, LOAD: 40}, "SQLite": {WRITE: 10, LOAD: 40}}
# How many times the size of the pixels, at most.
MEMORY = 3

# Keys, pixels (uint8, (rows, pixels)), labels.
Rows = tuple[list[str], np.ndarray[Any, Any], list[str]]
Measured = defaultdict[tuple[str, str], list[float]]


def main() -> None:
    """Measure, compare, conclude."""
    opponent, source = _opponent(), sources.load(str(MNIST))
    times, memory = Measured(list), Measured(list)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "emulator.log") as emulator:
        for run in range(RUNS):
            _time_opponent(opponent, source, emulator, times)
            for kind in FASTER:
                os.environ.update(emulator.environment)
                path = Path(folder) / f"{run}.sqlite"
                version = _time(kind, _connect(kind, path), source, times)
                for what in (WRITE, LOAD) if run < MEMORY_RUNS else ():
                    memory[kind, what].append(_megabytes(kind, path, what, version))
    speeds = [
        faster(f"{kind}, {what}", times[kind, what], times[OLDER, WRITE if what == WRITE else READ], least)
        for kind, targets in FASTER.items()
        for what, least in targets.items()
    ]
    size = source.images.nbytes / 2**20
    sizes = {WRITE: size, LOAD: size * _share(version)}
    conclude("ingest", speeds + [within(f"{kind}, memory of {what}", runs, sizes[what], MEMORY) for (kind, what), runs in memory.items()])


def _opponent() -> ModuleType:
    """Return the older projects' module, which is called as it is."""
    for path, variable in ((MNIST, "ROWMILL_MNIST"), (REFERENCE / "text_pixels.py", "ROWMILL_REFERENCE")):
        if not path.exists():
            print(f"NOTHING WAS MEASURED: {path} is not there; set {variable} to the folder that holds it.")
            sys.exit(0)
    spec = importlib.util.spec_from_file_location("text_pixels", REFERENCE / "text_pixels.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _time_opponent(opponent: ModuleType, source: Source, emulator: Emulator, times: Measured) -> None:
    os.environ.update(emulator.environment)
    place = settings.load(ROOT)
    images, labels = source.images[..., 0], np.array(source.labels, dtype=int)
    with bigquery.Client(place.warehouse_project, AnonymousCredentials()) as client:
        client.create_dataset(place.warehouse_dataset)
        table = f"{client.project}.{place.warehouse_dataset}.text_pixels"
        found: list[Any] = []
        times[OLDER, WRITE].append(seconds(lambda: opponent.write(images, labels, table, client)))
        times[OLDER, READ].append(seconds(lambda: found.extend(opponent.read(table, client))))
        client.delete_table(table)
    assert np.array_equal(found[0], images.reshape(len(images), -1)) and np.array_equal(found[1], labels)


def _connect(kind: str, path: Path) -> Warehouse:
    if kind == "SQLite":
        return SqliteWarehouse(path)
    store = warehouse.connect(settings.load(ROOT))
    assert isinstance(store, BigqueryWarehouse)
    store.cache = None
    return store


def _time(kind: str, store: Warehouse, source: Source, times: Measured) -> DatasetVersion:
    """Write and read once; return the version that was written."""
    # The data set is there when the clock starts, as the older way's is.
    store.append(EXAMPLES, dataset.rows_from(sources.load("digits")))
    times[kind, WRITE].append(seconds(lambda: store.append(EXAMPLES, dataset.rows_from(source))))
    version = _version(store, source)
    found: list[Any] = []
    if READ in FASTER[kind]:
        times[kind, READ].append(seconds(lambda: found.append(_read(store, version))))
        _check(found.pop(), source)
    for _ in range(LOADS):
        found.clear()
        times[kind, LOAD].append(seconds(lambda: found.append(dataset.load(store, version))) / _share(version))
    for part in (found[0].train, found[0].validation):
        _check((part.keys, part.images.reshape(len(part.keys), -1), [version.labels[target] for target in part.targets]), source)
    return version


def _version(store: Warehouse, source: Source) -> DatasetVersion:
    rows = store.read(EXAMPLES, {"height": source.images.shape[1]}, ("ingest_id", "label", "split"))
    labels = tuple(sorted(rows["label"].unique()))
    counts = {str(split): int(count) for split, count in rows["split"].value_counts().items()}
    return DatasetVersion("", "mnist", (rows["ingest_id"][0],), "", "", labels, source.images.shape[1:], counts)


def _share(version: DatasetVersion) -> float:
    return 1 - version.counts["holdout"] / sum(version.counts.values())


def _read(store: Warehouse, version: DatasetVersion) -> Rows:
    """Return all rows by one query of pandas-gbq, with the pixels in one array, as the older way's `read` does; `read` adds a dry run."""
    assert isinstance(store, BigqueryWarehouse)
    table = f"{store.access.project}.{store.dataset}.{EXAMPLES.name}"
    with_id = [bigquery.ScalarQueryParameter("id", "STRING", version.ingest_ids[0])]
    rows = store.access.read(f"SELECT example_id, image, label FROM `{table}` WHERE ingest_id = @id", with_id)
    return rows["example_id"].tolist(), np.frombuffer(b"".join(rows["image"]), np.uint8).reshape(len(rows), -1), rows["label"].tolist()


def _check(found: Rows, source: Source) -> None:
    keys, pixels, labels = found
    place = {key: row for row, key in enumerate(source.keys)}
    rows = [place[key] for key in keys]
    assert np.array_equal(pixels, source.images.reshape(len(source.images), -1)[rows])
    assert labels == [source.labels[row] for row in rows]


def _megabytes(kind: str, path: Path, what: str, version: DatasetVersion) -> float:
    """Return by how much a new process grows at most when it writes or reads the images."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_growth, kind, path, what, version).result()


def _growth(kind: str, path: Path, what: str, version: DatasetVersion) -> float:
    store, source = _connect(kind, path), sources.load(str(MNIST))
    # What is imported at the first use is no data.
    few = dataset.rows_from(sources.load("digits"))
    store.append(EXAMPLES, few)
    store.scan(EXAMPLES, {"ingest_id": [few["ingest_id"][0]]})
    Path("/proc/self/clear_refs").write_text("5", "utf-8")  # The high-water mark begins anew, see proc(5).
    before = _status("VmRSS")
    if what == WRITE:
        store.append(EXAMPLES, dataset.rows_from(source))
    else:
        dataset.load(store, version)
    return _status("VmHWM") - before


def _status(name: str) -> float:
    """Return an entry of this process's status, in MB."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
