"""The length of a trial by its rows and by the time that a search is given."""

import keras
import pytest
from rowmill.registry import Registry
from rowmill.training import networks, pace, search
from rowmill.training.goal import Goal

from tests.training.conftest import Make, weights_hash

CNN = networks.find("cnn")


def test_a_short_time_makes_short_trials_and_never_longer_ones(made: Make) -> None:
    many = made((28, 28, 1), rows=6_000)
    lengths = [pace.epochs(CNN, CNN.defaults, many, Goal(1.0, 9, minutes), threads=2) for minutes in (100, 0.5, 0.01)]
    assert lengths[0] == (40, True) and 3 <= lengths[1][0] < 40 and lengths[1][1] and lengths[2] == (3, False)
    assert pace.epochs(CNN, CNN.defaults, many, Goal(1.0, 9, 0.01, epochs=7), threads=2) == (7, True)
    assert pace.epochs(CNN, CNN.defaults, many, Goal(1.0, 9, 0.5), threads=1)[0] == pytest.approx(lengths[1][0] / 2, abs=1)


def test_a_network_that_cannot_be_built_is_left_to_its_trial(made: Make) -> None:
    broken = networks.Network("own", lambda values, pixels, classes: 1 / 0)
    assert pace.epochs(broken, {}, made(), Goal(1.0, 9, 0.001), threads=1) == (40, True)


def test_multiplications_are_those_of_all_kernels() -> None:
    images = keras.Input((8, 8, 2))
    inner = keras.Sequential([keras.Input((8, 8, 2)), keras.layers.Conv2D(3, 3, strides=2, padding="same"), keras.layers.Flatten()])
    model = keras.Model(images, keras.layers.Dense(5)(inner(images)))
    assert pace.multiplications(model) == 4 * 4 * 3 * 3 * 2 * 3 + 4 * 4 * 3 * 5


def test_a_slow_machine_begins_with_the_frugal_values_and_a_fast_one_can_train_them_again(
    models: Registry, made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = search.Plan("cnn", {}, Goal(1.0, 1, minutes=5), seed=3)
    with monkeypatch.context() as slow:
        slow.setattr(pace, "_OPERATIONS", 1e5)
        first = search.run(made(), models, plan)
    assert CNN.frugal.items() <= first.trial.hyperparameters.items() and first.trial.epochs == len(first.trial.curve) == 3
    again = search.train(made(), models, plan, first.trial)
    assert again.trial.epochs == 3 and weights_hash(again.network) == weights_hash(first.network)
