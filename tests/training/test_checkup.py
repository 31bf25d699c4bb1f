"""The check-up names what is planted, accuses nothing else, and its figures are those of the trial."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from rowmill.data.dataset import Examples
from rowmill.errors import ParameterError
from rowmill.records import Trial
from rowmill.training import checkup, findings, networks, space
from rowmill.training.goal import ACCURACY, Goal, Objective
from rowmill.training.networks import Pixels

from tests.training.conftest import Make

GOAL = Goal(1.0, trials=10, minutes=5)
PLANTED = {
    "hidden": {"type": "int", "min": 4, "max": 16, "step": 4},
    "dropout": {"type": "float", "min": 0.0, "max": 0.5},
    "batch_size": {"type": "choice", "values": [32, 33]},
    "learning_rate": {"type": "float", "min": 1e-4, "max": 1e-2, "sampling": "log"},
    "second": {"type": "bool"},
    "second_units": {"type": "int", "min": 4, "max": 6},
}


def planted(values: Mapping[str, Any], pixels: Pixels, classes: int) -> Any:
    """Ignores `hidden` and `dropout`; `second_units` matters only where `second` is set."""
    inputs = keras.Input(pixels.shape, dtype="uint8")
    features = keras.layers.Flatten()(keras.ops.cast(inputs, "float32") / 255)
    features = keras.layers.Dense(8, activation="relu")(features)
    if values["second"]:
        features = keras.layers.Dense(values["second_units"], activation="relu")(features)
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(features))


def test_what_is_planted_is_named_and_nothing_else(made: Make) -> None:
    ranges = space.read(PLANTED, {})
    found = checkup.before(networks.find(planted), ranges, made(), GOAL)
    assert found.without_effect == ("hidden", "dropout")
    assert str(found).startswith("'hidden' changes nothing: ")
    assert "<li>&#x27;dropout&#x27; changes nothing" in found._repr_html_()  # pylint: disable=protected-access


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_every_hyperparameter_of_a_built_in_network_changes_something(network: str, made: Make) -> None:
    found = networks.find(network)
    ranges = space.read({**found.space, **({"flip": {"type": "bool"}} if network == "cnn" else {})}, found.defaults)
    told = checkup.before(found, ranges, made((12, 12, 1)), GOAL)
    assert told.without_effect == () and len(told.sentences) == 2


def test_a_point_that_cannot_be_built_is_told(made: Make) -> None:
    def narrow(values: Mapping[str, Any], pixels: Pixels, classes: int) -> Any:
        if values["hidden"] > 8:
            raise ValueError("too wide")
        return planted({"second": True, "second_units": values["hidden"]}, pixels, classes)

    found = checkup.before(networks.find(narrow), space.read({"hidden": {"type": "int", "min": 4, "max": 12}}, {}), made(), GOAL)
    assert found.without_effect == () and found.sentences[0] == "{'hidden': 12} cannot be trained: ValueError: too wide"


def test_the_length_of_the_search_is_told(made: Make) -> None:
    data, ranges = made(), space.read({"batch_size": {"type": "choice", "values": [48]}}, {"batch_size": 48})
    mlp = networks.find("mlp")
    short = checkup.before(mlp, ranges, data, Goal(1.0, trials=10, minutes=600))
    assert "10 trials take about" in short.sentences[0] and f"{GOAL.epochs_for(96)} epochs of 2 steps" in short.sentences[0]
    tight = checkup.before(mlp, ranges, data, Goal(1.0, trials=10, minutes=1e-4))
    assert "there is time for about 1 of 10 trials" in tight.sentences[0]
    longer = checkup.before(mlp, ranges, data, Goal(1.0, trials=10, minutes=600, epochs=40_000))
    assert longer.trial_seconds > 10 * short.trial_seconds


def test_the_memory_grows_with_weights_optimizer_and_batch(made: Make) -> None:
    data, mlp = made(), networks.find("mlp")

    def megabytes(**values: Any) -> float:
        ranges = space.read({name: {"type": "choice", "values": [value]} for name, value in values.items()}, mlp.defaults)
        return checkup.before(mlp, ranges, data, GOAL).trial_mb

    weights = (64 * 512 + 512 + 512 * 4 + 4) * 4 / 1e6
    plain = megabytes(units=512, optimizer="sgd", batch_size=1)
    assert 3 * weights < plain < 3.2 * weights
    assert megabytes(units=512, optimizer="adam", batch_size=1) == pytest.approx(plain + weights, rel=0.01)
    assert megabytes(units=512, optimizer="sgd", batch_size=101) > plain + 100 * 512 * 4 * 2 / 1e6


def test_data_that_look_right_are_passed_over(made: Make) -> None:
    assert findings.of_data(made()) == ()


def test_data_that_look_wrong_are_told(made: Make) -> None:
    data = made(rows=100)
    images = data.train.images.copy()
    images[[5, 6]] = 0
    keep = np.flatnonzero((data.train.targets != 1) | (np.arange(100) == 1))
    train = Examples([data.train.keys[place] for place in keep], images[keep], data.train.targets[keep])
    few = np.flatnonzero(data.validation.targets != 2)
    validation = Examples([data.validation.keys[place] for place in few], data.validation.images[few], data.validation.targets[few])
    assert findings.of_data(replace(data, train=train, validation=validation)) == (
        "1 of 76 train images have one value in all pixels, such as k6: look at them.",
        "Label 'label 0' has over 10 times the train images of 'label 1': the accuracy hardly sees the rare one.",
        "No validation image has the label 'label 2': add examples.",
    )
    flat = np.where(np.arange(8)[:, None, None] > 2, np.uint8(7), data.train.images)
    told = findings.of_data(replace(data, train=Examples(data.train.keys, flat, data.train.targets)))
    assert told == ("62% of the pixels have the same value in all train images: crop or enlarge what they show.",)


RANGES = space.read(
    {
        "hidden_layers": {"type": "int", "min": 1, "max": 3},
        "units": {"type": "int", "min": 8, "max": 64, "step": 8},
        "dropout": {"type": "float", "min": 0.0, "max": 0.5},
        "learning_rate": {"type": "float", "min": 1e-4, "max": 1e-1, "sampling": "log"},
        "batch_size": {"type": "choice", "values": [64, 32, 128]},
        "optimizer": {"type": "choice", "values": ["adam", "sgd", "lion"]},
        "kernel": {"type": "choice", "values": [3, 5]},
        "batch_norm": {"type": "bool"},
    },
    {},
)
INSIDE = {"hidden_layers": 2, "units": 16, "dropout": 0.2, "learning_rate": 1e-2, "batch_size": 64, "optimizer": "adam", "kernel": 3}


def trial(score: float, number: int = 1, state: str = "completed", **values: Any) -> Trial:
    """Return a trial of the digits."""
    return Trial(f"testtest-t{number:03d}", "digits", "0" * 12, state, {**INSIDE, "batch_norm": True, **values}, score=score)


@pytest.mark.parametrize(
    ("values", "sentences"),
    [
        ({}, ()),
        ({"units": 64}, ("The best units, 64, leans on the upper end of its range: try above 64.",)),
        ({"units": 8}, ("The best units, 8, leans on the lower end of its range: try below 8.",)),
        ({"learning_rate": 1.01e-4}, ("The best learning_rate, 0.000101, leans on the lower end of its range: try below 0.0001.",)),
        ({"learning_rate": 9.9e-2}, ("The best learning_rate, 0.099, leans on the upper end of its range: try above 0.1.",)),
        ({"batch_size": 128}, ("The best batch_size, 128, leans on the upper end of its range: try above 128.",)),
        ({"dropout": 0.0, "hidden_layers": 1, "kernel": 5, "optimizer": "lion"}, ()),
    ],
)
def test_a_best_that_leans_on_an_edge_is_told(values: dict[str, Any], sentences: tuple[str, ...]) -> None:
    trials = [trial(0.5, 1, units=8), trial(0.9, 2, **values), trial(0.99, 3, "failed", units=64)]
    assert findings.after(trials, RANGES, ACCURACY, rows=1000).sentences == sentences


def test_differences_that_may_be_chance_are_told() -> None:
    trials = [trial(0.95, 1), trial(0.98, 2), trial(0.975, 3), trial(0.9, 4)]
    margin = 1.96 * math.sqrt(2 * 0.98 * 0.02 / 361)
    (told,) = findings.after(trials, RANGES, ACCURACY, rows=361).sentences
    assert told.startswith(
        f"1 of the 3 other trials are within {margin:.2g} of the best: by the binomial standard error on 361 validation rows"
    )
    assert "2 of the 3" in findings.after(trials, RANGES, ACCURACY, rows=150).sentences[0]
    assert not findings.after(trials, RANGES, ACCURACY, rows=100_000).sentences
    assert "by the spread of its seeds (0.011)" in findings.after(trials, RANGES, ACCURACY, rows=361, deviation=0.011).sentences[0]
    assert not findings.after(trials, RANGES, Objective.parse("nll"), rows=361).sentences


def test_nothing_is_said_of_no_trials() -> None:
    assert not findings.after([trial(math.nan, 1, "failed")], RANGES, ACCURACY, rows=361).sentences


def test_defaults_that_cannot_be_trained_are_one_sentence(made: Make) -> None:
    def broken(values: Mapping[str, Any], pixels: Pixels, classes: int) -> Any:
        raise KeyError("width")

    with pytest.raises(ParameterError, match="The defaults cannot be trained: KeyError: 'width'; found"):
        checkup.before(networks.find(broken), {}, made(), GOAL)
    ranges = space.read({"batch_size": {"type": "choice", "values": [0, 64], "default": 0}}, {})
    with pytest.raises(ParameterError, match="The defaults cannot be trained: .*found {'batch_size': 0}"):
        checkup.before(networks.find("mlp"), ranges, made(), GOAL)
