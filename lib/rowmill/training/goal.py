"""What a search is after and when it ends: the objective and the goal as checked values, and the algorithms' names."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rowmill.errors import ParameterError

ALGORITHMS = ("random", "bayesian", "hyperband", "grid")
SIZE = "size_mb"
_LOWER_IS_BETTER = ("nll", SIZE)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_LIMIT = re.compile(rf"(?P<metric>\w+)\s*(?P<relation><=|>=)\s*(?P<bound>{_NUMBER})", re.IGNORECASE)
_TERM = re.compile(rf"(?:(?P<way>max|min)\s*:\s*|(?P<weight>{_NUMBER})\s*\*\s*)?(?P<metric>[a-z]\w*)", re.IGNORECASE)


@dataclass(frozen=True)
class Limit:
    """A bound that a trial must keep; `relation` is `<=` or `>=`."""

    metric: str
    relation: str
    bound: float

    def __str__(self) -> str:
        return f"{self.metric} {self.relation} {self.bound:g}"

    def holds(self, value: float) -> bool:
        """Return whether a value keeps the bound; NaN does not."""
        return value <= self.bound if self.relation == "<=" else value >= self.bound


@dataclass(frozen=True)
class Objective:
    """What a trial is scored by, from the logs of an epoch; made by `parse`.

    Attributes:
        weights: Pairs of metric and weight; the score is their weighted sum, and a metric of which less is better has a weight
            below 0.
        limits: What a trial must keep to win at all.
    """

    weights: tuple[tuple[str, float], ...]
    limits: tuple[Limit, ...] = ()

    @classmethod
    def parse(cls, given: "str | Mapping[str, str | float] | Objective") -> "Objective":
        """Read an objective.

        Args:
            given: `accuracy`, `nll` (the mean negative logarithm of the true label's probability, in nats), or a Keras metric
                with its direction, as in `max:top_k_categorical_accuracy`. Several, with commas between, are a weighted sum
                and limits, as in `1*accuracy, -0.1*nll` or `accuracy, size_mb <= 1`. As a mapping (or its JSON):
                `{"accuracy": 1.0, "nll": -0.1}`, `{"accuracy": "max", "size_mb": "<= 1"}`.
                `size_mb` is that of the exported float32 file, estimated by 4 bytes per parameter, in 10^6 bytes.

        Raises:
            ParameterError: It cannot be read, or asks for nothing.
        """
        if isinstance(given, Objective):
            return given
        if isinstance(given, str) and given.lstrip().startswith("{"):
            given = _from_json(given)
        parts = _terms_of(given) if isinstance(given, Mapping) else str(given).split(",")
        matches = [_LIMIT.fullmatch(part.strip()) or _TERM.fullmatch(part.strip()) for part in parts]
        for part, match in zip(parts, matches, strict=True):
            if match is None:
                raise _unreadable(part)
        read = [match.groupdict() for match in matches if match]
        limits = tuple(Limit(part["metric"], part["relation"], float(part["bound"])) for part in read if "relation" in part)
        wanted = [part for part in read if "relation" not in part]
        if len(wanted) > 1 and not all(part["weight"] for part in wanted):
            raise ParameterError("Several metrics need a weight each", found=str(given), step="give such as '1*accuracy, -0.1*nll'")
        return cls(tuple((part["metric"], _weight(part)) for part in wanted), limits)

    def __post_init__(self) -> None:
        names = [name for name, _ in self.weights]
        if not names or SIZE in names or len(set(names)) < len(names):
            raise ParameterError(
                f"An objective needs one metric or more, each once, and {SIZE} only as a limit", found=str(self), step="give 'accuracy'"
            )

    def __str__(self) -> str:
        if len(self.weights) == 1 and abs(self.weights[0][1]) == 1:
            name, weight = self.weights[0]
            natural = name in ("accuracy", *_LOWER_IS_BETTER)
            terms = [name if natural else f"{'max' if weight > 0 else 'min'}:{name}"]
        else:
            terms = [f"{weight:g}*{name}" for name, weight in self.weights]
        return ", ".join([*terms, *map(str, self.limits)])

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that a network must be compiled with beside `accuracy`: Keras's, and `nll`."""
        names = [name for name, _ in self.weights] + [limit.metric for limit in self.limits]
        return tuple(name for name in dict.fromkeys(names) if name not in ("accuracy", SIZE))

    def score(self, logs: Mapping[str, float]) -> float:
        """Return an epoch's score: higher is better.

        NaN when a metric is missing or not a finite number, minus infinity when a limit is broken: neither ever wins.

        Args:
            logs: Keras's logs of the epoch, `val_` before the names of metrics, and `size_mb`.
        """
        values = {name: _logged(logs, name) for name in (*dict(self.weights), *(limit.metric for limit in self.limits))}
        if not all(math.isfinite(value) for value in values.values()):
            return math.nan
        if not all(limit.holds(values[limit.metric]) for limit in self.limits):
            return -math.inf
        return sum(weight * values[name] for name, weight in self.weights)

    def broken(self, logs: Mapping[str, float]) -> str:
        """Return which limits these logs break, as in `size_mb 1.9 breaks size_mb <= 1`; empty when none."""
        values = [(limit, _logged(logs, limit.metric)) for limit in self.limits]
        return ", ".join(f"{limit.metric} {value:.4g} breaks {limit}" for limit, value in values if not limit.holds(value))

    def natural(self, score: float) -> str:
        """Return a score for people, as in `nll 0.081`."""
        if score == -math.inf:
            return "a limit is broken"
        name, value = self.named(score)
        return f"{name} {value:.4f}"

    def named(self, score: float) -> tuple[str, float]:
        """Return the metric's name and value where there is but one, else `objective` and the weighted sum."""
        if len(self.weights) > 1:
            return "objective", score
        name, weight = self.weights[0]
        return name, score / weight

    def score_at(self, target: float) -> float:
        """Return the score at a target in the objective's natural direction: for `nll` 0.08 it is -0.08."""
        return target if len(self.weights) > 1 else target * self.weights[0][1]


ACCURACY = Objective((("accuracy", 1.0),))


@dataclass(frozen=True)
class Goal:
    """When a search ends: at the target, or when its budget is spent.

    Attributes:
        target: The search stops when a trial reaches it: of `accuracy` 0.98 or more, of `nll` 0.08 or less; of several metrics
            the weighted sum.
        trials: At most so many.
        minutes: At most so long, counted from the search's first start.
        epochs: Length of one trial; 0 chooses by the count of training rows and the time given.
        patience: The search stops after so many trials without a better one; 0: never.
        objective: What a trial is scored by.
    """

    target: float
    trials: int
    minutes: float
    epochs: int = 0
    patience: int = 0
    objective: Objective = ACCURACY

    def __post_init__(self) -> None:
        if self.objective.weights == ACCURACY.weights and not 0 < self.target <= 1:
            raise ParameterError(f"The goal must be an accuracy above 0 and at most 1, found {self.target}", step="give 0.98 for 98 %")
        if not math.isfinite(self.target):
            raise ParameterError("The goal must be a finite number", found=str(self.target), step="give one")
        if self.trials < 1 or not 0 < self.minutes < math.inf or self.epochs < 0 or self.patience < 0:
            given = f"{self.trials}, {self.minutes}, {self.epochs} and {self.patience}"
            raise ParameterError(
                f"The budget needs trials >= 1, minutes > 0, epochs >= 0 and patience >= 0, found {given}", step="give such values"
            )

    def epochs_for(self, rows: int) -> int:
        """Return the length of a trial: about 500,000 examples seen, in 8 to 40 epochs."""
        return self.epochs or max(8, min(40, 500_000 // rows))

    def reached(self, score: float) -> bool:
        """Return whether a score is the goal's; NaN is not."""
        return score >= self.objective.score_at(self.target)

    def over(self, scores: Sequence[float], seconds: float) -> str:
        """Return why the search ends now; empty while it goes on.

        Args:
            scores: Of the trials that ended, in order; NaN for one that failed.
            seconds: Since the search's first start.
        """
        if any(self.reached(score) for score in scores):
            return "the goal is reached"
        if len(scores) >= self.trials:
            return f"{self.trials} trials are done"
        if seconds >= self.minutes * 60:
            return f"the {self.minutes:g} min are spent"
        if self.patience and _since_best(scores) >= self.patience:
            return f"{self.patience} trials brought nothing better"
        return ""


def _since_best(scores: Sequence[float]) -> int:
    """Return how many trials ended since the best one; all when none has a finite score."""
    finite = [(score, -place) for place, score in enumerate(scores) if math.isfinite(score)]
    return len(scores) - 1 + max(finite)[1] if finite else len(scores)


def _logged(logs: Mapping[str, float], metric: str) -> float:
    return float(logs.get(metric if metric == SIZE else f"val_{metric}", math.nan))


def _from_json(text: str) -> Mapping[str, str | float]:
    try:
        read: Mapping[str, str | float] = json.loads(text)
    except json.JSONDecodeError as error:
        raise _unreadable(text) from error
    return read


def _terms_of(given: Mapping[str, str | float]) -> list[str]:
    """Return a mapping's entries as terms of the text form."""
    terms = []
    for name, value in given.items():
        if value in ("max", "min"):
            terms.append(f"{value}:{name}")
        elif isinstance(value, str):
            terms.append(f"{name} {value}")
        else:
            terms.append(f"{value}*{name}")
    return terms


def _weight(part: Mapping[str, str]) -> float:
    """Return a metric's weight; below 0 where less is better."""
    name, way = part["metric"], (part["way"] or "").lower()
    lower, known = name in _LOWER_IS_BETTER, name in ("accuracy", *_LOWER_IS_BETTER)
    if part["weight"]:
        weight = float(part["weight"])
    elif way or known:
        weight = -1.0 if way == "min" or (lower and not way) else 1.0
    else:
        raise ParameterError(f"Metric {name!r} needs a direction", step=f"give 'max:{name}' or 'min:{name}'")
    if not weight or (known and (weight < 0) != lower):
        better = "less" if lower else "more"
        raise ParameterError(f"Of {name} {better} is better", found=f"weight {weight:g}", step="turn its sign or direction round")
    return weight


def _unreadable(part: str) -> ParameterError:
    return ParameterError(
        f"{part.strip()!r} is no part of an objective",
        step="give such as 'accuracy', 'nll', 'max:recall', '1*accuracy, -0.1*nll' or 'accuracy, size_mb <= 1'",
    )
