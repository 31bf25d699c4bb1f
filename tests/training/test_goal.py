"""Objectives are read from words and score epochs; goals say when a search ends."""

import math
from typing import Any

import pytest
from rowmill.errors import ParameterError
from rowmill.training.goal import ACCURACY, Goal, Objective

LOGS = {"val_accuracy": 0.98, "val_nll": 0.07, "val_recall": 0.9, "size_mb": 1.5}


@pytest.mark.parametrize(
    ("given", "score", "words"),
    [
        ("accuracy", 0.98, "accuracy 0.9800"),
        ("nll", -0.07, "nll 0.0700"),
        ("max:recall", 0.9, "recall 0.9000"),
        ("min:recall", -0.9, "recall 0.9000"),
        ("1*accuracy, -0.1*nll", 0.973, "objective 0.9730"),
        ({"accuracy": 1.0, "nll": -0.1}, 0.973, "objective 0.9730"),
        ('{"accuracy": "max", "size_mb": "<= 2"}', 0.98, "accuracy 0.9800"),
        ("accuracy, size_mb <= 1", -math.inf, "a limit is broken"),
        ("nll, recall >= 0.95", -math.inf, "a limit is broken"),
        ("max:precision", math.nan, "precision nan"),
        ("accuracy, precision >= 0", math.nan, "accuracy nan"),
    ],
)
def test_an_epoch_is_scored(given: Any, score: float, words: str) -> None:
    objective = Objective.parse(given)
    assert objective.score(LOGS) == pytest.approx(score, nan_ok=True)
    assert objective.natural(objective.score(LOGS)) == words
    assert Objective.parse(str(objective)) == objective


def test_a_loss_that_is_no_number_has_no_score() -> None:
    assert math.isnan(Objective.parse("accuracy, nll <= 3").score({"val_accuracy": 0.1, "val_nll": math.nan}))
    assert math.isnan(ACCURACY.score({"val_accuracy": math.inf}))


def test_a_broken_limit_is_told() -> None:
    objective = Objective.parse("accuracy, size_mb <= 1, recall >= 0.8")
    assert objective.broken(LOGS) == "size_mb 1.5 breaks size_mb <= 1"
    assert objective.broken({**LOGS, "size_mb": 1.0}) == ""


def test_the_metrics_to_compile_with() -> None:
    assert Objective.parse("1*accuracy, -0.1*nll, 0.2*recall, auc >= 0.9, size_mb <= 1").metrics == ("nll", "recall", "auc")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "'' is no part of an objective; give such as 'accuracy'"),
        ("accuracy size_mb", "'accuracy size_mb' is no part"),
        ("recall", "Metric 'recall' needs a direction; give 'max:recall' or 'min:recall'"),
        ("max:nll", "Of nll less is better"),
        ("min:accuracy", "Of accuracy more is better"),
        ({"accuracy": 1, "nll": 0.1}, "Of nll less is better; found weight 0.1"),
        ("0*accuracy", "found weight 0"),
        ("accuracy, nll", "Several metrics need a weight each"),
        ("accuracy <= 1", "needs one metric or more"),
        ("1*accuracy, 2*accuracy", "each once"),
        ("-1*size_mb", "size_mb only as a limit"),
        ("{", "'{' is no part of an objective"),
        ({"accuracy": None}, "'None\\*accuracy' is no part"),
    ],
)
def test_what_is_no_objective_is_refused(given: Any, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        Objective.parse(given)


@pytest.mark.parametrize(
    "values",
    [
        {"target": 98},
        {"target": 0},
        {"target": math.nan},
        {"trials": 0},
        {"minutes": 0},
        {"minutes": math.nan},
        {"epochs": -1},
        {"patience": -1},
    ],
)
def test_an_impossible_goal_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        Goal(**{"target": 0.9, "trials": 1, "minutes": 1, **values})


def test_a_target_is_in_the_objectives_own_direction() -> None:
    nll = Goal(0.08, 9, 1, objective=Objective.parse("nll"))
    assert nll.reached(-0.07) and not nll.reached(-0.09) and not nll.reached(math.nan)
    both = Goal(0.97, 9, 1, objective=Objective.parse("1*accuracy, -0.1*nll"))
    assert both.reached(0.973) and not both.reached(-math.inf)


@pytest.mark.parametrize(
    ("scores", "seconds", "reason"),
    [
        ([0.5, 0.6], 10, ""),
        ([0.5, 0.96], 10, "the goal is reached"),
        ([0.5] * 6, 10, "6 trials are done"),
        ([0.5], 60, "the 1 min are spent"),
        ([0.6, 0.5, 0.6, math.nan], 10, "3 trials brought nothing better"),
        ([0.6, 0.5, 0.61, math.nan, -math.inf], 10, ""),
        ([math.nan, -math.inf, math.nan], 10, "3 trials brought nothing better"),
        ([], 0, ""),
    ],
)
def test_a_search_ends_for_a_reason(scores: list[float], seconds: float, reason: str) -> None:
    assert Goal(0.95, trials=6, minutes=1, patience=3).over(scores, seconds) == reason


def test_patience_0_never_ends_a_search() -> None:
    assert Goal(0.95, trials=100, minutes=1).over([0.5] * 99, 1) == ""


def test_trials_are_longer_on_fewer_rows() -> None:
    goal = Goal(0.9, 1, 1)
    assert [goal.epochs_for(rows) for rows in (1_000, 20_000, 48_000, 100_000)] == [40, 25, 10, 8]
    assert Goal(0.9, 1, 1, epochs=3).epochs_for(1_000) == 3
