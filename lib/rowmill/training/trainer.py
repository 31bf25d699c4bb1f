"""Trains one trial, epoch by epoch, so that a kill loses at most one of them and equal inputs give equal weights."""

import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from rowmill.data.dataset import Dataset, Examples
from rowmill.errors import SearchError
from rowmill.records import Trial, now
from rowmill.training import checkpoints, networks
from rowmill.training.backend import keras, tf
from rowmill.training.goal import SIZE, Objective
from rowmill.training.networks import Network, Pixels

_PREDICT_BATCH = 1024


class Stopped(Exception):
    """Ends a trial before its last epoch; `state` is what it becomes, `reason` why."""

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(reason)
        self.state = state


# Called after each epoch with the trial so far; raises `Stopped` to end it.
Watch = Callable[[Trial], None]


@dataclass(frozen=True)
class Job:
    """What all trials of a search share.

    Attributes:
        network: Builds what is trained.
        objective: Scores each epoch.
        data: Trained on its train rows, watched on its validation rows.
        epochs: Of a full trial; the learning rate's schedule is laid out for them.
    """

    network: Network
    objective: Objective
    data: Dataset
    epochs: int


@dataclass(frozen=True)
class Course:
    """One training's way.

    Attributes:
        folder: Where its checkpoints are; where none is, it starts from `parent`, else from nothing.
        epochs: It ends after so many.
        seconds: It has failed when it takes longer; 0: no limit.
        parent: The folder of a trial whose training it continues.
        until: Whether the search's time is up; a trial then ends in the middle of an epoch, but for its first.
    """

    folder: Path
    epochs: int
    seconds: float = 0.0
    parent: Path | None = None
    until: Callable[[], bool] = lambda: False


def use_threads(count: int) -> None:
    """Let TensorFlow compute with so many threads; before anything is computed."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


def threads() -> int:
    """Return how many threads compute."""
    return tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count() or 1


def mode() -> str:
    """Return what equal weights need besides equal inputs, to go on record.

    Op determinism costs at most 3 % here; with it the count of threads still decides in which order sums are taken.
    """
    tf.config.experimental.enable_op_determinism()
    # Each trial is a network of its own: that TensorFlow traces it anew is no fault.
    tf.get_logger().setLevel(logging.ERROR)
    return f"op determinism, {threads()} threads, TensorFlow {tf.__version__}"


def train(trial: Trial, job: Job, course: Course, watch: Watch) -> Trial:
    """Train from the last checkpoint, or from the start, and return the trial as it ended.

    Args:
        trial: Its values and seed.
        job: What and on what.
        course: Where to and how far.
        watch: Called after each epoch.

    Raises:
        SearchError: The loss or the objective is no number, a limit is broken, or the time is up.
        Exception: Whatever the network's builder or Keras raises.
    """
    started = replace(trial, mode=mode(), epochs=job.epochs)
    keras.utils.set_random_seed(trial.seed)
    model = built(trial, job)
    _check_size(model, job.objective)
    epochs = _Epochs(replace(started, **checkpoints.restored(model, (course.folder, course.parent))), job.objective, course, watch)
    rows = _Rows(job.data.train, trial.seed, job.network.batch_size(values(trial)))
    try:
        model.fit(
            rows.dataset,
            epochs=course.epochs,
            initial_epoch=len(epochs.trial.curve),
            shuffle=False,
            validation_data=_in_order(job.data.validation),
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=rows.begin), epochs],
            verbose=0,
        )
        ended = replace(epochs.trial, state="completed", at=now())
    except Stopped as end:
        ended = replace(epochs.trial, state=end.state, reason=str(end), at=now())
    if ended.score == -math.inf:
        raise SearchError(f"a limit of the objective is broken: {epochs.broken}", step="widen it, or the space")
    return ended


def built(trial: Trial, job: Job) -> Any:
    """Return a trial's compiled network with its first weights."""
    chosen, rows = values(trial), len(job.data.train.targets)
    steps = job.epochs * math.ceil(rows / job.network.batch_size(chosen))
    model = job.network.build(chosen, Pixels.of(job.data.train.images), len(job.data.version.labels), steps)
    model.optimizer.build(model.trainable_variables)
    return model


def values(trial: Trial) -> dict[str, Any]:
    """Return a trial's hyperparameters as its network takes them."""
    return {name: value for name, value in trial.hyperparameters.items() if name != "network"}


def at_epoch(trial: Trial, job: Job, course: Course, epoch: int) -> Any:
    """Return a trial's network with its weights after an epoch; where they are lost, it is trained again.

    Args:
        trial: One that has ended.
        job: As it was trained.
        course: As it was trained.
        epoch: Its best or its last one, counted from 1.

    Raises:
        SearchError: They are lost, and training does not give them back.
    """
    arrays = checkpoints.read(course.folder, epoch) or _trained_again(trial, job, course, epoch)
    model = built(trial, job)
    for place, variable in enumerate(model.variables):
        variable.assign(arrays[f"model{place}"])
    return model


