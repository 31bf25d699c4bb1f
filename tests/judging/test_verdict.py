"""The decision on planted answers: three outcomes, what must not be spoiled, and the words."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from rowmill.errors import ParameterError
from rowmill.judging import finding, verdict
from rowmill.judging.checks import Sides
from rowmill.judging.finding import Terms
from rowmill.judging.verdict import Pair
from rowmill.records import Verdict
from rowmill.sections import Gate

PAIR = Pair("digits", "aaaaaaaa-t001", "bbbbbbbb-t001")
LABELS = tuple("0123456789")


def sure(labels: np.ndarray, classes: int = 10, confidence: float = 0.97) -> np.ndarray:
    """Return probabilities for these answers."""
    probabilities = np.full((len(labels), classes), (1 - confidence) / (classes - 1))
    probabilities[np.arange(len(labels)), labels] = confidence
    return probabilities


def planted(rows: int, both: int, gained: int, lost: int) -> Sides:
    """Return answers with so many rows both, only ours, only theirs right, spread over the classes."""
    truth = np.arange(rows) % 10
    wrong = (truth + 1) % 10
    places = np.random.default_rng(0).permutation(rows)
    ours, theirs = wrong.copy(), wrong.copy()
    ours[places[: both + gained]] = truth[places[: both + gained]]
    only_theirs = np.concatenate([places[:both], places[both + gained : both + gained + lost]])
    theirs[only_theirs] = truth[only_theirs]
    return Sides(LABELS, truth, sure(ours), sure(theirs))


def in_one_class(rows: int, dropped: int, gained: int) -> Sides:
    """Return answers of which class 3 loses some rows, and all other classes together gain some."""
    truth = np.arange(rows) % 10
    theirs, ours = truth.copy(), truth.copy()
    others, threes = np.flatnonzero(truth != 3), np.flatnonzero(truth == 3)
    theirs[others[:gained]] = (truth[others[:gained]] + 1) % 10
    ours[threes[:dropped]] = 5
    return Sides(LABELS, truth, sure(ours), sure(theirs))


def states(found: Verdict) -> dict[str, str]:
    """Return each check's state."""
    return {check["name"]: check["state"] for check in found.report.checks}


def notes(found: Verdict, name: str) -> str:
    """Return a check's note."""
    return next(check["note"] for check in found.report.checks if check["name"] == name)


def test_counts_what_was_planted() -> None:
    found = verdict.judge(PAIR, planted(1000, both=900, gained=30, lost=12), Terms())
    assert (found.rows, found.gained, found.lost) == (1000, 30, 12)
    assert (found.candidate_accuracy, found.incumbent_accuracy) == (0.93, 0.912)
    assert found.difference == pytest.approx(0.018) and found.low < 0.018 < found.high and found.p_value == pytest.approx(0.0079, abs=5e-5)


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
    found = verdict.judge(PAIR, planted(1000, 900, gained, lost), Terms())
    assert found.outcome == outcome and outcome.split()[0] in found.sentence and found.report.headline.startswith(f"{outcome}: ")
    assert (found.candidate, found.incumbent, found.rule) == ("aaaaaaaa-t001", "bbbbbbbb-t001", "mcnemar")


def test_the_level_in_force_decides() -> None:
    sides = planted(1000, 900, 30, 12)  # p = 0.0079
    assert verdict.judge(PAIR, sides, Terms(level=0.008)).outcome == "better"
    assert verdict.judge(PAIR, sides, Terms(level=0.0078)).outcome == "cannot tell"
    assert verdict.judge(PAIR, planted(1000, 900, 12, 30), Terms(level=0.0078)).outcome == "cannot tell"


@pytest.mark.parametrize(("effect", "outcome"), [(1.8, "better"), (1.81, "cannot tell")])
def test_a_gain_below_the_minimal_effect_is_none(effect: float, outcome: str) -> None:
    found = verdict.judge(PAIR, planted(1000, 900, 30, 12), Terms(Gate(minimal_effect=effect)))
    assert found.outcome == outcome and (outcome == "better" or "less than the minimal effect of 1.81 points" in found.report.headline)
    assert verdict.judge(PAIR, planted(1000, 900, 12, 30), Terms(Gate(minimal_effect=effect))).outcome == "worse"


