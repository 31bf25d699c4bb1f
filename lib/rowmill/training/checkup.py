"""The check-up before a search's first trial: what would be wasted, and what it will take."""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rowmill.data.dataset import Dataset
from rowmill.errors import ParameterError, RowmillError
from rowmill.training import space
from rowmill.training.backend import keras
from rowmill.training.findings import Findings, Ranges, of_data
from rowmill.training.goal import Goal
from rowmill.training.networks import Network, Pixels

_STEPS = 3
_ROWS = 32
_TIMED_SECONDS = 0.5


def before(network: Network, ranges: Ranges, data: Dataset, goal: Goal) -> Findings:
    """Look for what would waste the search, and measure what it will take.

    Args:
        network: What will be trained.
        ranges: A checked space.
        data: The train and validation splits.
        goal: The budget.

    Raises:
        ParameterError: The defaults cannot be trained.
    """
    probe = _Probe(network, Pixels.of(data.train.images), data)
    defaults = {name: entry["default"] for name, entry in ranges.items()}
    try:
        seconds, megabytes, pace = _cost(probe, defaults, goal)
    except RowmillError:
        raise
    except Exception as error:  # pylint: disable=broad-exception-caught  # a user's builder may raise anything
        raise ParameterError(
            f"The defaults cannot be trained: {type(error).__name__}: {error}", found=str(defaults), step="mend the network or the space"
        ) from error
    idle = tuple(name for name in ranges if _is_idle(probe, ranges, defaults, name))
    wasted = [
        f"{name!r} changes nothing: its other values gave the same weights after {_STEPS} steps, from the defaults and wherever another"
        " hyperparameter was changed; use it in the network or leave it out of the space."
        for name in idle
    ]
    memory = f"A trial needs about {megabytes:.0f} MB beside the data, estimated from its weights, gradients, optimizer and activations."
    told = [*wasted, *probe.failures, *of_data(data), pace, memory]
    return Findings(tuple(told), idle, seconds, megabytes)


@dataclass
class _Probe:
    """Trains a network for a few steps, with the same seed and rows each time."""

    network: Network
    pixels: Pixels
    data: Dataset
    failures: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)

    def model(self, values: Mapping[str, Any]) -> Any:
        """Return the freshly initialised network."""
        keras.utils.set_random_seed(1)
        return self.network.build(values, self.pixels, len(self.data.version.labels), _STEPS)

    def seconds(self, model: Any, values: Mapping[str, Any], steps: int) -> float:
        """Return how long some steps take; a split that is too small for them is repeated."""
        batch, train = self.network.batch_size(values), self.data.train
        rows = np.resize(np.arange(len(train.keys)), steps * batch)
        images, targets = train.images[rows], train.targets[rows]
        started = time.perf_counter()
        model.fit(images, targets, batch_size=batch, shuffle=False, verbose=0)
        return time.perf_counter() - started

    def steps(self, model: Any, batch: int) -> None:
        """Take a few training steps eagerly: to trace a function would take longer.

        Of each batch only the first rows are seen; where it begins still tells one batch size from another.
        """
        train = self.data.train
        for step in range(_STEPS):
            rows = np.arange(step * batch, step * batch + min(batch, _ROWS)) % len(train.keys)
            model.train_step((train.images[rows], train.targets[rows]))

    def weights(self, values: Mapping[str, Any]) -> str:
        """Return a hash of the weights after a few steps; of values that cannot be built or trained, why."""
        key = repr(sorted(values.items()))
        if key not in self.known:
            try:
                model = self.model(values)
                self.steps(model, self.network.batch_size(values))
                parts = (repr(weight.shape).encode() + weight.tobytes() for weight in model.get_weights())
                self.known[key] = hashlib.sha256(b"".join(parts)).hexdigest()
            except Exception as error:  # pylint: disable=broad-exception-caught  # a user's builder may raise anything
                self.known[key] = f"{dict(values)} cannot be trained: {type(error).__name__}: {error}"
                self.failures.append(self.known[key])
        return self.known[key]


def _is_idle(probe: _Probe, ranges: Ranges, defaults: Mapping[str, Any], name: str) -> bool:
    """Return whether no other value changes the weights, at the defaults and wherever one other hyperparameter is changed.

    A hyperparameter that matters only under a certain choice of another one is thereby not accused.
    """
    others = [value for value in _few(ranges[name]) if value != defaults[name]]
    return bool(others) and all(
        probe.weights(point) == probe.weights({**point, name: value}) for point in _points(ranges, defaults, name) for value in others
    )


def _points(ranges: Ranges, defaults: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    yield dict(defaults)
    for other, entry in ranges.items():
        for value in _few(entry):
            if other != name and value != defaults[other]:
                yield {**defaults, other: value}


def _few(entry: Mapping[str, Any]) -> list[Any]:
    """Return all values of a choice, the ends of a range."""
    values = space.values_of(entry)
    return values if "values" in entry else [values[0], values[-1]]


def _cost(probe: _Probe, values: Mapping[str, Any], goal: Goal) -> tuple[float, float, str]:
    """Return the seconds and the megabytes of a trial, and what they mean for the search's length."""
    model, train = probe.model(values), probe.data.train
    traced, step = _measured(probe, model, values)
    batch, epochs = probe.network.batch_size(values), goal.epochs_for(len(train.keys))
    steps = math.ceil(len(train.keys) / batch)
    # Forward is about a third of a step: Kaplan et al. (2020), Scaling Laws, section 2.1.
    seconds = traced + epochs * step * (steps + len(probe.data.validation.keys) / batch / 3)
    need, budget = seconds * goal.trials, goal.minutes * 60
    pace = f"A trial takes about {_duration(seconds)}: {epochs} epochs of {steps} steps of {step * 1e3:.1f} ms."
    if need > budget:
        pace += f" In {_duration(budget)} there is time for about {max(1, int(budget / seconds))} of {goal.trials} trials."
    else:
        pace += f" {goal.trials} trials take about {_duration(need)} of the {_duration(budget)} given."
    return seconds, _megabytes(model, batch), pace


def _measured(probe: _Probe, model: Any, values: Mapping[str, Any]) -> tuple[float, float]:
    """Return the seconds of a first call, which traces the training, and of one step."""
    traced, once, step = probe.seconds(model, values, 1), probe.seconds(model, values, 1), 0.0
    for steps in (4, 32, 256):
        taken = probe.seconds(model, values, steps)
        step = max(0.0, taken - once) / (steps - 1)
        if taken > _TIMED_SECONDS:
            break
    return traced, step


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _megabytes(model: Any, batch: int) -> float:
    """Return the bytes of weights, gradients, optimizer and, forwards and backwards, of a batch's activations, in 10^6."""
    held = sum(math.prod(variable.shape) for variable in [*model.variables, *model.trainable_variables, *model.optimizer.variables])
    outputs = [tensor for layer in model.layers for tensor in keras.tree.flatten(layer.output)]
    active = sum(math.prod(side or 1 for side in tensor.shape) for tensor in outputs)
    return float(4 * (held + 2 * batch * active) / 1e6)
