"""What two sides' answers on the same rows show: the comparison, the costs, the checks, and by what terms they decide."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rowmill.errors import ParameterError
from rowmill.judging import checks as rules
from rowmill.judging import costs, statistics
from rowmill.judging.checks import LEVEL, Check, Sides
from rowmill.judging.costs import Costs, Saving
from rowmill.judging.statistics import Labels
from rowmill.sections import Gate

_ROUNDING = 1e-12  # 1.8 points are not a whole number of binary fractions


@dataclass(frozen=True)
class Comparison:
    """Two sides on the same rows; gained are rows only ours has right, lost those only theirs has."""

    rows: int
    gained: int
    lost: int
    ours: float
    theirs: float

    @property
    def p_value(self) -> float:
        """Of the exact McNemar test."""
        return statistics.mcnemar(self.gained, self.lost)

    @property
    def difference(self) -> float:
        """Of the shares that are right, -1 to 1."""
        return (self.gained - self.lost) / self.rows

    @property
    def discordant(self) -> float:
        """The share of rows that one side alone has right, 0 to 1, with one row more each way, as in the interval."""
        return (self.gained + self.lost + 2) / (self.rows + 2)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference, -1 to 1."""
        return statistics.interval(self.rows, self.gained, self.lost)

    def outcome(self, level: float = LEVEL, effect: float = 0.0) -> str:
        """Return `better`, `worse` or `cannot tell`: below the level, and a gain of at least the effect, 0 to 1."""
        if self.p_value >= level or (self.gained > self.lost and self.difference < effect - _ROUNDING):
            return "cannot tell"
        return "better" if self.gained > self.lost else "worse"


def compare(truth: Labels, ours: Labels, theirs: Labels) -> Comparison:
    """Compare two sides' answers, int64 (rows,) each, with the true labels.

    Raises:
        ParameterError: There are no rows, or not as many of each.
    """
    if len(truth) == 0 or not len(truth) == len(ours) == len(theirs):
        raise ParameterError(
            "A comparison needs the same rows, at least one, of both sides",
            found=f"{len(truth)}, {len(ours)} and {len(theirs)}",
            step="ask both sides again",
        )
    right, their_right = ours == truth, theirs == truth
    return Comparison(
        rows=len(truth),
        gained=int((right & ~their_right).sum()),
        lost=int((~right & their_right).sum()),
        ours=float(right.mean()),
        theirs=float(their_right.mean()),
    )


@dataclass(frozen=True)
class Terms:
    """By what a verdict decides.

    Attributes:
        gate: The limits.
        level: What the ledger leaves for this verdict.
        costs: The cost matrix, if there is one.
        budgets: What candidate and incumbent need, as `checks.run` takes it.
        notes: What the report says besides, each a sentence.
    """

    gate: Gate = Gate()
    level: float = LEVEL
    costs: Costs | None = None
    budgets: Mapping[str, tuple[float, float]] | None = None
    notes: Sequence[str] = ()

    @property
    def by_cost(self) -> bool:
        """Whether cost decides instead of accuracy."""
        return self.costs is not None and self.gate.measure == "cost"


@dataclass(frozen=True)
class Finding:
    """What was found between two sides.

    Attributes:
        comparison: Of right answers.
        saving: Of costs, where there is a matrix.
        gain: The deciding measure's outcome alone.
        checks: What must not be spoiled.
    """

    comparison: Comparison
    saving: Saving | None
    gain: str
    checks: list[Check]

    @property
    def outcome(self) -> str:
        """Return `worse` for a loss or a failed check, `better` for a gain without doubt, else `cannot tell`."""
        if self.gain == "worse" or any(check.state == "fail" for check in self.checks):
            return "worse"
        return "better" if self.gain == "better" and not any(check.doubt for check in self.checks) else "cannot tell"


def find(sides: Sides, terms: Terms) -> Finding:
    """Compare two sides by the terms.

    Raises:
        ParameterError: There are no rows, or not as many of each.
    """
    comparison = compare(sides.targets, sides.ours.argmax(axis=1), sides.theirs.argmax(axis=1))
    saving = costs.compare(terms.costs, sides.targets, sides.ours, sides.theirs) if terms.costs else None
    if saving and terms.by_cost:
        gain = _saved(saving, terms)
    else:
        gain = comparison.outcome(terms.level, terms.gate.minimal_effect / 100)
    return Finding(comparison, saving, gain, rules.run(sides, terms.budgets or {}, terms.gate))


def _saved(saving: Saving, terms: Terms) -> str:
    if saving.p_value >= terms.level or 0 < saving.saving < terms.gate.minimal_saving - _ROUNDING:
        return "cannot tell"
    return "better" if saving.saving > 0 else "worse"
