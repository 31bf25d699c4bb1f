"""The numbers, against published and second ways to compute them."""

import itertools

import numpy as np
import pytest
from rowmill.judging import statistics
from scipy.stats import binom
from sklearn.metrics import log_loss


def answers(rows: int, labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random probabilities, some of them very sure, and labels."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(rows, labels)) * generator.choice([0.5, 5.0, 40.0], (rows, 1))
    probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    # Seven of ten are right, however sure: some bins are too sure, others not sure enough.
    return probabilities, np.where(generator.random(rows) < 0.7, probabilities.argmax(axis=1), generator.integers(0, labels, rows))


@pytest.mark.parametrize(("gained", "lost"), [(30, 12), (9, 2), (1, 0), (50, 51)])
def test_p_value_is_the_exact_two_sided_binomial(gained: int, lost: int) -> None:
    expected = min(1.0, 2 * binom.cdf(min(gained, lost), gained + lost, 0.5))
    assert statistics.mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)
    assert statistics.mcnemar(0, 0) == 1.0


@pytest.mark.parametrize("level", [0.05, 0.0304, 0.03125, 0.001, 1e-5])
def test_fewest_rows_below_a_level(level: float) -> None:
    fewest = statistics.fewest(level)
    assert statistics.mcnemar(fewest, 0) < level <= statistics.mcnemar(fewest - 1, 0)


def test_interval_equals_the_formula_by_hand() -> None:
    # 26/102 and 12/102; sqrt((0.372549 - 0.137255^2) / 102) = 0.0588875, times 1.959964.
    low, high = statistics.interval(100, gained=25, lost=11)
    assert (low, high) == pytest.approx((26 / 102 - 12 / 102 - 0.115417, 26 / 102 - 12 / 102 + 0.115417), abs=2e-6)
    assert statistics.interval(1, 1, 0)[1] <= 1.0 and statistics.interval(1, 0, 1)[0] >= -1.0


def test_interval_covers_the_truth() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for gained, lost, _ in generator.multinomial(1000, [0.03, 0.02, 0.95], size=2000):
        low, high = statistics.interval(1000, int(gained), int(lost))
        covered += low <= 0.01 <= high
    assert 0.93 <= covered / 2000 <= 0.97


@pytest.mark.parametrize(("rows", "discordant", "level"), [(1000, 0.03, 0.05), (5000, 0.03, 0.03), (5000, 0.01, 0.001)])
def test_the_detectable_difference_is_shown_in_four_of_five_cases(rows: int, discordant: float, level: float) -> None:
    difference = statistics.detectable(rows, discordant, level)
    shares = [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant]
    counts = np.random.default_rng(3).multinomial(rows, shares, size=3000)
    power = np.mean([statistics.mcnemar(int(gained), int(lost)) < level for gained, lost, _ in counts])
    assert 0.74 <= power <= 0.84  # the exact test is a little stricter than the formula's
    assert statistics.rows_needed(difference, discordant, level) == pytest.approx(rows, rel=1e-6)


def test_a_least_effect_makes_more_of_a_difference_necessary() -> None:
    assert statistics.detectable(10**6, 0.03, 0.05, 0.002) == pytest.approx(0.002 + 0.8416 * np.sqrt(0.03 / 10**6), rel=1e-3)
    assert statistics.detectable(2, 1.0, 0.05) == 1.0


@pytest.mark.parametrize(("rows", "level", "least"), [(358, 0.03, 0.002), (1000, 0.0001, 0.0), (5000, 0.03, 0.02)])
def test_planted_rows_are_shown_in_99_of_100_cases(rows: int, level: float, least: float) -> None:
    count = statistics.plantable(rows, level, least)
    wanted = max(statistics.fewest(level), round(least * rows))
    assert binom.sf(wanted - 1, rows, count / rows) >= 0.99 > binom.sf(wanted - 1, rows, (count - 1) / rows)


def test_too_few_rows_can_plant_nothing() -> None:
    assert statistics.plantable(5, 0.05, 0.0) is None and statistics.plantable(6, 0.05, 0.0) == 6


@pytest.mark.parametrize(("rows", "labels"), [(1, 2), (700, 10), (2000, 3)])
def test_nll_is_scikit_learns(rows: int, labels: int) -> None:
    probabilities, targets = answers(rows, labels, rows)
    expected = log_loss(targets, probabilities, labels=range(labels))
    assert statistics.negative_log_likelihood(probabilities, targets).mean() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("rows", "labels"), [(1, 2), (700, 10), (2000, 3)])
def test_calibration_error_is_that_of_a_second_implementation(rows: int, labels: int) -> None:
    probabilities, targets = answers(rows, labels, rows)
    expected = 0.0
    for number in range(15):
        chosen = [i for i in range(rows) if number / 15 < probabilities[i].max() <= (number + 1) / 15]
        if chosen:
            right = sum(probabilities[i].argmax() == targets[i] for i in chosen) / len(chosen)
            expected += len(chosen) / rows * abs(right - sum(probabilities[i].max() for i in chosen) / len(chosen))
    assert statistics.calibration_error(statistics.reliability(probabilities, targets)) == pytest.approx(expected, abs=1e-9)


def test_the_calibration_interval_covers_no_difference() -> None:
    covered = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        confidence = generator.uniform(0.5, 1.0, (2, 500))
        right = generator.random((2, 500)) < confidence
        targets = np.zeros(500, np.int64)
        sides = [np.where(r[:, None], np.stack([c, 1 - c], 1), np.stack([1 - c, c], 1)) for c, r in zip(confidence, right, strict=True)]
        low, high = statistics.calibration_interval(*sides, targets)
        covered += low <= 0 <= high
    assert covered >= 52


def test_the_mean_interval_is_the_normal_one() -> None:
    values = np.array([1.0, 2.0, 4.0, 5.0])
    half = 1.959964 * values.std(ddof=1) / 2
    assert statistics.mean_interval(values) == pytest.approx((3.0, 3.0 - half, 3.0 + half), rel=1e-6)
    assert statistics.mean_interval(values[:1])[1:] == (-np.inf, np.inf)


def test_sign_flips_agree_with_all_flips() -> None:
    values = np.array([3.0, 1.0, 1.0, -0.5, 2.0, 0.0, 1.0, 5.0, -0.25])
    sums = [abs(np.dot(values, signs)) for signs in itertools.product((-1, 1), repeat=len(values))]
    expected = np.mean(np.array(sums) >= abs(values.sum()) - 1e-12)
    assert statistics.sign_flip(values) == pytest.approx(expected, abs=0.005)


def test_equal_costs_make_the_sign_flip_test_mcnemars() -> None:
    values = np.concatenate([np.full(30, 2.5), np.full(12, -2.5), np.zeros(50)])
    assert statistics.sign_flip(values) == statistics.mcnemar(30, 12)
    assert statistics.sign_flip(np.zeros(5)) == 1.0
