"""The numbers of a comparison: the exact test, its interval and power, NLL and calibration; pure numpy and scipy."""

import math
import sys
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import binom, binomtest

BINS = 15
POWER, PLANTED_POWER = 0.8, 0.99
_RESAMPLES = 400

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def z(level: float) -> float:
    """Return the normal quantile of a two-sided level."""
    return NormalDist().inv_cdf(1 - level / 2)


def z_power() -> float:
    """Return the normal quantile of power 0.8."""
    return NormalDist().inv_cdf(POWER)


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact McNemar test's two-sided p: gained against lost as a fair coin (McNemar 1947, Psychometrika 12:153)."""
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def fewest(level: float) -> int:
    """Return how many rows must differ, all in one direction, for the exact test to be below the level: 2 * 0.5^m < level."""
    return math.floor(1 - math.log2(level)) + 1


def proportion(rows: int, right: int, level: float = 0.05) -> tuple[float, float]:
    """Return the interval of a share, 0 to 1, by the exact binomial test (Clopper and Pearson 1934, Biometrika 26:404)."""
    found = binomtest(right, rows).proportion_ci(1 - level, method="exact")
    return float(found.low), float(found.high)


def interval(rows: int, gained: int, lost: int, level: float = 0.05) -> tuple[float, float]:
    """Return the interval of the difference of two paired proportions, -1 to 1.

    The adjusted Wald interval of Bonett and Price (2012, Journal of Educational and Behavioral Statistics 37:479):
    p12 = (gained + 1) / (n + 2), p21 = (lost + 1) / (n + 2),
    (p12 - p21) -+ z * sqrt((p12 + p21 - (p12 - p21)^2) / (n + 2)).
    """
    size = rows + 2
    p12, p21 = (gained + 1) / size, (lost + 1) / size
    half = z(level) * math.sqrt((p12 + p21 - (p12 - p21) ** 2) / size)
    return max(-1.0, p12 - p21 - half), min(1.0, p12 - p21 + half)


def rows_needed(difference: float, discordant: float, level: float) -> float:
    """Return how many rows show a difference with power 0.8 (Connor 1987, Biometrics 43:207).

    n = (z(1 - level / 2) * sqrt(psi) + z(power) * sqrt(psi - d^2))^2 / d^2, psi the share of rows on which one side alone is
    right, which is at least d.

    Args:
        difference: d, the true difference, above 0 to 1.
        discordant: psi, 0 to 1.
        level: Of the two-sided test.
    """
    psi = max(discordant, difference)
    root = z(level) * math.sqrt(psi) + z_power() * math.sqrt(psi - difference**2)
    return root**2 / difference**2


def detectable(rows: int, discordant: float, level: float, least: float = 0.0) -> float:
    """Return the smallest true difference, 0 to 1, that so many rows show with power 0.8; 1 where they can show none.

    Args:
        rows: Of the holdout.
        discordant: The share of rows on which one side alone is right.
        level: Of the two-sided test.
        least: What must be observed besides.
    """
    smallest = 1e-9

    def lacking(difference: float) -> float:
        return rows_needed(difference, discordant, level) - rows

    if lacking(1.0) >= 0:
        return 1.0
    shown = float(brentq(lacking, smallest, 1.0))
    return min(1.0, max(shown, least + z_power() * math.sqrt(max(discordant, shown) / rows) if least else 0.0))


def plantable(rows: int, level: float, least: float) -> int | None:
    """Return how many rows a planted opponent must differ on, all in one direction; None where these rows are too few.

    With that many expected, Binomial(rows, share) reaches what the exact test and the least effect ask for with power 0.99.

    Args:
        rows: Of the holdout.
        level: Of the two-sided test.
        least: The share of rows, 0 to 1, that must be gained.
    """
    wanted = max(fewest(level), math.ceil(least * rows - 1e-9))

    def lacking(share: float) -> float:
        return PLANTED_POWER - float(binom.sf(wanted - 1, rows, share))

    if lacking(1.0) > 0:
        return None
    return math.ceil(rows * float(brentq(lacking, 0.0, 1.0)) - 1e-6)


