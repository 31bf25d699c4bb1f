"""How long MNIST's 70,000 images take to be scored by the built-in `cnn`, from the files to the table of predictions.

The network's values are its defaults; it is not trained, and takes no less time to answer for that.
"""

import dataclasses
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rowmill import settings
from rowmill.data import sources
from rowmill.data.dataset import Dataset, Examples
from rowmill.data.sources import Reading, Source
from rowmill.monitoring import batch
from rowmill.records import Candidate, DatasetVersion, Trial
from rowmill.registry import connected
from rowmill.serving import release
from rowmill.serving.release import Service
from rowmill.tables import SCORES
from rowmill.training import artefact, networks

from benchmarks.figures import ROOT, Figure, seconds

MNIST = Path(os.environ.get("ROWMILL_MNIST") or ROOT.parent / "shared" / "data" / "mnist")
MODEL, RUNS, MOST_SECONDS = "benchmar-t001", 3, 30.0


def figures() -> list[Figure]:
    """Return how long it takes, from the files to the last row in SQLite; each run into a warehouse of its own."""
    if not MNIST.exists():
        print(f"NOTHING WAS MEASURED of batches: {MNIST} is not there; set ROWMILL_MNIST to the folder that holds it.")
        return []
    runs = [_run() for _ in range(RUNS)]
    value = statistics.median(runs)
    return [Figure("scoring 70,000 images", value, "s", MOST_SECONDS, MOST_SECONDS / value, runs, ">= 1", value <= MOST_SECONDS)]


def _run() -> float:
    with tempfile.TemporaryDirectory() as folder:
        service = _service(Path(folder))
        took = seconds(lambda: batch.score(service, sources.load(str(MNIST), Reading(labelled=False)), MODEL))
        assert len(service.registry.warehouse.read(SCORES, None, ("row",))) == 70_000
    return took


def _service(state: Path) -> Service:
    """Return a service with the network among its models."""
    project = dataclasses.replace(settings.load(ROOT), state=state, artefacts_root=state / "artefacts")
    service, source = release.open_service(project, "mnist"), sources.load(str(MNIST))
    labels = tuple(str(digit) for digit in range(10))
    version = DatasetVersion("0" * 12, "mnist", ("i",), "0" * 64, "MNIST", labels, (28, 28, 1), {})
    rows = _examples(source, slice(0, 1000))
    network = networks.find("cnn").build({}, networks.Pixels.of(rows.images), len(labels), steps=1)
    trial = Trial(MODEL, "mnist", version.version, "completed", {}, 0.1, accuracy=0.1)
    artefact.export(Candidate(trial, network), Dataset(version, rows, rows), connected(project))
    return service


def _examples(source: Source, chosen: slice) -> Examples:
    targets: Sequence[int] = [int(label) for label in source.labels[chosen]]
    return Examples(source.keys[chosen], source.images[chosen], np.array(targets))
