"""One contender of a race: it searches MNIST on one thread, and prints after each epoch its CPU seconds and its best accuracy so far.

`python -m benchmarks.race CONTENDER NETWORK SEED SECONDS TARGET`; 10,000 of the 60,000 train images are the validation split. All have the
same space, networks and length of a trial. `random`, `bayesian` and `hyperband` are Keras Tuner as it is; with `+first`, and for `optuna`,
the algorithm alone is the peer's: its first trial and its way of training are rowmill's, so that equal values give equal networks. A race
ends when the CPU seconds are spent or the target is reached.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from rowmill import settings
from rowmill.data import sources
from rowmill.data.dataset import Dataset, Examples
from rowmill.records import DatasetVersion, Trial
from rowmill.registry import connected
from rowmill.training import networks, oracles, pace, search, space, study, trainer
from rowmill.training.goal import ACCURACY, Goal

from benchmarks.figures import ROOT

MNIST = Path(os.environ.get("ROWMILL_MNIST") or ROOT.parent / "shared" / "data" / "mnist")
ALL = 10**6
STOCK = {"random": keras_tuner.RandomSearch, "bayesian": keras_tuner.BayesianOptimization, "hyperband": keras_tuner.Hyperband}


class Race:
    """The clock and the best so far.

    Args:
        seconds: CPU seconds after which it ends.
        target: Validation accuracy at which it ends.
    """

    def __init__(self, seconds: float, target: float) -> None:
        self.seconds = seconds
        self.target = target
        self.best = 0.0
        self.trace: list[tuple[float, float]] = []
        self.start = time.process_time()

    @property
    def spent(self) -> float:
        """CPU seconds of this process since the start."""
        return time.process_time() - self.start

    def epoch(self, accuracy: float) -> None:
        """Note an epoch."""
        self.best = max(self.best, accuracy)
        self.trace.append((round(self.spent, 3), self.best))
        self.look(self.best >= self.target)

    def look(self, ended: bool = False) -> None:
        """End the process when the race is over."""
        if ended or self.spent > self.seconds:
            print(json.dumps(self.trace), flush=True)
            os._exit(0)

    def callback(self) -> Any:
        """Return what tells Keras's trainings to this race."""
        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda _, logs: self.epoch(logs["val_accuracy"]), on_train_batch_end=lambda _, logs=None: self.look()
        )


class Task:
    """What is searched: network, ranges, data and the length of a trial."""

    def __init__(self, name: str, seconds: float) -> None:
        self.folder = Path()
        self.data = _mnist()
        self.network = networks.find(name)
        self.goal = Goal(1.0, ALL, seconds / 60)
        settled = pace.settled(search.Plan(name, {}, self.goal), self.data, threads=1)
        assert isinstance(settled.space, Mapping)
        self.ranges, self.epochs = settled.space, settled.goal.epochs
        self.first = {key: entry["default"] for key, entry in self.ranges.items()}

    def build(self, values: Mapping[str, Any]) -> Any:
        """Return the compiled network of some values."""
        steps = self.epochs * -(-len(self.data.train.targets) // self.network.batch_size(values))
        return self.network.build(values, networks.Pixels.of(self.data.train.images), 10, steps)

    def train(  # pylint: disable=too-many-arguments,too-many-positional-arguments
        self,
        race: Race,
        values: Mapping[str, Any],
        seeds: tuple[int, int],
        epochs: int,
        parent: int | None = None,
        watch: Callable[[Trial], None] = lambda _: None,
    ) -> float:
        """Train one trial as rowmill does, and return its best accuracy."""

        def ended(so_far: Trial) -> None:
            race.epoch(so_far.curve[-1])
            watch(so_far)

        seed, number = seeds
        folders = [self.folder / str(place) for place in (number, parent) if place is not None]
        record = Trial(f"abcdefgh-t{number + 1:03d}", "s", "v", "running", {"network": self.network.name, **values}, seed=seed + number)
        job = trainer.Job(self.network, ACCURACY, self.data, self.epochs)
        return trainer.train(record, job, trainer.Course(folders[0], epochs, parent=folders[-1]), ended).score


def _mnist() -> Dataset:
    """Return 50,000 and 10,000 of the 60,000 train images; the test part is not read."""
    source = sources.load(str(MNIST))
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(~np.asarray(source.declared_holdout)))
    labels = np.asarray(source.labels)
    names = tuple(sorted(set(labels)))
    targets = np.searchsorted(names, labels)
    valid, train = (
        Examples([source.keys[place] for place in part], source.images[part], targets[part]) for part in (chosen[:10_000], chosen[10_000:])
    )
    return Dataset(DatasetVersion("v", "mnist", (), "", "", names, source.images.shape[1:], {}), train, valid)


