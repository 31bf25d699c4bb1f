"""The networks that a search can train, built-in or a user's own: uint8 pixels in, probabilities out, compiled."""

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rowmill.errors import ParameterError
from rowmill.training import architectures, builtin
from rowmill.training.backend import keras

# How a user's own network is trained where its values do not say.
_TRAINING = {"optimizer": "adam", "learning_rate": 1e-3, "schedule": "cosine", "batch_size": 64}
_MOMENTUM = 0.9
_STEPS_PER_CALL = 16

_PER_CLASS = ("F1Score", "FBetaScore")
# Keras's metrics by their names without capitals; those left out compare no targets with probabilities.
_METRICS = {
    kind.lower(): kind
    for kind, value in vars(keras.metrics).items()
    if isinstance(value, type) and kind not in ("Metric", "Mean", "Sum", "MeanMetricWrapper", "Accuracy")
}

Builder = Callable[[Mapping[str, Any], "Pixels", int], Any]


@dataclass(frozen=True)
class Pixels:
    """What a network must know of its input.

    Attributes:
        shape: (height, width, channels).
        mean, variance: Per channel, over the train split's pixel values.
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    variance: tuple[float, ...]

    @classmethod
    def of(cls, images: npt.NDArray[np.uint8]) -> "Pixels":
        """Measure images, (examples, height, width, channels)."""
        values = images.reshape(-1, images.shape[-1])
        variance = np.maximum(values.var(axis=0, dtype=np.float64), 1.0)
        return cls(images.shape[1:], tuple(values.mean(axis=0, dtype=np.float64).tolist()), tuple(variance.tolist()))


@dataclass(frozen=True)
class Network:
    """A network that a search can train.

    Attributes:
        name: `cnn`, `mlp`, or where a user's own comes from.
        builder: Takes the values, the pixels and the count of classes, and returns a Keras model, compiled or not.
        defaults: Every hyperparameter with a sound value; empty for a user's own.
        space: The ranges that a search tries where it is given none; empty for a user's own.
        metrics: Keras metrics to log beside `loss` and `accuracy`.
        frugal: Values for a first trial where the time is too short for that of the defaults.
    """

    name: str
    builder: Builder
    defaults: dict[str, Any] = field(default_factory=dict)
    space: dict[str, dict[str, Any]] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    frugal: dict[str, Any] = field(default_factory=dict)

    def batch_size(self, values: Mapping[str, Any]) -> int:
        """Return how many examples a training step takes."""
        return int({**_TRAINING, **self.defaults, **values}["batch_size"])

    def build(self, values: Mapping[str, Any], pixels: Pixels, classes: int, steps: int) -> Any:
        """Return a compiled Keras model.

        Preprocessing is a layer of the model, so that no caller can forget or double it.

        Args:
            values: Hyperparameters; those not named take the network's defaults.
            pixels: The input, uint8 (batch, height, width, channels).
            classes: Probabilities per example, (batch, classes).
            steps: Training steps in all, over which the learning rate's schedule runs.

        Raises:
            ParameterError: A value cannot be used, or a user's builder returns something else than such a model.
        """
        chosen = {**self.defaults, **values}
        model = self.builder(chosen, pixels, classes)
        if not self.defaults:
            _check_own(self.name, model, pixels, classes)
        given = getattr(model, "optimizer", None) if getattr(model, "compiled", False) else None
        model.compile(
            given or _optimizer({**_TRAINING, **chosen}, steps),
            "sparse_categorical_crossentropy",
            metrics=["accuracy", *map(_metric, self.metrics)],
            # Keras would choose XLA, which trained these networks three times slower on CPUs.
            jit_compile=False,
            steps_per_execution=_STEPS_PER_CALL,
        )
        return model


def find(network: str | Builder, metrics: tuple[str, ...] = ()) -> Network:
    """Return a network.

    Args:
        network: `cnn`, `mlp`, a user's own `path/to/file.py:function`, or the function itself. It takes (values, pixels, classes)
            and returns a Keras model of uint8 images (batch, height, width, channels) that ends with probabilities (batch, classes).
            rowmill sets loss and metrics, and the optimizer where the model is not compiled, by the values `optimizer` (adam or
            sgd), `learning_rate` and `schedule` (cosine or constant); `batch_size` is the trainer's in any case.
        metrics: Keras metrics to log beside `loss` and `accuracy`, by Keras's names.

    Raises:
        ParameterError: There is no such network, file, function or metric.
    """
    for metric in metrics:
        _metric(metric)
    if callable(network):
        return Network(getattr(network, "__name__", "your function"), network, metrics=metrics)
    if network in builtin.DEFAULTS:
        own, space = builtin.DEFAULTS[network], builtin.SPACES[network]
        return Network(network, getattr(architectures, network), dict(own), space, metrics, builtin.FRUGAL[network])
    path, separator, function = network.rpartition(":")
    if not separator or not path.endswith(".py"):
        known = ", ".join(builtin.DEFAULTS)
        raise ParameterError(f"There is no network {network!r}", step=f"use one of {known}, or your own as path/to/file.py:function")
    return Network(network, _load(Path(path), function), metrics=metrics)


def average(members: Sequence[Any], metrics: tuple[str, ...]) -> Any:
    """Return a network whose probabilities are the mean of its members', which take the same images; compiled with these metrics."""
    images = keras.Input(members[0].inputs[0].shape[1:], dtype="uint8")
    # Keras lets no two layers have one name, and a user's models may.
    named = [keras.Model(member.inputs, member.outputs[0], name=f"member_{place}") for place, member in enumerate(members)]
    model = keras.Model(images, keras.layers.Average()([member(images) for member in named]))
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy", *map(_metric, metrics)], jit_compile=False)
    return model


