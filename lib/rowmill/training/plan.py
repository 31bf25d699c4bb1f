"""What to search and how, as checked values; what makes two plans the same search."""

import dataclasses
import hashlib
import inspect
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rowmill.errors import ParameterError
from rowmill.training.goal import ALGORITHMS, Goal, Limit, Objective


@dataclass(frozen=True)
class Plan:
    """What to search, and how.

    Attributes:
        network: `cnn`, `mlp` or a user's own, see `networks.find`; with a partial or a closure a search never goes on.
        space: Hyperparameter name to its range, or the path of a file with it, see `space.read`; empty: the network's own.
        goal: What a trial is scored by, and when to stop.
        seed: Of the tuner's guesses and, with the trial's number added, of each trial; 0 draws one.
        algorithm: One of `goal.ALGORITHMS`; the first trial is the space's defaults with each.
        stop_early: Whether a trial that stays below the median of the ended ones is stopped; `hyperband` has its own way.
        trial_minutes: A trial that takes longer has failed; 0: no limit.
        workers: Processes that train at the same time, one thread each; 0 trains in this process with all threads.
        address: `host:port` on which workers of other machines are answered, too; empty: none are.
        refit: Whether the best values are trained again on train and validation rows in the end; the time budget does not count it.
        seeds: So many further seeds of the best values are trained in the end; see `findings.spread`.
        members: The candidate averages the probabilities of so many of the best trials.
    """

    network: str | Callable[..., Any]
    space: Mapping[str, Any] | str
    goal: Goal
    seed: int = 0
    algorithm: str = "bayesian"
    stop_early: bool = True
    trial_minutes: float = 0.0
    workers: int = 0
    address: str = ""
    refit: bool = False
    seeds: int = 0
    members: int = 1

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ParameterError(f"There is no algorithm {self.algorithm!r}", step=f"use one of {', '.join(ALGORITHMS)}")
        for name, least in (("seed", 0), ("trial_minutes", 0), ("workers", 0), ("seeds", 0), ("members", 1)):
            if not getattr(self, name) >= least:
                raise ParameterError(f"{name} cannot be below {least}", found=repr(getattr(self, name)), step=f"give {least} or more")
        if (self.workers or self.address) and callable(self.network):
            raise ParameterError(
                "Workers are processes of their own and cannot have a function of this one", step="give it as path/to/file.py:function"
            )

    def identity(self) -> dict[str, Any]:
        """Return what makes two plans the same search, as JSON would give it back; how many train at once does not."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("workers", "address", "network")}
        loaded: dict[str, Any] = json.loads(json.dumps({"network": _code(self.network), **values}, default=_plain))
        return loaded

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Plan":
        """Return the plan of an `identity`; its network must have a name."""
        objective = values["goal"]["objective"]
        weights = tuple((name, weight) for name, weight in objective["weights"])
        read = Objective(weights, tuple(Limit(**limit) for limit in objective["limits"]))
        return cls(**{**values, "network": values["network"].partition("#")[0], "goal": Goal(**{**values["goal"], "objective": read})})


def _code(network: str | Callable[..., Any]) -> str:
    """Return a network's name, and of a user's own what it was when the search began: changed code is another search."""
    path = Path(str(network).rpartition(":")[0])
    if callable(network):
        if not inspect.isfunction(network) or network.__closure__:
            # What it carries along cannot be told from its source: it is like no other, and never goes on.
            return f"{getattr(network, '__qualname__', 'callable')}#{secrets.token_hex(8)}"
        try:
            code = inspect.getsource(network).encode()
        except (OSError, TypeError):
            code = network.__code__.co_code
        return f"{network.__qualname__}#{hashlib.sha256(code).hexdigest()[:16]}"
    return f"{network}#{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}" if path.is_file() else network


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value.item() if isinstance(value, np.generic) else repr(value)