def rowmill(race: Race, task: Task, seed: int) -> None:
    """Search with rowmill; its clock, too, is CPU seconds."""
    study.Study.spent = property(lambda _: race.spent)  # type: ignore[assignment,method-assign]
    search.WATCH_EVERY_SECONDS = 0.0
    seen: dict[str, int] = {}

    def watch(trials: Any) -> None:
        for trial in trials:
            if len(trial.curve) > seen.get(trial.model_id, 0):
                seen[trial.model_id] = len(trial.curve)
                race.epoch(max(trial.curve))

    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        models = connected(replace(settings.load(ROOT), state=state, artefacts_root=state / "artefacts"))
        search.run(task.data, models, search.Plan(task.network.name, {}, task.goal, seed), watch)


def stock(race: Race, task: Task, seed: int, kind: str) -> None:
    """Search with Keras Tuner as it is."""

    class Model(keras_tuner.HyperModel):  # type: ignore[misc]
        """The network, its batch size a hyperparameter."""

        def build(self, hp: Any) -> Any:
            """Return the compiled network."""
            return task.build(hp.values)

        def fit(self, hp: Any, model: Any, *_: Any, **rest: Any) -> Any:  # pylint: disable=arguments-differ
            """Train it as a user of Keras would."""
            train, valid = task.data.train, task.data.validation
            given = {"batch_size": task.network.batch_size(hp.values), "validation_data": (valid.images, valid.targets)}
            return model.fit(train.images, train.targets, **given, callbacks=rest["callbacks"], epochs=rest["epochs"], verbose=0)

    with tempfile.TemporaryDirectory() as folder:
        tuner = STOCK[kind](Model(), "val_accuracy", **_settings(task, seed, kind, folder))
        tuner.search(epochs=task.epochs, callbacks=[race.callback()], verbose=0)


def headed(race: Race, task: Task, seed: int, kind: str) -> None:
    """Search with Keras Tuner's algorithm, given our first trial and our way of training."""

    class Headed(STOCK[kind]):  # type: ignore[misc,valid-type]
        """Its first trial is the given one; each is trained as ours are."""

        def run_trial(self, trial: Any, *_: Any, **__: Any) -> dict[str, float]:
            """Train one trial."""
            values = trial.hyperparameters.values
            epochs, parent = values.get("tuner/epochs", task.epochs), values.get("tuner/trial_id")
            named = {name: value for name, value in values.items() if not name.startswith("tuner/")}
            return {"val_accuracy": task.train(race, named, (seed, int(trial.trial_id)), epochs, parent and int(parent))}

    with tempfile.TemporaryDirectory() as folder:
        task.folder = Path(folder)
        tuner = Headed(lambda hp: task.build(hp.values), "val_accuracy", **_settings(task, seed, kind, folder))
        suggest = tuner.oracle.populate_space

        def first(trial_id: str) -> Any:
            suggested = suggest(trial_id)
            if not tuner.oracle.trials:
                suggested["values"].update(task.first)
            return suggested

        tuner.oracle.populate_space = first
        tuner.search()


def _settings(task: Task, seed: int, kind: str, folder: str) -> dict[str, Any]:
    ranges = oracles.make("random", task.ranges, seed, task.epochs).hyperparameters
    length = {"max_epochs": task.epochs} if kind == "hyperband" else {"max_trials": ALL}
    return {"hyperparameters": ranges, "tune_new_entries": False, "seed": seed, "directory": folder, "project_name": kind, **length}


def optuna(race: Race, task: Task, seed: int) -> None:
    """Search with Optuna (TPE, pruning by the median), given our first trial and our way of training."""
    import optuna as peer  # type: ignore[import-not-found]  # pylint: disable=import-outside-toplevel,import-error

    def suggest(trial: Any, name: str, entry: Mapping[str, Any]) -> Any:
        if entry["type"] == "float" and "step" not in entry:
            return trial.suggest_float(name, entry["min"], entry["max"], log=entry.get("sampling") == "log")
        return trial.suggest_categorical(name, space.values_of(entry))

    def objective(trial: Any) -> float:
        def ended(so_far: Trial) -> None:
            trial.report(so_far.curve[-1], len(so_far.curve))
            if trial.should_prune():
                raise trainer.Stopped("stopped", "pruned")

        values = {name: suggest(trial, name, entry) for name, entry in task.ranges.items()}
        return task.train(race, values, (seed, trial.number), task.epochs, watch=ended)

    peer.logging.set_verbosity(peer.logging.ERROR)
    found = peer.create_study(direction="maximize", sampler=peer.samplers.TPESampler(seed=seed), pruner=peer.pruners.MedianPruner())
    found.enqueue_trial(task.first)
    with tempfile.TemporaryDirectory() as folder:
        task.folder = Path(folder)
        found.optimize(objective)


def main(contender: str, network: str, seed: int, seconds: float, target: float) -> None:
    """Run one race."""
    trainer.use_threads(1)
    keras.utils.set_random_seed(seed)
    task, (name, _, first) = Task(network, seconds), contender.partition("+")
    race = Race(seconds, target)
    if name == "rowmill":
        rowmill(race, task, seed)
    elif name == "optuna":
        optuna(race, task, seed)
    else:
        (headed if first else stock)(race, task, seed, name)
    race.look(ended=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
