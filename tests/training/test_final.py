"""What becomes of the best trials: refit, seeds, average, and training with values by hand."""

import math
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
from rowmill.data.dataset import Dataset
from rowmill.errors import ParameterError, SearchError
from rowmill.records import Trial
from rowmill.registry import Registry
from rowmill.settings import Settings
from rowmill.training import artefact, networks, search, trainer
from rowmill.training.search import Goal, Plan

from tests.conftest import ROOT
from tests.training.conftest import weights_hash

GOAL = Goal(1.0, trials=2, minutes=5, epochs=2)
SPACE = {"units": {"type": "choice", "values": [64, 32], "default": 64}}

TRAIN = """
import sys
from pathlib import Path
from rowmill.data import dataset
from rowmill.registry import connected
from rowmill.training import search
from tests.conftest import project_in
from tests.training.conftest import weights_hash
from tests.training.test_final import GOAL
models = connected(project_in(Path(sys.argv[1])))
data = dataset.load(models.warehouse, dataset.find(models.warehouse))
print(weights_hash(search.train(data, models, search.Plan("mlp", {}, GOAL), {"units": 40}, seed=9).network))
"""


def test_refits_of_the_best_are_averaged_into_one_file(models: Registry, data: Dataset) -> None:
    candidate = search.run(data, models, Plan("mlp", SPACE, GOAL, seed=3, refit=True, members=2))
    kinds = [(trial.kind, trial.state) for trial in models.siblings(candidate.trial)]
    assert kinds == [(kind, "completed") for kind in ("search", "search", "refit", "refit", "average")]
    refit = models.siblings(candidate.trial)[2]
    assert math.isnan(refit.score) and math.isnan(refit.accuracy) and "validation rows" in refit.reason
    assert candidate.trial.hyperparameters == {"network": "average", "members": "t003 t004"}
    record = artefact.export(candidate, data, models)
    assert record.model_id == candidate.trial.model_id and math.isnan(record.accuracy)


def test_a_refit_has_seen_the_validation_rows(models: Registry, data: Dataset) -> None:
    found, again = (
        search.run(data, models, Plan("mlp", {}, Goal(1.0, trials=1, minutes=5, epochs=12), seed=3, refit=refit)) for refit in (False, True)
    )
    right = [
        (one.network.predict(data.validation.images, verbose=0).argmax(axis=1) == data.validation.targets).mean() for one in (found, again)
    ]
    assert weights_hash(found.network) != weights_hash(again.network) and right[1] > right[0]
    assert again.trial.hyperparameters == found.trial.hyperparameters


def test_an_average_is_scored_and_seeds_show_the_spread(models: Registry, data: Dataset) -> None:
    candidate = search.run(data, models, Plan("mlp", SPACE, GOAL, seed=3, seeds=2, members=2))
    answers = candidate.network.predict(data.validation.images, verbose=0)
    assert np.allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert (answers.argmax(axis=1) == data.validation.targets).mean() == pytest.approx(candidate.trial.accuracy, abs=1e-6)
    trials = models.siblings(candidate.trial)
    (row,) = search.spread(trials).to_dict("records")
    same = [trial.accuracy for trial in trials if trial.kind == "seed" or trial.model_id[-4:] == row["trial"]]
    assert row["seeds"] == len(same) == 3 == len({trial.seed for trial in trials if trial.kind == "seed"}) + 1
    assert (row["least"], row["most"]) == (min(same), max(same)) and row["mean"] == pytest.approx(np.mean(same))


def test_equal_values_and_seeds_give_equal_weights_in_another_process(models: Registry, data: Dataset, project: Settings) -> None:
    plan = Plan("mlp", {}, GOAL)
    here = search.train(data, models, plan, {"units": 40}, seed=9)
    command = [sys.executable, "-c", TRAIN, str(project.state)]
    there = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout.split()[-1]
    by_record = search.train(data, models, plan, here.trial)
    assert weights_hash(here.network) == there == weights_hash(by_record.network)
    assert weights_hash(search.train(data, models, plan, {"units": 40}, seed=10).network) != there
    assert "op determinism" in here.trial.mode


def test_values_that_the_network_does_not_have_are_refused(models: Registry, data: Dataset) -> None:
    with pytest.raises(ParameterError, match="'unit'.*did you mean 'units'"):
        search.train(data, models, Plan("mlp", {}, GOAL), {"unit": 40})


def test_a_seed_that_fails_is_on_record_and_the_candidate_stays(models: Registry, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    train = trainer.train

    def breaking(trial: Trial, *rest: Any) -> Trial:
        if trial.kind in ("seed", "refit"):
            raise MemoryError("no room")
        return train(trial, *rest)

    monkeypatch.setattr(trainer, "train", breaking)
    once = Goal(1.0, trials=1, minutes=5, epochs=1)
    candidate = search.run(data, models, Plan("mlp", {}, once, seed=3, seeds=1))
    seed = models.siblings(candidate.trial)[1]
    assert (seed.kind, seed.state, seed.reason) == ("seed", "failed", "MemoryError: no room") and candidate.trial.state == "completed"
    with pytest.raises(SearchError, match="The refit .*-t002 failed: MemoryError: no room; mend that"):
        search.run(data, models, Plan("mlp", {}, once, seed=3, refit=True))


def test_networks_of_one_name_are_averaged() -> None:
    images = keras.Input((2, 2, 1), dtype="uint8")
    flat = keras.layers.Flatten()(keras.ops.cast(images, "float32"))
    members = [keras.Model(images, keras.layers.Dense(3, activation="softmax")(flat), name="mine") for _ in range(2)]
    pixels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    mean = np.mean([member(pixels) for member in members], axis=0)
    assert np.allclose(networks.average(members, ()).predict(pixels, verbose=0), mean, atol=1e-6)


def test_trials_that_hyperband_goes_on_with_are_no_seeds() -> None:
    def made(number: int, accuracy: float, kind: str = "search") -> Trial:
        return Trial(f"kx3v9q2m-t{number:03d}", "d", "v", "completed", {"units": 8}, accuracy, kind=kind, accuracy=accuracy)

    trials = [made(1, 0.5), made(2, 0.9)]
    assert search.spread(trials).empty and search.spread([made(3, 0.8, "seed")]).empty
    (row,) = search.spread([*trials, made(3, 0.8, "seed")]).to_dict("records")
    assert (row["trial"], row["seeds"], row["least"], row["most"]) == ("t002", 2, 0.8, 0.9)


def test_values_by_hand_are_trained_to_the_end_with_hyperbands_plan(models: Registry, data: Dataset) -> None:
    plan = Plan("mlp", {}, Goal(1.0, trials=9, minutes=5, epochs=4), algorithm="hyperband", seeds=2)
    trial = search.train(data, models, plan, {"units": 8}, seed=9).trial
    assert (len(trial.curve), trial.kind, len(models.siblings(trial))) == (4, "train", 1)
