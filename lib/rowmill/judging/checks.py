"""What a candidate must not spoil, whatever it gains: its classes, NLL, calibration and budgets; each passes, fails or is silent."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from rowmill.judging import statistics
from rowmill.judging.statistics import Floats, Labels
from rowmill.sections import Gate

LEVEL = 0.05  # of each check; a ledger that shrank it would let a candidate spoil more the longer a holdout is used
# What is this small is no cost: a file in bytes, a start and a prediction in seconds.
_FREE = {"size": 1e6, "cold start": 0.05, "latency": 0.001}


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: What was looked at.
        state: `pass`, `fail`, or `silent` where the rows cannot say.
        note: What was found, as a clause.
        doubt: It is silent, and what was found is beyond the limit: no gain makes up for that.
    """

    name: str
    state: str
    note: str
    doubt: bool = False


@dataclass(frozen=True)
class Sides:
    """Both sides' answers on the same rows.

    Attributes:
        labels: The labels' names, in the order of the probabilities.
        targets: The true labels, int64, (rows,).
        ours, theirs: Probabilities, float64, (rows, labels), of the candidate and of the incumbent.
    """

    labels: Sequence[str]
    targets: Labels
    ours: Floats
    theirs: Floats

    @property
    def right(self) -> tuple[np.ndarray, np.ndarray]:
        """Which rows each side has right, bool, (rows,)."""
        return self.ours.argmax(axis=1) == self.targets, self.theirs.argmax(axis=1) == self.targets


@dataclass(frozen=True)
class Class:
    """One class: its rows, how many of them each side alone has right, and whether it was dropped."""

    label: str
    rows: int
    gained: int
    lost: int
    state: str
    moved: bool

    @property
    def points(self) -> float:
        """What the candidate gains of this class's accuracy, in points."""
        return 100 * (self.gained - self.lost) / self.rows if self.rows else 0.0


def run(sides: Sides, budgets: Mapping[str, tuple[float, float]], gate: Gate) -> list[Check]:
    """Make the checks that the gate names; a budget that was not measured is left out.

    Args:
        sides: Both sides' answers.
        budgets: What the candidate and the incumbent need: `size` in bytes, `cold start` and `latency` in seconds.
        gate: The limits.
    """
    makers = {"classes": _classes, "nll": _nll, "calibration": _calibration}
    made = [makers[name](sides, gate) for name in gate.checks if name in makers]
    limits = {"size": gate.size, "cold start": gate.cold_start, "latency": gate.latency}
    return made + [budget(name, *budgets[name], limits[name]) for name in gate.checks if name in budgets]


def by_class(sides: Sides, drop: float) -> list[Class]:
    """Return each class with what was gained and lost in it.

    A class fails where the exact one-sided McNemar test shows a loss at 5 % divided by the number of classes (Bonferroni) and the
    loss is more than `drop` points; it passes where the upper bound of its loss at that level is at most `drop`; else it is silent.
    """
    ours, theirs = sides.right
    count = len(np.unique(sides.targets))
    found = []
    for place, label in enumerate(sides.labels):
        mine = sides.targets == place
        gained, lost = int((ours & ~theirs & mine).sum()), int((~ours & theirs & mine).sum())
        moved = statistics.mcnemar(gained, lost) < LEVEL / count
        found.append(Class(label, int(mine.sum()), gained, lost, _state((int(mine.sum()), gained, lost), drop, count), moved))
    return found


def _state(counts: tuple[int, int, int], drop: float, classes: int) -> str:
    rows, gained, lost = counts
    if not rows:
        return "silent"
    level = LEVEL / classes
    shown = float(binom.sf(lost - 1, gained + lost, 0.5)) < level
    if shown and 100 * (lost - gained) / rows > drop:
        return "fail"
    return "pass" if -100 * statistics.interval(rows, gained, lost, 2 * level)[0] <= drop else "silent"


def _classes(sides: Sides, gate: Gate) -> Check:
    classes = by_class(sides, gate.class_drop)
    limit = f"more than {gate.class_drop:g} points"
    failed = [c for c in classes if c.state == "fail"]
    if failed:
        named = ", ".join(f"{c.label} ({c.points:+.1f} points of {c.rows} rows)" for c in failed)
        return Check("classes", "fail", f"shown to lose {limit}: {named}")
    silent = [c for c in classes if c.state == "silent"]
    if not silent:
        return Check("classes", "pass", f"none of {len(classes)} loses {limit}")
    enough = _rows_enough(gate.class_drop, len(classes))
    few = f"silent on {len(silent)} of {len(classes)} classes, whose rows are too few to exclude a loss of {limit}"
    named = ", ".join(f"{c.label} ({c.rows})" for c in silent[:12])
    note = f"{few}: {named}; {enough:,} rows of each can, where none of them is lost"
    return Check("classes", "silent" if len(silent) == len(classes) else "pass", note)


def _rows_enough(drop: float, classes: int) -> int:
    """Return how many rows of a class, none of them gained or lost, exclude such a drop: z * sqrt(2 / (n + 2)^2) <= drop / 100."""
    return max(1, math.ceil(statistics.z(2 * LEVEL / classes) * math.sqrt(2) / (drop / 100) - 2))


def _nll(sides: Sides, gate: Gate) -> Check:
    values = [statistics.negative_log_likelihood(side, sides.targets) for side in (sides.ours, sides.theirs)]
    mean, low, high = statistics.mean_interval(values[0] - values[1])
    note = f"{values[0].mean():.4f} against {values[1].mean():.4f} nats: {_with(mean, low, high)}, may rise by {gate.nll:g}"
    return Check("nll", *_judged(mean, low, gate.nll, note))


def _calibration(sides: Sides, gate: Gate) -> Check:
    ours, theirs = (statistics.calibration_error(statistics.reliability(side, sides.targets)) for side in (sides.ours, sides.theirs))
    low, high = statistics.calibration_interval(sides.ours, sides.theirs, sides.targets)
    note = f"error {ours:.4f} against {theirs:.4f}: {_with(ours - theirs, low, high)}, may rise by {gate.calibration:g}"
    return Check("calibration", *_judged(ours - theirs, low, gate.calibration, note))


def _judged(value: float, low: float, limit: float, note: str) -> tuple[str, str, bool]:
    if value <= limit:
        return "pass", note, False
    return ("fail", note, False) if low > limit else ("silent", f"{note}; these rows cannot show whether it does", True)


def budget(name: str, ours: float, theirs: float, limit: float) -> Check:
    """Check what the candidate needs, as a multiple of what the incumbent needs; what is small anyway is no cost."""
    ratio = ours / max(theirs, _FREE[name])
    scale, unit = (1e6, "MB") if name == "size" else (1e-3, "ms")
    note = f"{ours / scale:.2f} against {theirs / scale:.2f} {unit}, may be {limit:g} times as much"
    if theirs < _FREE[name]:
        note += f" as {_FREE[name] / scale:g} {unit}"
    return Check(name, "pass" if ratio <= limit else "fail", note)


def _with(value: float, low: float, high: float) -> str:
    return f"{value:+.4f}, between {low:+.4f} and {high:+.4f}"
