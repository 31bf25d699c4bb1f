"""Costs of wrong answers: the matrix, what it decides, and what abstaining would cost."""

from pathlib import Path

import numpy as np
import pytest
from rowmill.errors import SettingsError
from rowmill.judging import costs, verdict
from rowmill.judging.checks import Sides
from rowmill.judging.finding import Terms
from rowmill.judging.verdict import Pair
from rowmill.sections import Gate

PAIR = Pair("digits", "aaaaaaaa-t001", "bbbbbbbb-t001")
LABELS = ("1", "7", "9")
TABLE = "true,1,7,9,abstain\n1,0,10,1,0.5\n7,20,0,1,0.5\n9,1,1,0,0.5\n"


def written(folder: Path, text: str) -> Path:
    """Write a cost matrix."""
    (folder / "costs.csv").write_text(text)
    return folder / "costs.csv"


def sure(labels: list[int] | np.ndarray, confidence: float | np.ndarray = 0.9) -> np.ndarray:
    """Return probabilities for these answers."""
    places = np.asarray(labels)
    confidence = np.broadcast_to(confidence, len(places))
    probabilities = np.repeat(((1 - confidence) / 2)[:, None], 3, axis=1)
    probabilities[np.arange(len(places)), places] = confidence
    return probabilities


def test_each_answer_costs_what_the_matrix_says(tmp_path: Path) -> None:
    matrix = costs.load(written(tmp_path, TABLE), LABELS)
    targets = np.array([0, 0, 0, 1, 1, 2])
    assert matrix.of(sure([0, 1, 2, 0, 1, 2]), targets).tolist() == [0, 10, 1, 20, 0, 0]


def test_rows_and_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    matrix = costs.load(written(tmp_path, "true,9,1,7\n7,1,20,0\n9,0,1,1\n1,1,0,10\n"), LABELS)
    assert matrix.matrix.tolist() == [[0, 10, 1], [20, 0, 1], [1, 1, 0]] and matrix.abstain is None


def test_unsure_answers_cost_what_abstaining_costs(tmp_path: Path) -> None:
    targets, answers = np.array([0, 1, 1, 2]), sure([1, 1, 0, 2], np.array([0.5, 0.59, 0.6, 0.61]))
    matrix = costs.load(written(tmp_path, TABLE), LABELS, 0.6)
    assert matrix.of(answers, targets).tolist() == [0.5, 0.5, 20, 0]
    found = matrix.by_threshold(answers, targets, [0.0, 0.6, 0.7])
    assert found["cost"].tolist() == [7500, 5250, 500] and found["abstained"].tolist() == [0, 0.5, 1]


def sides(rows: int = 2000) -> Sides:
    """Return a candidate that mends 30 cheap errors and makes 12 dear ones."""
    truth = np.arange(rows) % 3
    ours, theirs = truth.copy(), truth.copy()
    theirs[np.flatnonzero(truth == 2)[:30]] = 0  # costs 1 each
    ours[np.flatnonzero(truth == 1)[:12]] = 0  # costs 20 each
    return Sides(LABELS, truth, sure(ours), sure(theirs))


def test_costs_may_decide_otherwise_than_accuracy(tmp_path: Path) -> None:
    matrix = costs.load(written(tmp_path, TABLE), LABELS)
    by_accuracy = verdict.judge(PAIR, sides(), Terms(Gate(nll=9.0, calibration=1.0), costs=matrix))
    assert by_accuracy.outcome == "better" and by_accuracy.rule == "mcnemar"
    assert any(note.startswith("In costs: 120 against 15 per 1,000 requests: saves -105, between -17") for note in by_accuracy.report.notes)
    by_cost = verdict.judge(PAIR, sides(), Terms(Gate(measure="cost", nll=9.0, calibration=1.0), costs=matrix))
    assert by_cost.outcome == "worse" and by_cost.rule == "cost"
    assert by_cost.report.headline.startswith("worse: 120 against 15 per 1,000 requests: saves -105")


