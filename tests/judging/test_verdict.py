"""The decision on planted answers, against published and second ways to compute it."""

import numpy as np
import pytest
from rowmill.errors import ParameterError
from rowmill.judging import verdict
from rowmill.judging.verdict import Pair
from scipy.stats import binom

PAIR = Pair("digits", "aaaaaaaa-t001", "bbbbbbbb-t001")


def planted(rows: int, both: int, gained: int, lost: int) -> verdict.Comparison:
    """Compare answers with so many rows both, only ours, only theirs right."""
    truth = np.arange(rows) % 10
    wrong = (truth + 1) % 10
    places = np.random.default_rng(0).permutation(rows)
    ours, theirs = wrong.copy(), wrong.copy()
    ours[places[: both + gained]] = truth[places[: both + gained]]
    only_theirs = np.concatenate([places[:both], places[both + gained : both + gained + lost]])
    theirs[only_theirs] = truth[only_theirs]
    return verdict.compare(truth, ours, theirs)


def test_counts_what_was_planted() -> None:
    found = planted(1000, both=900, gained=30, lost=12)
    assert (found.rows, found.gained, found.lost) == (1000, 30, 12)
    assert (found.ours, found.theirs) == (0.93, 0.912)


@pytest.mark.parametrize(
    ("gained", "lost", "outcome"),
    [
        (30, 12, "better"),
        (12, 30, "worse"),
        (20, 20, "cannot tell"),
        (6, 0, "better"),
        (5, 0, "cannot tell"),
        (0, 6, "worse"),
        (0, 0, "cannot tell"),
    ],
)
def test_three_answers(gained: int, lost: int, outcome: str) -> None:
    found = verdict.judge(PAIR, planted(1000, 900, gained, lost))
    assert found.outcome == outcome and outcome.split()[0] in found.sentence
    assert (found.candidate, found.incumbent, found.rule) == ("aaaaaaaa-t001", "bbbbbbbb-t001", "mcnemar")


@pytest.mark.parametrize(("gained", "lost"), [(30, 12), (9, 2), (1, 0), (50, 51)])
def test_p_value_is_the_exact_two_sided_binomial(gained: int, lost: int) -> None:
    expected = min(1.0, 2 * binom.cdf(min(gained, lost), gained + lost, 0.5))
    assert planted(1000, 800, gained, lost).p_value == pytest.approx(expected, rel=1e-9)


def test_interval_equals_the_formula_by_hand() -> None:
    # 26/102 and 12/102; sqrt((0.372549 - 0.137255^2) / 102) = 0.0588875, times 1.959964.
    low, high = planted(100, 50, gained=25, lost=11).interval
    assert (low, high) == pytest.approx((26 / 102 - 12 / 102 - 0.115417, 26 / 102 - 12 / 102 + 0.115417), abs=2e-6)


def test_interval_covers_the_truth() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(2000):
        gained, lost, both, _neither = generator.multinomial(1000, [0.03, 0.02, 0.9, 0.05])
        low, high = verdict.Comparison(1000, int(gained), int(lost), (both + gained) / 1000, (both + lost) / 1000).interval
        covered += low <= 0.01 <= high
    assert 0.93 <= covered / 2000 <= 0.97


def test_equal_models_are_rarely_promoted() -> None:
    generator = np.random.default_rng(2)
    counts = generator.multinomial(1000, [0.015, 0.015, 0.97], size=2000)
    outcomes = [verdict.Comparison(1000, int(gained), int(lost), 0.9, 0.9).outcome for gained, lost, _ in counts]
    assert outcomes.count("better") / 2000 <= 0.05


def test_the_sentence_holds_the_figures() -> None:
    sentence = verdict.judge(PAIR, planted(1000, 900, 30, 12)).sentence
    assert sentence.startswith(
        "aaaaaaaa-t001 is better than bbbbbbbb-t001, which serves now: 93.00% against 91.20% of 1000 holdout rows right"
    )
    assert "+1.80 points, 95 % interval +0.5" in sentence and "30 rows gained and 12 lost (exact McNemar p = 0.0079)" in sentence


BETTER, WORSE, EQUAL = planted(1000, 800, 60, 10), planted(1000, 800, 10, 60), planted(1000, 900, 10, 10)


@pytest.mark.parametrize(
    ("majority", "logistic", "outcome"),
    [
        (BETTER, BETTER, "better"),
        (BETTER, EQUAL, "better"),
        (BETTER, WORSE, "worse"),
        (EQUAL, BETTER, "cannot tell"),
        (EQUAL, EQUAL, "cannot tell"),
        (WORSE, BETTER, "worse"),
    ],
)
def test_first_model_rule(majority: verdict.Comparison, logistic: verdict.Comparison, outcome: str) -> None:
    found = verdict.judge_first(Pair("digits", "aaaaaaaa-t001", ""), majority, logistic)
    assert found.outcome == outcome and found.rule == "first model" and "by the first-model rule" in found.sentence


@pytest.mark.parametrize("sizes", [(0, 0, 0), (3, 3, 2), (3, 2, 3)])
def test_unequal_or_no_rows_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ParameterError, match="the same rows, at least one, of both sides"):
        verdict.compare(*(np.zeros(size, np.int64) for size in sizes))
