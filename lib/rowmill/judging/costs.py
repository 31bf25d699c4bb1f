"""What a wrong answer costs its user: the cost matrix, the expected cost per 1,000 requests, an abstain threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from rowmill.errors import SettingsError
from rowmill.judging import statistics
from rowmill.judging.statistics import Floats, Labels

REQUESTS = 1000
ABSTAIN = "abstain"


@dataclass(frozen=True)
class Costs:
    """What each answer costs.

    Attributes:
        matrix: (labels, labels): of the row's true label, answered as the column's.
        abstain: (labels,): of no answer; None where there is no such column.
        below: The confidence below which an answer counts as abstained; 0: never.
    """

    matrix: Floats
    abstain: Floats | None = None
    below: float = 0.0

    def of(self, probabilities: Floats, targets: Labels) -> Floats:
        """Return each row's cost, (rows,)."""
        cost: Floats = self.matrix[targets, probabilities.argmax(axis=1)]
        if self.abstain is not None:
            cost = np.where(self.abstained(probabilities), self.abstain[targets], cost)
        return cost

    def abstained(self, probabilities: Floats) -> npt.NDArray[np.bool_]:
        """Return which rows get no answer, bool, (rows,)."""
        unsure: npt.NDArray[np.bool_] = probabilities.max(axis=1) < (self.below if self.abstain is not None else 0.0)
        return unsure

    def by_threshold(self, probabilities: Floats, targets: Labels, thresholds: Sequence[float]) -> pd.DataFrame:
        """Return what abstaining below each threshold would cost: columns threshold, cost per 1,000 requests, abstained (share)."""
        sides = [Costs(self.matrix, self.abstain, threshold) for threshold in thresholds]
        rows = [
            (side.below, REQUESTS * float(side.of(probabilities, targets).mean()), float(side.abstained(probabilities).mean()))
            for side in sides
        ]
        return pd.DataFrame(rows, columns=["threshold", "cost", "abstained"])


@dataclass(frozen=True)
class Saving:
    """Expected cost per 1,000 requests of both sides; `saving` is theirs less ours, with its 95 % interval."""

    ours: float
    theirs: float
    saving: float
    low: float
    high: float
    p_value: float
    abstained: tuple[float, float]


def compare(costs: Costs, targets: Labels, ours: Floats, theirs: Floats) -> Saving:
    """Compare what two sides' answers, probabilities (rows, labels) each, cost."""
    first, second = costs.of(ours, targets), costs.of(theirs, targets)
    mean, low, high = (REQUESTS * value for value in statistics.mean_interval(second - first))
    shares = float(costs.abstained(ours).mean()), float(costs.abstained(theirs).mean())
    cost = REQUESTS * float(first.mean()), REQUESTS * float(second.mean())
    return Saving(*cost, mean, low, high, statistics.sign_flip(second - first), shares)


def load(path: Path, labels: Sequence[str], below: float = 0.0) -> Costs:
    """Read a cost matrix.

    Args:
        path: A CSV file: a column per answered label, and `abstain` if you like, behind a first one with the true labels.
        labels: The labels, in the order of a model's probabilities.
        below: The abstain threshold.

    Raises:
        SettingsError: It is no such file, lacks a label, has an unknown one, or holds something else than costs.
    """
    try:
        frame = pd.read_csv(path, index_col=0, dtype=str).rename(index=str, columns=str)
    except (OSError, ValueError) as error:
        raise SettingsError(f"The cost matrix {path} cannot be read: {error}", step="name a CSV file as gate.costs, or none") from error
    wanted = {"rows": set(labels), "columns": {*labels, ABSTAIN} if ABSTAIN in frame.columns else set(labels)}
    for what, names in (("rows", frame.index), ("columns", frame.columns)):
        if differing := sorted(set(names) ^ wanted[what]) or sorted(names[names.duplicated()]):
            raise SettingsError(
                f"The cost matrix {path} must have the labels as its {what}, each once",
                found=f"a difference in {', '.join(differing[:8])}",
                step=f"use {', '.join(list(labels)[:12])}",
            )
    values = frame.loc[list(labels)].apply(pd.to_numeric, errors="coerce")
    if not np.isfinite(values.to_numpy()).all() or (np.diag(values[list(labels)]) != 0).any() or (values < 0).to_numpy().any():
        raise SettingsError(f"The cost matrix {path} must hold costs of at least 0", step="write 0 on its diagonal: right answers are free")
    if below and ABSTAIN not in values:
        raise SettingsError(
            f"gate.abstain_below = {below:g} needs to know what no answer costs", step=f"add a column {ABSTAIN!r} to the cost matrix {path}"
        )
    return Costs(values[list(labels)].to_numpy(), values[ABSTAIN].to_numpy() if ABSTAIN in values else None, below)
