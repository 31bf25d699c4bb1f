"""Searches on the real digits, kept short: what is on record is what happened, and the best is the best."""

import hashlib

import numpy as np
import pytest
from rowmill.data import dataset
from rowmill.data.dataset import Dataset
from rowmill.errors import ParameterError, SearchError
from rowmill.records import Trial
from rowmill.registry import Registry, connected
from rowmill.settings import Settings
from rowmill.tables import TABLES
from rowmill.training import search
from rowmill.training.search import Goal, Plan

from tests.conftest import digits_in

SPACE = {
    "units": {"type": "int", "min": 8, "max": 64, "default": 48},
    "dropout": {"type": "float", "min": 0.0, "max": 0.5, "step": 0.1, "default": 0.1},
    "learning_rate": {"type": "float", "min": 1e-4, "max": 1e-2, "sampling": "log", "default": 3e-3},
}


@pytest.fixture
def models(project: Settings) -> Registry:
    """An empty registry."""
    return connected(project)


@pytest.fixture
def data(models: Registry) -> Dataset:
    """The digits."""
    return digits_in(models)


def weights_hash(network) -> str:
    """Return a hash of all weights."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(w).tobytes() for w in network.get_weights())).hexdigest()


def test_the_best_trial_is_the_candidate(models: Registry, data: Dataset) -> None:
    candidate = search.run(data, models, Plan("mlp", SPACE, Goal(1.0, trials=3, minutes=5, epochs=4), seed=5))
    trials = models.siblings(candidate.trial)
    assert [t.state for t in trials] == ["completed"] * 3
    assert candidate.trial.score == max(t.score for t in trials)
    answers = candidate.network.predict(data.validation.images, verbose=0).argmax(axis=1)
    assert (answers == data.validation.targets).mean() == pytest.approx(candidate.trial.score, abs=1e-6)


def test_the_sound_default_is_the_first_trial(models: Registry, data: Dataset) -> None:
    search.run(data, models, Plan("mlp", SPACE, Goal(1.0, trials=2, minutes=5, epochs=1), seed=5))
    first, second = models.trials("digits")
    assert first.hyperparameters == {"network": "mlp", "units": 48, "dropout": 0.1, "learning_rate": 3e-3}
    assert second.hyperparameters != first.hyperparameters
    assert (first.model_id[-5:], second.model_id[-5:]) == ("-t001", "-t002")


def test_each_trial_is_a_row_at_its_start_and_one_at_its_end(models: Registry, data: Dataset) -> None:
    search.run(data, models, Plan("mlp", SPACE, Goal(1.0, trials=1, minutes=5, epochs=2), seed=5))
    rows = models.warehouse.read(TABLES[Trial])
    assert rows["state"].tolist() == ["running", "completed"]
    assert len(models.trials("digits")[0].curve) == 2


def test_it_stops_at_the_goal(models: Registry, data: Dataset) -> None:
    candidate = search.run(data, models, Plan("mlp", SPACE, Goal(0.5, trials=5, minutes=5, epochs=50), seed=5))
    assert candidate.trial.score >= 0.5 and len(candidate.trial.curve) < 50
    assert len(models.trials("digits")) == 1


def test_it_stops_when_the_time_is_up(models: Registry, data: Dataset) -> None:
    candidate = search.run(data, models, Plan("mlp", SPACE, Goal(1.0, trials=500, minutes=0.02, epochs=500), seed=5))
    assert 1 <= len(candidate.trial.curve) < 500 and len(models.trials("digits")) < 20


def test_equal_seeds_give_equal_weights(models: Registry, data: Dataset) -> None:
    plans = [Plan("cnn", {}, Goal(1.0, trials=1, minutes=5, epochs=1), seed=seed) for seed in (3, 3, 4)]
    one, two, other = [weights_hash(search.run(data, models, plan).network) for plan in plans]
    assert one == two != other


def test_a_seed_that_was_drawn_is_on_record(models: Registry, data: Dataset) -> None:
    plan = Plan("mlp", {}, Goal(1.0, trials=1, minutes=5, epochs=1))
    drawn = search.run(data, models, plan)
    again = search.run(data, models, Plan(plan.network, plan.space, plan.goal, seed=drawn.trial.seed - 1))
    assert weights_hash(again.network) == weights_hash(drawn.network)


def test_a_failing_trial_is_on_record_and_never_wins(models: Registry, data: Dataset) -> None:
    space = {"learning_rate": {"type": "choice", "values": [1e30, 3e-3], "default": 1e30}}
    candidate = search.run(data, models, Plan("mlp", space, Goal(1.0, trials=4, minutes=5, epochs=2), seed=1))
    failed, *rest = models.trials("digits")
    assert failed.state == "failed" and "not a finite number" in failed.reason
    assert candidate.trial.hyperparameters["learning_rate"] == 3e-3 and any(t.state == "completed" for t in rest)


def test_a_search_without_any_model_says_why(models: Registry, data: Dataset) -> None:
    space = {"learning_rate": {"type": "choice", "values": [1e30, 1e31]}}
    with pytest.raises(SearchError, match="All 2 trials failed; found .*not a finite number"):
        search.run(data, models, Plan("mlp", space, Goal(1.0, trials=2, minutes=5, epochs=2), seed=1))


def test_an_unknown_network_is_refused(models: Registry, data: Dataset) -> None:
    with pytest.raises(ParameterError, match="no network 'transformer'; use one of cnn, mlp"):
        search.run(data, models, Plan("transformer", {}, Goal(0.9, 1, 1)))


def test_the_holdout_is_not_read(models: Registry, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the search read the holdout")

    monkeypatch.setattr(dataset, "load_holdout", refuse)
    read: list[object] = []
    original = type(models.warehouse).read
    monkeypatch.setattr(type(models.warehouse), "read", lambda *args, **rest: read.append(args[2:]) or original(*args, **rest))
    search.run(data, models, Plan("mlp", {}, Goal(1.0, trials=1, minutes=5, epochs=1), seed=5))
    assert "holdout" not in str(read)