def negative_log_likelihood(probabilities: Floats, targets: Labels) -> Floats:
    """Return each row's -ln of its true label's probability, in nats; a probability of 0 counts as the smallest step above 0."""
    right = probabilities[np.arange(len(targets)), targets]
    cost: Floats = -np.log(np.maximum(right, sys.float_info.epsilon))
    return cost


def mean_interval(values: Floats, level: float = 0.05) -> tuple[float, float, float]:
    """Return the mean of paired differences with its interval by the central limit theorem."""
    mean = float(values.mean())
    half = z(level) * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return mean, mean - half, mean + half


def sign_flip(values: Floats, seed: int = 0) -> float:
    """Return the two-sided p of the mean of paired differences by random flips of their signs (Fisher 1935, section 21).

    99,999 flips; equal values flip together as a binomial count, so that it costs little. Where all values that are not 0 are
    equal, this is the McNemar test, which is computed exactly.
    """
    sizes, places = np.unique(np.abs(values[values != 0]), return_inverse=True)
    counts, signs = np.bincount(places, minlength=len(sizes)), np.sign(values[values != 0])
    if len(sizes) == 0:
        return 1.0
    if len(sizes) == 1:
        return mcnemar(int((signs > 0).sum()), int((signs < 0).sum()))
    generator, flips = np.random.default_rng(seed), 99_999
    sums = np.zeros(flips)
    for size, count in zip(sizes, counts, strict=True):
        sums += size * (2 * generator.binomial(count, 0.5, flips) - count)
    reached = np.abs(sums) >= abs(values.sum()) * (1 - 1e-12)
    return float((reached.sum() + 1) / (flips + 1))


def reliability(probabilities: Floats, targets: Labels) -> Floats:
    """Return (15, 3): of the rows in each bin of confidence, their count, sum of confidences and count of right ones.

    Bins are equally wide, open below and closed above: (0, 1/15], ..., (14/15, 1].
    """
    confidence, bins = _binned(probabilities)
    right = probabilities.argmax(axis=1) == targets
    parts = [np.bincount(bins, weights, BINS) for weights in (np.ones(len(targets)), confidence, right.astype(np.float64))]
    return np.stack(parts, axis=1)


def calibration_error(table: Floats) -> float:
    """Return the expected calibration error, 0 to 1, of what `reliability` returns.

    ECE = sum over bins of |right - confidence| / rows (Guo et al. 2017, ICML, equation 3).
    """
    return float(np.abs(table[:, 2] - table[:, 1]).sum() / table[:, 0].sum())


def calibration_interval(ours: Floats, theirs: Floats, targets: Labels, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of our calibration error less theirs, by a paired bootstrap of 400 resamples (percentiles).

    Args:
        ours: Probabilities, (rows, labels).
        theirs: The other side's.
        targets: The true labels.
        seed: Of the resamples.
    """
    generator, rows = np.random.default_rng(seed), len(targets)
    gaps = [_gaps(side, targets) for side in (ours, theirs)]
    found = np.empty(_RESAMPLES)
    for number in range(_RESAMPLES):
        weights = np.bincount(generator.integers(0, rows, rows), minlength=rows)
        first, second = (np.abs(np.bincount(bins, gap * weights, BINS)).sum() / rows for bins, gap in gaps)
        found[number] = first - second
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _gaps(probabilities: Floats, targets: Labels) -> tuple[Labels, Floats]:
    confidence, bins = _binned(probabilities)
    return bins, (probabilities.argmax(axis=1) == targets) - confidence


def _binned(probabilities: Floats) -> tuple[Floats, Labels]:
    confidence = probabilities.max(axis=1)
    return confidence, np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