def test_equal_models_are_rarely_promoted() -> None:
    generator = np.random.default_rng(2)
    counts = generator.multinomial(1000, [0.015, 0.015, 0.97], size=2000)
    outcomes = [finding.Comparison(1000, int(gained), int(lost), 0.9, 0.9).outcome() for gained, lost, _ in counts]
    assert outcomes.count("better") / 2000 <= 0.05


def test_a_lost_class_outweighs_a_gain() -> None:
    found = verdict.judge(PAIR, in_one_class(2000, dropped=10, gained=60), Terms())
    assert found.outcome == "worse" and found.difference > 0 and states(found)["classes"] == "fail"
    assert "classes fails: shown to lose more than 2 points: 3 (-5.0 points of 200 rows)" in found.report.headline
    found = verdict.judge(PAIR, in_one_class(2000, dropped=7, gained=30), Terms())
    assert found.outcome == "better" and states(found)["classes"] == "pass"
    assert "silent on 1 of 10 classes, whose rows are too few to exclude a loss of more than 2 points: 3 (200)" in notes(found, "classes")


def test_the_classes_are_corrected_for_their_number() -> None:
    # One-sided exact p of 8 of 8 is 0.0039, below 5 % / 10; of 7 of 7 it is 0.0078, below 5 % / 2 only.
    assert states(verdict.judge(PAIR, in_one_class(2000, 8, 0), Terms()))["classes"] == "fail"
    assert states(verdict.judge(PAIR, in_one_class(2000, 7, 0), Terms()))["classes"] == "pass"
    sides = in_one_class(2000, 7, 0)
    pair = np.isin(sides.targets, (3, 5))
    two = Sides(LABELS, sides.targets[pair], sides.ours[pair], sides.theirs[pair])
    assert states(verdict.judge(PAIR, two, Terms()))["classes"] == "fail"


def test_too_few_rows_of_each_class_are_silent() -> None:
    found = verdict.judge(PAIR, planted(200, 180, 9, 0), Terms())
    assert states(found)["classes"] == "silent" and found.outcome == "better"
    assert notes(found, "classes").endswith("9 (20); 181 rows of each can, where none of them is lost")


def test_classes_that_no_row_has_are_silent() -> None:
    truth = np.arange(1000) % 9
    found = verdict.judge(PAIR, Sides(LABELS, truth, sure(truth), sure(truth)), Terms())
    assert "9 (0)" in notes(found, "classes") and found.outcome == "cannot tell"


def spoiled(confidence: Sequence[float], limit: dict[str, float]) -> Verdict:
    """Judge answers that gain, given with another confidence than the incumbent's."""
    sides = planted(3000, 2800, 90, 10)
    ours = sure(sides.ours.argmax(axis=1), confidence=confidence[0])
    theirs = sure(sides.theirs.argmax(axis=1), confidence=confidence[1])
    return verdict.judge(PAIR, dataclasses.replace(sides, ours=ours, theirs=theirs), Terms(Gate(**limit)))


def test_lost_calibration_and_nll_outweigh_a_gain() -> None:
    found = spoiled((1 - 1e-9, 0.95), {})
    assert found.outcome == "worse" and states(found)["nll"] == "fail"
    assert spoiled((1 - 1e-9, 0.95), {"nll": 10.0, "calibration": 1.0}).outcome == "better"
    found = spoiled((0.85, 0.95), {"nll": 10.0})
    assert found.outcome == "worse" and states(found) | {"nll": "pass", "calibration": "fail"} == states(found)
    assert "error 0.1133 against 0.0133: +0.1000" in notes(found, "calibration")