def size_mb(model: Any) -> float:
    """Return the estimated size of the exported float32 file in 10^6 bytes: 4 per parameter."""
    return float(model.count_params() * 4 / 1e6)


def _load(path: Path, function: str) -> Builder:
    if not path.is_file():
        raise ParameterError(f"The network's file {path} is not there", step="give the path of a Python file, then : and the function")
    spec = importlib.util.spec_from_file_location(f"rowmill_network_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # pylint: disable=broad-exception-caught  # a user's file may raise anything
        raise ParameterError(f"The network's file {path} stops with {type(error).__name__}: {error}", step="mend the file") from error
    found = getattr(module, function, None)
    if not callable(found):
        there = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise ParameterError(f"{path} has no function {function!r}", found=", ".join(there), step="name one that is there")
    return found  # type: ignore[no-any-return]


def _check_own(name: str, model: Any, pixels: Pixels, classes: int) -> None:
    """Hold a user's model against what training and serving need."""

    def wrong(what: str, found: object) -> ParameterError:
        return ParameterError(f"Network {name} must {what}", found=str(found), step="mend the function")

    if not isinstance(model, keras.Model) or not model.built:
        raise wrong("return a keras.Model that knows its input", type(model).__name__)
    if len(model.inputs) != 1 or model.inputs[0].shape != (None, *pixels.shape):
        raise wrong(f"take one input of shape {(None, *pixels.shape)}", [tensor.shape for tensor in model.inputs])
    if model.inputs[0].dtype != "uint8":
        raise wrong("take pixels as uint8 and scale them itself, as with keras.Input(pixels.shape, dtype='uint8')", model.inputs[0].dtype)
    if len(model.outputs) != 1 or model.outputs[0].shape != (None, classes):
        raise wrong(f"return one output of shape {(None, classes)}", [tensor.shape for tensor in model.outputs])
    answer = np.asarray(model(np.zeros((1, *pixels.shape), np.uint8), training=False))
    if not (answer >= 0).all() or not math.isclose(float(answer.sum()), 1.0, abs_tol=1e-3):
        raise wrong("end with probabilities, as by activation='softmax'", f"a sum of {answer.sum():.3g} for one image")


def _optimizer(values: Mapping[str, Any], steps: int) -> Any:
    rate, name, schedule = values["learning_rate"], values["optimizer"], values["schedule"]
    if schedule not in builtin.SCHEDULES or name not in builtin.OPTIMIZERS:
        raise ParameterError(
            f"The optimizer must be one of {', '.join(builtin.OPTIMIZERS)}, the schedule one of {', '.join(builtin.SCHEDULES)}",
            found=f"{name} and {schedule}",
            step="mend the space",
        )
    if not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise ParameterError("The learning_rate must be above 0", found=repr(rate), step="mend the space")
    if schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, max(1, steps))
    return keras.optimizers.Adam(rate) if name == "adam" else keras.optimizers.SGD(rate, momentum=_MOMENTUM, nesterov=True)


@keras.saving.register_keras_serializable("rowmill")
class OneHot(keras.metrics.Metric):  # type: ignore[misc]
    """A Keras metric that wants targets as (batch, classes), given ours, which are class numbers (batch,)."""

    def __init__(self, metric: Any, name: str = "", **rest: Any) -> None:
        super().__init__(name=name, **rest)
        self.metric = metric

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # pylint: disable=arguments-differ
        """Count one batch."""
        targets = keras.ops.one_hot(keras.ops.reshape(y_true, (-1,)), y_pred.shape[-1])
        self.metric.update_state(targets, y_pred, sample_weight)

    def result(self) -> Any:
        """Return the metric over all batches since the last reset."""
        return self.metric.result()

    def reset_state(self) -> None:
        """Begin anew."""
        self.metric.reset_state()


def _metric(name: str) -> Any:
    """Return a Keras metric by its name in Keras, such as `recall` or `F1Score`, for targets that are class numbers.

    A score per class is averaged over the classes. `nll` is the loss without what regularizers add to it.
    """
    if name == "nll":
        return keras.metrics.SparseCategoricalCrossentropy(name=name)
    kind = _METRICS.get(name.replace("_", "").lower(), "")
    try:
        metric = getattr(keras.metrics, kind)(name=name, **({"average": "macro"} if kind in _PER_CLASS else {}))
    except (AttributeError, TypeError) as error:
        raise ParameterError(
            f"{name!r} is no metric of Keras that needs no arguments",
            step="use such as recall, f1_score or top_k_categorical_accuracy",
        ) from error
    return metric if kind.startswith("Sparse") else OneHot(metric, name)
