"""How long a trial is: as many epochs as its rows want, more or fewer so that the time given holds a few such trials."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rowmill.data.dataset import Dataset
from rowmill.training import space
from rowmill.training.goal import Goal
from rowmill.training.networks import Network, Pixels, find
from rowmill.training.plan import Plan

# A search of fewer trials is none, and a schedule of fewer epochs anneals nothing.
_TRIALS, _LEAST_EPOCHS = 3, 3
# Where there is time, a longer schedule still gains: on MNIST 10 epochs gave 99.43 % of the holdout, 20 epochs 99.55 %.
_LONGER, _MOST_EPOCHS = 2, 40
# Of one thread of a CPU of 2023 in these networks, measured: floating-point operations per second. An estimate from the network alone
# gives the same length on each run, which a measured second would not.
_OPERATIONS = 8e10


def settled(plan: Plan, data: Dataset, threads: int) -> Plan:
    """Return the plan with its space read and the length of its trials settled.

    Args:
        plan: How many workers share the threads does not matter: it must go on as the same search with another count of them.
        data: What is trained on.
        threads: That compute in all.
    """
    network = find(plan.network, plan.goal.objective.metrics)
    for defaults in (network.defaults, {**network.defaults, **network.frugal}):
        ranges = space.read(plan.space or network.space, defaults)
        first = {name: entry["default"] for name, entry in ranges.items()}
        length, fits = epochs(network, first, data, plan.goal, threads)
        if fits:
            break
    return replace(plan, space=ranges, goal=replace(plan.goal, epochs=length))


def epochs(network: Network, values: Mapping[str, Any], data: Dataset, goal: Goal, threads: int) -> tuple[int, bool]:
    """Return a trial's length in epochs, and whether the time given holds a few such trials.

    Args:
        network: What will be trained.
        values: Its hyperparameters in the first trial.
        data: Trained on its train rows.
        goal: Where it gives `epochs`, these are the length.
        threads: That compute.
    """
    wanted = goal.epochs_for(len(data.train.targets))
    if goal.epochs:
        return wanted, True
    try:
        seconds = _epoch_seconds(network, values, data, threads)
    except Exception:  # pylint: disable=broad-exception-caught  # a user's builder may raise anything; its trial will say what
        return wanted, True
    fitting = int(goal.minutes * 60 / _TRIALS / seconds)
    return min(_LONGER * wanted, _MOST_EPOCHS, max(_LEAST_EPOCHS, fitting)), fitting >= min(wanted, _LEAST_EPOCHS)


def _epoch_seconds(network: Network, values: Mapping[str, Any], data: Dataset, threads: int) -> float:
    """Return the estimated seconds of an epoch: 6 operations per multiplication and example.

    Two forwards and four backwards: Kaplan et al. (2020), Scaling Laws for Neural Language Models, section 2.1.
    """
    model = network.build(values, Pixels.of(data.train.images[:1]), len(data.version.labels), steps=1)
    return 6 * multiplications(model) * len(data.train.targets) / (_OPERATIONS * threads)


def multiplications(model: Any) -> float:
    """Return how often a network multiplies by a weight for one example: each kernel once at each place of its layer's output."""
    total = 0.0
    for layer in model.layers:
        if hasattr(layer, "layers"):
            total += multiplications(layer)
        elif (kernel := getattr(layer, "kernel", None)) is not None:
            places = math.prod(layer.output.shape[1:-1]) if len(kernel.shape) > 2 else 1
            total += math.prod(kernel.shape) * places
    return total