def test_what_may_be_spoiled_holds_back_a_promotion() -> None:
    sides = planted(3000, 2800, 9, 0)
    wrong = np.flatnonzero((sides.ours.argmax(axis=1) != sides.targets) & (sides.theirs.argmax(axis=1) != sides.targets))[:3]
    ours = sides.ours.copy()
    ours[wrong] = sure(ours[wrong].argmax(axis=1), confidence=1 - 1e-15)
    found = verdict.judge(PAIR, dataclasses.replace(sides, ours=ours), Terms(Gate(nll=0.0)))
    assert found.outcome == "cannot tell" and states(found) | {"accuracy": "pass", "nll": "silent"} == states(found)
    assert "nll is in doubt: " in found.report.headline
    assert verdict.judge(PAIR, dataclasses.replace(sides, ours=ours), Terms(Gate(nll=0.05))).outcome == "better"


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "state"),
    [
        ("size", 3e6, 1e6, "pass"),
        ("size", 3.1e6, 1e6, "fail"),
        ("size", 9e5, 1e4, "pass"),  # below 1 MB nothing is large
        ("size", 3.1e6, 1e4, "fail"),
        ("cold start", 0.6, 0.2, "pass"),
        ("cold start", 0.61, 0.2, "fail"),
        ("cold start", 0.14, 0.001, "pass"),
        ("latency", 0.0061, 0.002, "fail"),
        ("latency", 0.0029, 0.0001, "pass"),
    ],
)
def test_budgets_are_ratios(name: str, ours: float, theirs: float, state: str) -> None:
    found = verdict.judge(PAIR, planted(1000, 900, 30, 12), Terms(budgets={name: (ours, theirs)}))
    assert states(found)[name] == state and found.outcome == ("better" if state == "pass" else "worse")
    scale, unit = (1e6, "MB") if name == "size" else (1e-3, "ms")
    assert notes(found, name).startswith(f"{ours / scale:.2f} against {theirs / scale:.2f} {unit}, may be 3 times as much")
    free = {"size": (1e6, " as 1 MB"), "cold start": (0.05, " as 50 ms"), "latency": (0.001, " as 1 ms")}[name]
    assert notes(found, name).endswith(free[1]) == (theirs < free[0])


def test_a_check_that_is_not_named_is_not_made() -> None:
    terms = Terms(Gate(checks=("nll",)), budgets={"size": (9e9, 1.0)})
    assert list(states(verdict.judge(PAIR, planted(1000, 900, 30, 12), terms))) == ["accuracy", "nll"]


def test_the_sentence_holds_the_figures() -> None:
    found = verdict.judge(PAIR, planted(1000, 900, 30, 12), Terms(level=0.03))
    assert found.sentence.startswith("aaaaaaaa-t001 is better than bbbbbbbb-t001, which serves now: +1.80 points, between +0.5")
    assert "; 93.00% against 91.20% of 1000 holdout rows right, 30 rows gained and 12 lost" in found.sentence
    assert found.sentence.endswith("(exact McNemar p = 0.0079, level 0.03)")


def test_the_alarm_comes_first() -> None:
    found = verdict.judge(dataclasses.replace(PAIR, alarm="Look here."), planted(1000, 900, 30, 12), Terms())
    assert found.sentence.startswith("Look here. aaaaaaaa-t001 is better")


def test_cannot_tell_says_what_would_tell() -> None:
    found = verdict.judge(PAIR, planted(1000, 950, 12, 8), Terms())
    headline = found.report.headline
    assert headline.startswith("cannot tell: +0.40 points, between -0.52 and +1.32") and headline.endswith(
        "more labelled rows would show it"
    )
    more = int(headline.split("; ")[1].split()[0].replace(",", ""))
    assert 9_000 <= more <= 11_000  # 7.85 * 0.022 / 0.004^2 = 10,800 rows in all
    assert any("show a true difference of 1.3" in note for note in found.report.notes)
    none = verdict.judge(PAIR, planted(1000, 950, 10, 10), Terms(Gate(minimal_effect=0.0)))
    assert none.report.headline.endswith("no number of rows shows that they are equal")
    small = verdict.judge(PAIR, planted(1000, 950, 11, 10), Terms())
    assert small.report.headline.endswith("more labelled rows would show a difference of 0.2 points")


