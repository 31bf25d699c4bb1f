"""Whether other things are asked than a model was judged on: its requests beside its holdout; pure numpy, pandas and scipy.

Drift is no harm: a model may answer rightly what it was not judged on. Only labels of these requests tell whether its answers got worse.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import chdtrc, kolmogorov

from rowmill import shown

FEWEST = 200  # requests below which nothing is said
LEVEL = 0.01  # of all tests of one look together
# What each test has of it: weighted Bonferroni. Half goes to confidence, in which all shows that changes a model's answers.
SHARES = {"mean": 1 / 6, "deviation": 1 / 6, "confidence": 1 / 2, "label": 1 / 6}
LEAST = 0.1  # the effect, 0 to 1, below which a difference is too small to be called one, however sure it is
NUMBERS = ("mean", "deviation", "confidence")
_EXPECTED = 5.0
_NAMED = {"mean": "the pixels' mean", "deviation": "the pixels' deviation", "confidence": "confidence", "label": "answered labels"}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference(shown.Shown):
    """One figure of the requests beside the holdout's.

    Attributes:
        name: `mean`, `deviation`, `confidence` or `label`.
        test: `KS` or `chi-squared`.
        p_value: Of the test, before Bonferroni.
        effect: 0 to 1: the largest gap between the two distribution functions; of labels, the share that would have to be another.
        requests, holdout: The medians; of labels, the share of the label that changed most.
        label: That label.
        differs: Whether the difference is shown and is not too small to matter.
    """

    name: str
    test: str
    p_value: float
    effect: float
    requests: float
    holdout: float
    differs: bool
    label: str = ""


@dataclass(frozen=True)
class Drift:
    """What is known of a model's requests beside its holdout.

    Attributes:
        state: `silent`, `no difference` or `differs`.
        requests, holdout: How many images of each were compared.
        sentence: All of it in words.
        differences: One per figure; none where it is silent.
        furthest: The requests, those that are furthest from the holdout first, as `furthest` returns them.
        reference: The holdout, as `validation.reference` returns it, with labels as words.
    """

    model_id: str
    state: str
    requests: int
    holdout: int
    sentence: str
    differences: tuple[Difference, ...] = ()
    furthest: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    reference: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)

    def as_html(self) -> str:
        """Return the figures as a table, and the sentence below it."""
        checks = [
            {"name": _NAMED[each.name], "state": "differs" if each.differs else "same", "note": told(each)} for each in self.differences
        ]
        return shown.checks_html(checks, (self.sentence,))


def compare(model_id: str, requests: pd.DataFrame, holdout: pd.DataFrame, labels: Sequence[str]) -> Drift:
    """Compare what a model was asked with the holdout that it answered, too.

    Two-sample Kolmogorov-Smirnov tests of mean, deviation and confidence, the chi-squared test of the labels. A figure differs where its
    p-value is below its share of `LEVEL` (Bonferroni, with weights; Rosenthal and Rubin 1983, Psychological Bulletin 94:540) and its effect
    is at least `LEAST`.

    Args:
        model_id: The model.
        requests: One answer per request, as `traffic.answers` returns them.
        holdout: As `validation.reference` returns it.
        labels: The model's.
    """
    count, rows = len(requests), len(holdout)
    if count < FEWEST:
        return silent(model_id, count)
    found = [_of_numbers(name, requests[name].to_numpy(float), holdout[name].to_numpy(float)) for name in NUMBERS]
    found.append(_of_labels(list(requests["label"]), holdout["label"].to_numpy(np.int64), labels))
    differing = [each for each in found if each.differs]
    far, named = furthest(requests, holdout), holdout.assign(label=[labels[place] for place in holdout["label"]])
    state = "differs" if differing else "no difference"
    return Drift(model_id, state, count, rows, _sentence(model_id, count, differing, rows), tuple(found), far, named)


def silent(model_id: str, count: int) -> Drift:
    """Return what is said of a model with too few requests."""
    said = f"Nothing is said of drift for {model_id}: {count} answered requests are fewer than {FEWEST}."
    return Drift(model_id, "silent", count, 0, said)


def furthest(requests: pd.DataFrame, holdout: pd.DataFrame) -> pd.DataFrame:
    """Return the requests with a column `distance`, the furthest from the holdout first.

    The distance is the largest of three: of mean, deviation and confidence, each from the holdout's median and in units of the spread
    that holds its middle 98 %, so that 1 is what hardly any of the holdout reaches.
    """
    distances = []
    for name in NUMBERS:
        low, middle, high = np.quantile(holdout[name].to_numpy(float), [0.01, 0.5, 0.99])
        gap = requests[name].to_numpy(float) - middle
        spread = np.where(gap < 0, middle - low, high - middle)
        distances.append(np.abs(gap) / np.maximum(spread, 1e-6 + 1e-3 * abs(middle)))
    table = requests.assign(distance=np.max(distances, axis=0) if len(requests) else np.zeros(0))
    return table.sort_values("distance", ascending=False, kind="stable", ignore_index=True)


def told(each: Difference) -> str:
    """Return a difference in a clause."""
    what = f"median {each.requests:.4g}, holdout {each.holdout:.4g}"
    if each.name == "label":
        what = f"{each.label!r} {each.requests:.1%}, holdout {each.holdout:.1%}"
    return f"effect {each.effect:.2f} ({each.test}, p = {each.p_value:.2g}): {what}"


def _of_numbers(name: str, ours: Floats, theirs: Floats) -> Difference:
    """Compare numbers by the two-sample Kolmogorov-Smirnov test, which ties make more careful.

    D = sup |F(x) - G(x)|, the effect, is the largest gap between the two distribution functions; with N = nm / (n + m), the p-value is
    Kolmogorov's distribution at (sqrt(N) + 0.12 + 0.11 / sqrt(N)) D (Stephens 1970, Journal of the Royal Statistical Society B 32:115).
    """
    every = np.concatenate([ours, theirs])
    below = [np.searchsorted(np.sort(side), every, side="right") / len(side) for side in (ours, theirs)]
    effect, root = float(np.abs(below[0] - below[1]).max()), math.sqrt(len(ours) * len(theirs) / len(every))
    p_value = float(kolmogorov((root + 0.12 + 0.11 / root) * effect))
    return Difference(
        name, "KS", p_value, effect, float(np.median(ours)), float(np.median(theirs)), differs=_differs(name, p_value, effect)
    )


def _of_labels(ours: Sequence[str], theirs: npt.NDArray[np.int64], labels: Sequence[str]) -> Difference:
    """Compare the labels' shares by the chi-squared test of homogeneity (Pearson 1900, Philosophical Magazine 50:157).

    Labels that few requests are expected to have count as one, so that each is expected five times (Cochran 1954, Biometrics 10:417).
    The effect is the total variation distance, half the sum of the shares' gaps (Levin, Peres and Wilmer 2009, section 4.1).
    """
    place = {label: number for number, label in enumerate(labels)}
    known = np.array([place.get(label, len(labels)) for label in ours], np.int64)
    counts = np.stack([np.bincount(side, minlength=len(labels) + 1) for side in (known, theirs)]).astype(float)
    shares = counts / counts.sum(axis=1, keepdims=True)
    changed = int(np.abs(shares[0] - shares[1]).argmax())
    effect, p_value = float(np.abs(shares[0] - shares[1]).sum() / 2), _chi_squared(counts)
    label = labels[changed] if changed < len(labels) else "others"
    told_shares = float(shares[0, changed]), float(shares[1, changed])
    return Difference("label", "chi-squared", p_value, effect, *told_shares, differs=_differs("label", p_value, effect), label=label)


def _chi_squared(counts: Floats) -> float:
    """Return the p-value of the test of homogeneity; counts are (2, labels)."""
    totals = counts.sum(axis=0)
    expected = counts.sum(axis=1).min() * totals / totals.sum()
    order = np.argsort(-expected)
    # The rest that is rare together goes to the rarest of the others.
    common = max(1, int((expected >= _EXPECTED).sum()) + int(expected[expected < _EXPECTED].sum() >= _EXPECTED))
    groups = np.column_stack([counts[:, order[: common - 1]], counts[:, order[common - 1 :]].sum(axis=1)])
    if groups.shape[1] < 2:
        return 1.0
    wanted = groups.sum(axis=1, keepdims=True) * groups.sum(axis=0) / groups.sum()
    return float(chdtrc(groups.shape[1] - 1, ((groups - wanted) ** 2 / wanted).sum()))


def _differs(name: str, p_value: float, effect: float) -> bool:
    return p_value < LEVEL * SHARES[name] and effect >= LEAST


def _sentence(model_id: str, count: int, differing: Sequence[Difference], rows: int) -> str:
    if not differing:
        said = f"No figure of {count:,} requests to {model_id} differs from the {rows:,} images of its holdout beyond chance"
        return f"{said} and by an effect of at least {LEAST:g}."
    named = ", ".join(f"{_NAMED[each.name]} ({each.effect:.2f})" for each in differing)
    said = f"{count:,} requests to {model_id} differ from the {rows:,} images of its holdout in {named}."
    return f"{said} Other things are asked than it was judged on; whether its answers are worse, only labels of these requests can tell."
