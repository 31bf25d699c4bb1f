"""A search beside stock Keras Tuner: overhead per trial, two workers against one process, what a kill costs.

Trials are as short as they can be (one epoch of the digits), so that what is measured is all that is not training. Runs of the two
sides take turns. `RUNS=5` is the least that counts; fewer only show that it works. Then the races on MNIST, see `races`, which FULL=1
makes longer and more.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from rowmill import settings
from rowmill.data import dataset, sources
from rowmill.data.dataset import Dataset
from rowmill.registry import Registry, connected
from rowmill.training import networks, search, study
from rowmill.training.search import Goal, Plan

from benchmarks import races
from benchmarks.figures import ROOT, Figure, conclude

RUNS = int(os.environ.get("RUNS", "5"))
TRIALS = 6
SPACE = {
    "units": {"type": "int", "min": 16, "max": 64, "default": 32},
    "dropout": {"type": "float", "min": 0.0, "max": 0.5, "default": 0.2},
}
SHORT = Plan("mlp", SPACE, Goal(1.0, TRIALS, 30, epochs=1), 1, "random", stop_early=False)
LONG = replace(SHORT, goal=Goal(1.0, 1, 30, epochs=60))

# What the process that is killed runs; its folder of state is its only argument.
KILLED = """
import sys
from pathlib import Path
from benchmarks.search import LONG, digits, project
from rowmill.training import search
models = project(Path(sys.argv[1]))
search.run(digits(models), models, LONG)
"""


def project(state: Path) -> Registry:
    """Return the registry of a project of its own."""
    return connected(replace(settings.load(ROOT), state=state, artefacts_root=state / "artefacts"))


def digits(models: Registry) -> Dataset:
    """Return the bundled digits, stored in the project's warehouse."""
    return dataset.load(models.warehouse, dataset.ingest(models.warehouse, sources.load("")))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Print nothing."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def ours(data: Dataset, plan: Plan) -> tuple[float, float]:
    """Return the CPU seconds of this process and the seconds that a search of ours takes, per trial."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        models, start, cpu = project(Path(folder)), time.perf_counter(), time.process_time()
        candidate = search.run(data, models, plan)
        spent = (time.process_time() - cpu, time.perf_counter() - start)
        count = len(models.siblings(candidate.trial))
    return spent[0] / count, spent[1] / count


def stock(data: Dataset, algorithm: str) -> tuple[float, float]:
    """Return the same of stock Keras Tuner on the same network, space and data."""
    network, pixels = networks.find("mlp"), networks.Pixels.of(data.train.images)

    def build(hp: Any) -> Any:
        values = {"units": hp.Int("units", 16, 64, default=32), "dropout": hp.Float("dropout", 0.0, 0.5, default=0.2)}
        return network.build(values, pixels, len(data.version.labels), 100)

    kind = {"random": keras_tuner.RandomSearch, "bayesian": keras_tuner.BayesianOptimization}[algorithm]
    with tempfile.TemporaryDirectory() as folder, quiet():
        start, cpu = time.perf_counter(), time.process_time()
        tuner = kind(build, "val_accuracy", max_trials=TRIALS, seed=1, directory=folder, project_name="stock")
        validation = (data.validation.images, data.validation.targets)
        tuner.search(data.train.images, data.train.targets, batch_size=64, epochs=1, validation_data=validation, verbose=0)
        return (time.process_time() - cpu) / TRIALS, (time.perf_counter() - start) / TRIALS


def lost_epochs() -> int:
    """Kill a search with signal 9 in the middle of a trial, and return how many ended epochs a resume would train again."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", KILLED, folder]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while sum(len(trial.curve) for trial in study.progress(Path(folder), "")) < 10:
                if process.poll() is not None:
                    raise RuntimeError("the search ended before it could be killed")
                time.sleep(0.002)
            process.kill()
        (trial,) = study.progress(Path(folder), "")
        kept = max(int(path.stem[1:]) for path in Path(folder).glob("searches/*/t001/e*.npz"))
    return len(trial.curve) - kept


def compared(name: str, runs: list[float], opponent: list[float], least: float) -> Figure:
    """Return a figure: how many times less our runs take than the opponent's."""
    value, against = statistics.median(runs), statistics.median(opponent)
    return Figure(name, value, "s", against, against / value, runs, f">= {least:g}", against / value >= least)


def overhead(data: Dataset, algorithm: str) -> Figure:
    """Compare CPU seconds per trial, after one run of each that is not counted."""
    pairs = [(ours(data, replace(SHORT, algorithm=algorithm))[0], stock(data, algorithm)[0]) for _ in range(RUNS + 1)][1:]
    return compared(f"CPU seconds per trial, {algorithm}, against stock Keras Tuner", [a for a, _ in pairs], [b for _, b in pairs], 1.5)


def two_workers(data: Dataset) -> Figure:
    """Compare seconds per trial of two workers with those of one process with two threads."""
    plan = replace(SHORT, goal=Goal(1.0, 24, 30, epochs=8))
    pairs = [(ours(data, replace(plan, workers=2))[1], ours(data, plan)[1]) for _ in range(RUNS)]
    return compared("seconds per trial, two workers against one process", [a for a, _ in pairs], [b for _, b in pairs], 1.3)


def kills() -> Figure:
    """Count what kills cost."""
    found = [float(lost_epochs()) for _ in range(RUNS)]
    most = max(found)
    return Figure("epochs lost by kill -9", most, "epochs", 1.0, most, found, "<= 1", most <= 1)


def main() -> None:
    """Measure, print, write, and fail where a target is missed."""
    keras.utils.set_random_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        data = digits(project(Path(folder)))
    own = [overhead(data, "random"), overhead(data, "bayesian"), two_workers(data), kills()]
    conclude("search", [*own, *races.figures()])


if __name__ == "__main__":
    main()