def test_the_classes_that_moved_are_named() -> None:
    found = verdict.judge(PAIR, in_one_class(2000, dropped=10, gained=0), Terms())
    assert found.report.notes[0] == "Classes that moved: 3 (-5.0 points)."
    found = verdict.judge(PAIR, in_one_class(2000, dropped=8, gained=0), Terms())  # two-sided p = 0.0078, above 5 % / 10
    assert not any("moved" in note for note in found.report.notes)


def test_the_report_holds_what_charts_draw() -> None:
    details = verdict.judge(PAIR, planted(1000, 900, 30, 12), Terms()).report.details
    assert sum(found["gained"] for found in details["classes"]) == 30 and sum(found["lost"] for found in details["classes"]) == 12
    change = np.array(details["confusion"])
    assert change.shape == (10, 10) and np.trace(change) == 18 and change.sum() == 0
    assert [int(sum(row[0] for row in side)) for side in details["reliability"]] == [1000, 1000]
    assert len(details["disagreements"]) == 42
    assert all(entry["label"] in (entry["ours"], entry["theirs"]) for entry in details["disagreements"])


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
def test_first_model_rule(majority: Sides, logistic: Sides, outcome: str) -> None:
    found = verdict.judge_first(Pair("digits", "aaaaaaaa-t001", ""), majority, logistic, Terms())
    assert found.outcome == outcome and found.rule == "first model" and "by the first-model rule" in found.sentence
    named = {id(BETTER): "better (+5.00 points)", id(WORSE): "worse (-5.00 points)", id(EQUAL): "cannot tell (+0.00 points)"}
    assert f"against the majority class {named[id(majority)]}; " in found.sentence
    assert f"against logistic regression on pixels {named[id(logistic)].split(' (')[0]}: " in found.sentence


@pytest.mark.parametrize(
    ("majority", "logistic", "made"),
    [
        (BETTER, WORSE, ["pass", "fail"]),
        (EQUAL, BETTER, ["silent", "pass"]),
        (WORSE, EQUAL, ["fail", "pass"]),
        (BETTER, EQUAL, ["pass", "pass"]),
    ],
)
def test_each_baseline_is_a_check(majority: Sides, logistic: Sides, made: list[str]) -> None:
    found = verdict.judge_first(Pair("digits", "aaaaaaaa-t001", ""), majority, logistic, Terms(level=0.01, notes=("Known.",)))
    assert [(check["name"], check["state"]) for check in found.report.checks] == list(
        zip(["majority class", "logistic regression"], made, strict=True)
    )
    compared = finding.compare(majority.targets, majority.ours.argmax(axis=1), majority.theirs.argmax(axis=1))
    assert f"{compared.gained} rows gained and {compared.lost} lost" in notes(found, "majority class")
    assert "level 0.01)" in notes(found, "majority class") and "level 0.05)" in notes(found, "logistic regression")
    assert found.report.notes[-1] == "Known." and found.candidate_accuracy == logistic.right[0].mean()
    assert found.report.headline.endswith("against logistic regression")


@pytest.mark.parametrize("sizes", [(0, 0, 0), (3, 3, 2), (3, 2, 3), (2, 3, 3), (4, 3, 3)])
def test_unequal_or_no_rows_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ParameterError, match="the same rows, at least one, of both sides"):
        finding.compare(*(np.zeros(size, np.int64) for size in sizes))


def test_no_verdict_has_its_reason() -> None:
    found = verdict.no_answer(PAIR, "it is down")
    assert (found.outcome, found.rule, found.report.headline) == ("cannot tell", "no answer", "cannot tell: it is down")
    assert found.sentence.endswith("is better than bbbbbbbb-t001, which should serve but gives no answer: it is down")
    unknown = verdict.no_answer(Pair("digits", "aaaaaaaa-t001", "", "Look here."), "it is down")
    assert unknown.sentence.startswith("Look here. cannot tell") and "than what serves, which should serve but gives" in unknown.sentence
    assert found.at == found.report.at and (found.report.candidate, found.report.service) == ("aaaaaaaa-t001", "digits")
    same = verdict.serves_already(PAIR)
    assert (same.outcome, same.rule) == ("cannot tell", "serves already") and same.sentence.endswith("it is what serves")
