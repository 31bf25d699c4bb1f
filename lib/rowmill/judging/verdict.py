"""The decision: two sides' answers on the same rows in, a Verdict out; pure numpy and scipy."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from rowmill.errors import ParameterError
from rowmill.records import Verdict

LEVEL = 0.05
_Z = 1.959963984540054  # the normal quantile of a two-sided 95 % interval

Labels = npt.NDArray[np.int64]


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
        """Of the exact McNemar test: gained against lost as a fair coin (McNemar 1947, Psychometrika 12:153)."""
        discordant = self.gained + self.lost
        return float(binomtest(self.gained, discordant).pvalue) if discordant else 1.0

    @property
    def outcome(self) -> str:
        """`better`, `worse` or `cannot tell`."""
        if self.p_value >= LEVEL:
            return "cannot tell"
        return "better" if self.gained > self.lost else "worse"

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference of two paired proportions, -1 to 1.

        The adjusted Wald interval of Bonett and Price (2012, British Journal of Mathematical and Statistical Psychology
        65:40): p12 = (gained + 1) / (n + 2), p21 = (lost + 1) / (n + 2),
        (p12 - p21) -+ z * sqrt((p12 + p21 - (p12 - p21)^2) / (n + 2)).
        """
        size = self.rows + 2
        p12, p21 = (self.gained + 1) / size, (self.lost + 1) / size
        half = _Z * math.sqrt((p12 + p21 - (p12 - p21) ** 2) / size)
        return max(-1.0, p12 - p21 - half), min(1.0, p12 - p21 + half)


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
class Pair:
    """Who is compared: a candidate with what serves; `incumbent` is empty for a first model."""

    service: str
    candidate: str
    incumbent: str


def judge(pair: Pair, comparison: Comparison) -> Verdict:
    """Decide between a candidate and what serves, by the exact McNemar test at the 5 % level."""
    outcome = comparison.outcome
    phrase = {
        "better": f"{pair.candidate} is better than {pair.incumbent}, which serves now",
        "worse": f"{pair.candidate} is worse than {pair.incumbent}, which keeps serving",
        "cannot tell": f"cannot tell whether {pair.candidate} is better than {pair.incumbent}, which keeps serving",
    }[outcome]
    return _verdict(pair, comparison, outcome, "mcnemar", f"{phrase}: {_figures(comparison)}")


def judge_first(pair: Pair, majority: Comparison, logistic: Comparison) -> Verdict:
    """Decide on a first model: it must beat the majority class and must not be worse than logistic regression.

    Args:
        pair: The candidate, with no incumbent.
        majority: The candidate against always answering the most frequent label of the train split.
        logistic: The candidate against logistic regression on pixels.
    """
    if majority.outcome == "better" and logistic.outcome != "worse":
        outcome = "better"
    else:
        outcome = "worse" if "worse" in (majority.outcome, logistic.outcome) else "cannot tell"
    against = [
        f"against the majority class {majority.outcome} ({_points(majority.ours - majority.theirs)} points)",
        f"against logistic regression on pixels {logistic.outcome}: {_figures(logistic)}",
    ]
    phrase = {
        "better": f"{pair.candidate} may be the first model to serve",
        "worse": f"{pair.candidate} is too weak to be the first model",
        "cannot tell": f"cannot tell whether {pair.candidate} is good enough to be the first model",
    }[outcome]
    return _verdict(pair, logistic, outcome, "first model", f"{phrase}, by the first-model rule: {'; '.join(against)}")


def serves_already(pair: Pair) -> Verdict:
    """Return the verdict where the candidate is what serves."""
    sentence = f"cannot tell whether {pair.candidate} is better than what serves: it is what serves"
    return Verdict(pair.candidate, pair.incumbent, pair.service, "cannot tell", sentence, rule="serves already")


def no_answer(pair: Pair, reason: str) -> Verdict:
    """Return the verdict where what serves cannot be asked."""
    sentence = f"cannot tell whether {pair.candidate} is better than {pair.incumbent}, which should serve but gives no answer: {reason}"
    return Verdict(pair.candidate, pair.incumbent, pair.service, "cannot tell", sentence, rule="no answer")


def _verdict(pair: Pair, comparison: Comparison, outcome: str, rule: str, sentence: str) -> Verdict:
    low, high = comparison.interval
    return Verdict(
        candidate=pair.candidate,
        incumbent=pair.incumbent,
        service=pair.service,
        outcome=outcome,
        sentence=sentence,
        rule=rule,
        rows=comparison.rows,
        candidate_accuracy=comparison.ours,
        incumbent_accuracy=comparison.theirs,
        gained=comparison.gained,
        lost=comparison.lost,
        difference=comparison.ours - comparison.theirs,
        low=low,
        high=high,
        p_value=comparison.p_value,
    )


def _figures(comparison: Comparison) -> str:
    low, high = comparison.interval
    return (
        f"{comparison.ours:.2%} against {comparison.theirs:.2%} of {comparison.rows} holdout rows right, "
        f"{_points(comparison.ours - comparison.theirs)} points, 95 % interval {_points(low)} to {_points(high)}, "
        f"{comparison.gained} rows gained and {comparison.lost} lost "
        f"(exact McNemar p = {comparison.p_value:.2g})"
    )


def _points(share: float) -> str:
    return f"{share * 100:+.2f}"