def test_a_saving_needs_its_least(tmp_path: Path) -> None:
    matrix = costs.load(written(tmp_path, TABLE), LABELS)
    turned = Sides(LABELS, sides().targets, sides().theirs, sides().ours)
    terms = {"nll": 9.0, "calibration": 1.0, "class_drop": 100.0, "measure": "cost"}
    assert verdict.judge(PAIR, turned, Terms(Gate(minimal_saving=105.0, **terms), costs=matrix)).outcome == "better"
    found = verdict.judge(PAIR, turned, Terms(Gate(minimal_saving=106.0, **terms), costs=matrix))
    assert found.outcome == "cannot tell" and "a saving, but less than 106" in found.report.headline


def test_what_would_show_a_saving_is_said(tmp_path: Path) -> None:
    matrix = costs.load(written(tmp_path, TABLE), LABELS)
    truth = np.arange(900) % 3
    ours, theirs = truth.copy(), truth.copy()
    theirs[np.flatnonzero(truth == 1)[:2]] = 0
    ours[np.flatnonzero(truth == 2)[:3]] = 0
    found = verdict.judge(PAIR, Sides(LABELS, truth, sure(ours), sure(theirs)), Terms(Gate(measure="cost"), costs=matrix))
    # The mean of 2 * 20 and 3 * -1 over 900 rows is 0.041, their deviation 0.94: 7.85 * (0.94 / 0.041)^2 = 4,100 rows in all.
    assert found.outcome == "cannot tell" and "3,3" in found.report.headline and "more labelled rows would show it" in found.report.headline
    same = verdict.judge(PAIR, Sides(LABELS, truth, sure(ours), sure(ours)), Terms(Gate(measure="cost"), costs=matrix))
    assert same.outcome == "cannot tell" and "the two cost the same" in same.report.headline


def test_abstained_shares_are_said(tmp_path: Path) -> None:
    matrix = costs.load(written(tmp_path, TABLE), LABELS, 0.95)
    found = verdict.judge(PAIR, sides(), Terms(costs=matrix))
    assert "Below the abstain threshold are 100.0% of the candidate's answers and 100.0% of the incumbent's." in found.report.notes


@pytest.mark.parametrize(
    ("text", "below", "words"),
    [
        ("true,1,7\n1,0,1\n7,1,0\n", 0.0, "must have the labels as its rows, each once; found a difference in 9"),
        ("true,1,7,9,3\n1,0,1,1,1\n7,1,0,1,1\n9,1,1,0,1\n", 0.0, "labels as its columns, each once; found a difference in 3"),
        ("true,1,7,9\n1,0,1,1\n7,1,0,1\n9,1,1,0\n9,1,1,0\n", 0.0, "labels as its rows, each once; found a difference in 9"),
        ("true,1,7,9\n1,0,x,1\n7,1,0,1\n9,1,1,0\n", 0.0, "must hold costs of at least 0"),
        ("true,1,7,9\n1,0,-1,1\n7,1,0,1\n9,1,1,0\n", 0.0, "must hold costs of at least 0"),
        ("true,1,7,9\n1,1,1,1\n7,1,0,1\n9,1,1,0\n", 0.0, "write 0 on its diagonal"),
        ("true,1,7,9\n1,0,,1\n7,1,0,1\n9,1,1,0\n", 0.0, "must hold costs of at least 0"),
        (
            "true,1,7,9\n1,0,1,1\n7,1,0,1\n9,1,1,0\n",
            0.5,
            "gate.abstain_below = 0.5 needs to know what no answer costs; add a column 'abstain'",
        ),
        ("", 0.0, "cannot be read"),
    ],
)
def test_a_matrix_that_cannot_be_used_is_named(tmp_path: Path, text: str, below: float, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        costs.load(written(tmp_path, text), LABELS, below)


def test_a_missing_matrix_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="The cost matrix .*none.csv cannot be read: .*No such file"):
        costs.load(tmp_path / "none.csv", LABELS)
