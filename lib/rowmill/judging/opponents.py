"""The gate proves itself: before a verdict it judges three opponents made from the incumbent's answers, whose outcome is known."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rowmill.judging import finding, statistics
from rowmill.judging.checks import Sides
from rowmill.judging.finding import Terms
from rowmill.judging.statistics import Floats, Labels

LEAST = 0.02
# Whether planted answers are calibrated means nothing, and they need no file.
_CHECKS = ("classes", "nll")


@dataclass(frozen=True)
class Proof:
    """What became of the opponents: why there must be no verdict (empty: nothing speaks against one), and what to say besides."""

    problem: str
    notes: tuple[str, ...] = ()


def prove(sides: Sides, terms: Terms, find: Callable[[Sides, Terms], finding.Finding] = finding.find) -> Proof:
    """Judge the incumbent against itself, itself with right answers spoiled, and itself with errors mended.

    They differ on 2 % of the rows, or on as many as this holdout shows with power 0.99 at the level in force.

    Args:
        sides: Whose incumbent's answers are used; the candidate's are not looked at.
        terms: As for the verdict that follows.
        find: What judges.
    """
    terms = replace(terms, budgets=None, gate=replace(terms.gate, checks=tuple(c for c in terms.gate.checks if c in _CHECKS)))
    rows = len(sides.targets)
    shown = statistics.plantable(rows, terms.level, 0.0 if terms.by_cost else terms.gate.minimal_effect / 100)
    if shown is None:
        return Proof(f"{rows} rows are too few: at the level {terms.level:.2g} they cannot show even the largest difference")
    count, left_out = max(shown, math.ceil(LEAST * rows)), ""
    for name, change, expected in _OPPONENTS:
        planted = _plant(sides, terms, change, count)
        if planted is None:
            left_out += f"; the {name} one was left out, for less than {count} answers could be {name}"
            continue
        outcome = find(replace(sides, ours=planted), terms).outcome
        if outcome != expected:
            against = "itself" if change is _keep else f"itself with {count} answers {name}"
            return Proof(f"the gate's own proof failed: it judges the incumbent against {against} {outcome!r} instead of {expected!r}")
    return Proof("", (f"The gate judged planted opponents with {count} of {rows:,} answers spoiled or mended rightly first{left_out}.",))


def _plant(sides: Sides, terms: Terms, change: Callable[[Floats, Labels], Floats], count: int) -> Floats | None:
    """Return the incumbent's answers, so many of them changed; None where there are not so many that the change counts for."""
    changed = change(sides.theirs, sides.targets)
    if change is _keep:
        return changed
    right = sides.theirs.argmax(axis=1) == sides.targets
    counts = (changed.argmax(axis=1) == sides.targets) != right
    if terms.costs and terms.by_cost:
        counts &= terms.costs.of(changed, sides.targets) != terms.costs.of(sides.theirs, sides.targets)
    places = np.random.default_rng(0).permutation(np.flatnonzero(counts))[:count]
    if len(places) < count:
        return None
    planted = sides.theirs.copy()
    planted[places] = changed[places]
    return planted


def _keep(probabilities: Floats, _: Labels) -> Floats:
    return probabilities


def _spoil(probabilities: Floats, targets: Labels) -> Floats:
    """Return the answers with the true label's probability and the likeliest other one's exchanged where the answer is right."""
    others = probabilities.copy()
    others[np.arange(len(targets)), targets] = -1.0
    return _exchanged(probabilities, targets, others.argmax(axis=1), probabilities.argmax(axis=1) == targets)


def _mend(probabilities: Floats, targets: Labels) -> Floats:
    """Return the answers with the true label's probability and the likeliest one's exchanged where the answer is wrong."""
    answers = probabilities.argmax(axis=1)
    return _exchanged(probabilities, targets, answers, answers != targets)


def _exchanged(probabilities: Floats, targets: Labels, others: Labels, where: np.ndarray) -> Floats:
    changed, rows = probabilities.copy(), np.flatnonzero(where)
    changed[rows, targets[rows]], changed[rows, others[rows]] = probabilities[rows, others[rows]], probabilities[rows, targets[rows]]
    return changed


_OPPONENTS: tuple[tuple[str, Callable[[Floats, Labels], Floats], str], ...] = (
    ("same", _keep, "cannot tell"),
    ("spoiled", _spoil, "worse"),
    ("mended", _mend, "better"),
)
