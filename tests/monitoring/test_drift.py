"""Drift is told where it is and where it matters, and silence where it cannot be known."""

import numpy as np
import pandas as pd
import pytest
from rowmill.monitoring import drift
from scipy.stats import chi2_contingency, ks_2samp

LABELS = ("cat", "dog", "fox")


def answers(rows: int, seed: int, shift: float = 0.0, mix: tuple[float, ...] = (0.5, 0.3, 0.2)) -> pd.DataFrame:
    """Return answers to images of one kind; `shift` makes them brighter, in deviations."""
    chance = np.random.default_rng(seed)
    mean, label = chance.normal(50 + 10 * shift, 10, rows), chance.choice(len(mix), rows, p=mix)
    confidence = np.round(1 - chance.beta(1, 20, rows), 2)  # many ties, as where a model is sure
    return pd.DataFrame({"label": label, "confidence": confidence, "mean": mean, "deviation": mean / 2 + chance.normal(0, 1, rows)})


def asked(*given: object, **more: object) -> pd.DataFrame:
    """Return the same as requests, whose labels are words."""
    made = answers(*given, **more)  # type: ignore[arg-type]
    words = [(*LABELS, "cow")[place] for place in made["label"]]
    return made.assign(label=words, request_id=[f"r{number}" for number in range(len(made))])


@pytest.mark.parametrize("rows", [200, 1000])
def test_requests_of_the_holdouts_kind_seldom_differ(rows: int) -> None:
    found = [drift.compare("m", asked(rows, 2 * seed), answers(4000, 2 * seed + 1), LABELS).state for seed in range(300)]
    assert found.count("differs") <= 6 and "silent" not in found


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        pytest.param({"shift": 0.6}, {"mean", "deviation"}, id="brighter"),
        pytest.param({"mix": (0.2, 0.3, 0.5)}, {"label"}, id="other labels"),
        pytest.param({"mix": (0.4, 0.2, 0.15, 0.25)}, {"label"}, id="a label that the holdout does not know"),
    ],
)
def test_what_changed_is_named_and_is_never_called_harm(changed: dict[str, object], named: set[str]) -> None:
    found = drift.compare("m", asked(400, 1, **changed), answers(4000, 2), LABELS)
    assert found.state == "differs" and {each.name for each in found.differences if each.differs} == named
    assert all(drift._NAMED[name] in found.sentence for name in named)  # pylint: disable=protected-access
    assert found.sentence.endswith("whether its answers are worse, only labels of these requests can tell.")


def test_a_difference_that_is_sure_and_small_is_none() -> None:
    found = drift.compare("m", asked(20_000, 1, shift=0.1), answers(20_000, 2), LABELS)
    (mean,) = [each for each in found.differences if each.name == "mean"]
    assert mean.p_value < 1e-6 and mean.effect < drift.LEAST and not mean.differs and found.state == "no difference"


def test_below_two_hundred_requests_nothing_is_said() -> None:
    found = drift.compare("m", asked(199, 1, shift=5.0), answers(4000, 2), LABELS)
    assert found.state == "silent" and not found.differences
    assert found.sentence == "Nothing is said of drift for m: 199 answered requests are fewer than 200."
    assert drift.compare("m", asked(200, 1, shift=5.0), answers(4000, 2), LABELS).state == "differs"


def test_the_figures_are_scipys() -> None:
    ours, theirs = asked(500, 1, mix=(0.45, 0.3, 0.25)), answers(3000, 2)
    mean, _, _, label = drift.compare("m", ours, theirs, LABELS).differences
    expected = ks_2samp(ours["mean"], theirs["mean"])
    assert mean.effect == pytest.approx(expected.statistic) and mean.p_value == pytest.approx(expected.pvalue, rel=0.05)
    places = ours["label"].map(LABELS.index)
    counts = np.stack([np.bincount(places, minlength=3), np.bincount(theirs["label"], minlength=3)])
    assert label.p_value == pytest.approx(chi2_contingency(counts, correction=False).pvalue)
    shares = counts / counts.sum(axis=1, keepdims=True)
    assert label.effect == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)


def test_one_label_alone_and_labels_that_are_rare_are_compared() -> None:
    single = drift.compare("m", asked(300, 1, mix=(1.0,)), answers(300, 2, mix=(1.0,)), LABELS)
    assert single.differences[-1].p_value == 1 and single.state == "no difference"
    rare = (0.988, 0.006, 0.006)
    found = [
        drift.compare("m", asked(200, 2 * n, mix=rare), answers(2000, 2 * n + 1, mix=rare), LABELS).differences[-1] for n in range(200)
    ]
    assert sum(each.p_value < 0.05 for each in found) < 20


def test_the_furthest_requests_come_first() -> None:
    requests = asked(300, 1)
    requests.loc[7, "mean"], requests.loc[9, "confidence"] = 250.0, 0.0
    far = drift.furthest(requests, answers(4000, 2))
    assert set(far["request_id"].head(2)) == {"r7", "r9"} and far["distance"].is_monotonic_decreasing and 0 < far["distance"].median() < 1
