"""A space or a goal that cannot be used is refused before anything runs."""

import pytest
from rowmill.errors import ParameterError
from rowmill.training import space
from rowmill.training.space import Goal

KNOWN = ("units", "dropout", "batch_size")


def test_defaults_are_filled_in() -> None:
    checked = space.check({"units": {"type": "int", "min": 8, "max": 64}, "batch_size": {"type": "choice", "values": [32, 64]}}, KNOWN)
    assert checked["units"] == {"type": "int", "min": 8, "max": 64, "default": 8, "sampling": "linear"}
    assert checked["batch_size"]["default"] == 32


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        pytest.param({"colour": {"type": "int", "min": 1, "max": 2}}, "'colour', which this network does not have", id="unknown-name"),
        pytest.param({"units": 3}, "'units' must be a range such as .*; found 3", id="no-range"),
        pytest.param({"units": {"type": "text"}}, "must be int, float, choice or bool; found 'text'", id="unknown-type"),
        pytest.param({"units": {"type": "int", "min": 9, "max": 3}}, "needs min <= default <= max", id="min-above-max"),
        pytest.param({"units": {"type": "int", "min": 1, "max": 3, "default": 4}}, "needs min <= default <= max", id="default-outside"),
        pytest.param({"units": {"type": "int", "min": 1, "max": 3.5}}, "must be of type int", id="float-in-int"),
        pytest.param({"units": {"type": "int", "min": 1, "max": 3, "step": 0}}, "step > 0", id="no-step"),
        pytest.param({"units": {"type": "int", "min": 1}}, "'max' is wrong", id="key-missing"),
        pytest.param({"units": {"type": "int", "min": 1, "max": 2, "values": [1]}}, "'values' is wrong", id="key-too-many"),
        pytest.param({"dropout": {"type": "float", "min": 0, "max": 1, "sampling": "log"}}, "log with min > 0", id="log-of-zero"),
        pytest.param({"batch_size": {"type": "choice", "values": [1, 2], "default": 3}}, "one of its values", id="default-no-value"),
    ],
)
def test_a_wrong_space_is_named(entry, words: str) -> None:
    with pytest.raises(ParameterError, match="(?s)" + words):
        space.check(entry, KNOWN)


@pytest.mark.parametrize("values", [{"accuracy": 98}, {"accuracy": 0}, {"trials": 0}, {"minutes": 0}, {"epochs": -1}])
def test_an_impossible_goal_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        Goal(**{"accuracy": 0.9, "trials": 1, "minutes": 1, **values})


def test_trials_are_longer_on_fewer_rows() -> None:
    goal = Goal(0.9, 1, 1)
    assert [goal.epochs_for(rows) for rows in (1_000, 20_000, 48_000)] == [40, 15, 6]
    assert Goal(0.9, 1, 1, epochs=3).epochs_for(1_000) == 3