def _trained_again(trial: Trial, job: Job, course: Course, epoch: int) -> dict[str, npt.NDArray[Any]]:
    """Return the state after an epoch, trained in a folder of its own: what lies beside the lost file may be of later epochs."""
    with tempfile.TemporaryDirectory() as folder:
        again = train(trial, job, replace(course, folder=Path(folder), epochs=epoch, seconds=0.0), lambda _: None)
        arrays = checkpoints.read(Path(folder), epoch)
    if arrays is None or (trial.curve and again.curve != trial.curve[:epoch]):
        raise SearchError(f"{trial.model_id}'s weights after epoch {epoch} are lost, and training gave others", step="search anew")
    return arrays


def scored(model: Any, job: Job) -> tuple[float, float]:
    """Return a compiled network's score and its accuracy, 0 to 1, on the validation rows."""
    logs = model.evaluate(_in_order(job.data.validation), return_dict=True, verbose=0)
    found = {**{f"val_{name}": float(value) for name, value in logs.items()}, SIZE: networks.size_mb(model)}
    return job.objective.score(found), found["val_accuracy"]


def _check_size(model: Any, objective: Objective) -> None:
    """Refuse a network that is too large before it is trained."""
    size = networks.size_mb(model)
    broken = [str(limit) for limit in objective.limits if limit.metric == SIZE and not limit.holds(size)]
    if broken:
        raise SearchError(f"{SIZE} {size:.3g} breaks {broken[0]}", step="widen it, or the space")


class _Rows:
    """The train rows in an order that seed and epoch alone decide, so that a resumed epoch sees them as the first one did."""

    def __init__(self, examples: Examples, seed: int, batch: int) -> None:
        self.epoch = tf.Variable(0, dtype=tf.int32, trainable=False)
        count = len(examples.targets)

        def shuffled(_: Any) -> Any:
            order = tf.random.experimental.stateless_shuffle(tf.range(count), [seed, self.epoch])
            return tf.data.Dataset.from_tensor_slices(order).batch(batch)

        self.dataset = _picked(examples, tf.data.Dataset.range(1).flat_map(shuffled), math.ceil(count / batch))

    def begin(self, epoch: int, _: Any = None) -> None:
        """Lay out the order of this epoch."""
        self.epoch.assign(epoch)


def _in_order(examples: Examples) -> Any:
    """Return the examples in large batches."""
    count = len(examples.targets)
    return _picked(examples, tf.data.Dataset.range(count).batch(_PREDICT_BATCH), math.ceil(count / _PREDICT_BATCH))


def _picked(examples: Examples, places: Any, batches: int) -> Any:
    """Return a dataset of (images, targets) from one of places, (batch,), one prepared while the one before is in use."""
    images, targets = tf.constant(examples.images), tf.constant(examples.targets)
    picked = places.map(lambda chosen: (tf.gather(images, chosen), tf.gather(targets, chosen)))
    return picked.apply(tf.data.experimental.assert_cardinality(batches)).prefetch(2)


class _Epochs(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """After each epoch: the curve, the checkpoint, and whoever watches; between batches, the time-out."""

    def __init__(self, trial: Trial, objective: Objective, course: Course, watch: Watch) -> None:
        super().__init__()
        self.trial = trial
        self.objective = objective
        self.course = course
        self.watch = watch
        self.broken = ""
        self.before = trial.seconds
        self.begun = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """End a trial that takes too long, or longer than the search."""
        self._end_with_the_search()
        if 0 < self.course.seconds < self._seconds():
            raise SearchError(f"it took longer than {self.course.seconds / 60:g} minutes", step="raise trial_minutes, or narrow the space")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Note one epoch, and write what a resume needs."""
        found = {**{name: float(value) for name, value in (logs or {}).items()}, SIZE: networks.size_mb(self.model)}
        score = self.objective.score(found)
        if math.isnan(score) or not all(math.isfinite(found[name]) for name in ("loss", "val_loss")):
            raise SearchError("the loss or the objective is not a finite number", step="a smaller learning_rate may help")
        self.broken = self.objective.broken(found)
        accuracy = found["val_accuracy"] if score > max(self.trial.curve, default=-math.inf) else self.trial.accuracy
        curve = (*self.trial.curve, score)
        self.trial = replace(self.trial, curve=curve, score=max(curve), accuracy=accuracy, seconds=self._seconds())
        checkpoints.save(self.model, self.trial, self.course.folder)
        self.watch(self.trial)
        self._end_with_the_search()

    def _end_with_the_search(self) -> None:
        if self.trial.curve and self.course.until():
            raise Stopped("completed", "the search's time was up")

    def _seconds(self) -> float:
        return self.before + time.monotonic() - self.begun
