"""Searches on the real digits, kept short: what is on record is what happened, and the best is the best."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest
from rowmill.data import dataset
from rowmill.data.dataset import Dataset
from rowmill.errors import ParameterError, SearchError
from rowmill.records import Trial
from rowmill.registry import Registry
from rowmill.tables import TABLES
from rowmill.training import artefact, lines, networks, search, study, trainer, tuner
from rowmill.training.final import best_epoch
from rowmill.training.findings import Findings
from rowmill.training.goal import ACCURACY, Objective
from rowmill.training.search import Goal, Plan
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.conftest import Make, weights_hash

SPACE = {
    "units": {"type": "int", "min": 8, "max": 64, "default": 48},
    "dropout": {"type": "float", "min": 0.0, "max": 0.5, "step": 0.1, "default": 0.1},
    "learning_rate": {"type": "float", "min": 1e-4, "max": 1e-2, "sampling": "log", "default": 3e-3},
}


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
    plan = Plan("mlp", SPACE, Goal(1.0, trials=1, minutes=5, epochs=2), seed=5)
    search.run(data, models, plan, found=Findings(("'units' changes nothing.",)))
    (kept,) = study.known(models.state, 9)
    assert kept.findings() == ("'units' changes nothing.",) and kept.is_finished and not kept.is_running
    rows = models.warehouse.read(TABLES[Trial])
    assert rows["state"].tolist() == ["running", "completed"]
    trial = models.trials("digits")[0]
    assert len(trial.curve) == 2 and trial.accuracy == trial.score == max(trial.curve)
    accumulated = EventAccumulator(str(models.state / "tensorboard" / trial.model_id.replace("-", "/"))).Reload()
    assert set(accumulated.Tags()["tensors"]) == {"_hparams_/session_start_info", "score", "best_accuracy"}


def test_whoever_watches_sees_the_running_trial_grow(models: Registry, data: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(search, "WATCH_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(lines, "STAYING_SECONDS", 0.0)
    seen: list[tuple[str, int]] = []
    search.run(
        data,
        models,
        Plan("mlp", SPACE, Goal(1.0, 2, 5, epochs=2), 5),
        lambda trials: seen.append((trials[-1].state, len(trials[-1].curve))),
    )
    assert seen == [("running", 1), ("running", 2), ("completed", 2)] * 2
    said = capsys.readouterr().out
    assert "t002  epoch 1" in said and "(t001)" in said and "left" in said and "t002  completed  validation accuracy" in said


def test_it_stops_at_the_goal(models: Registry, data: Dataset) -> None:
    candidate = search.run(data, models, Plan("mlp", SPACE, Goal(0.5, trials=5, minutes=5, epochs=50), seed=5))
    assert candidate.trial.score >= 0.5 and len(candidate.trial.curve) < 50
    assert len(models.trials("digits")) == 1


def test_it_stops_when_the_time_is_up(models: Registry, data: Dataset) -> None:
    candidate = search.run(data, models, Plan("mlp", SPACE, Goal(1.0, trials=500, minutes=0.02, epochs=500), seed=5))
    assert 1 <= len(candidate.trial.curve) < 500 and len(models.trials("digits")) < 20


def test_equal_seeds_give_equal_weights(models: Registry, data: Dataset) -> None:
    plans = [Plan("cnn", {}, Goal(1.0, trials=1, minutes=5, epochs=1), seed=seed) for seed in (3, 3, 4)]
    found = []
    for plan in plans:
        candidate = search.run(data, models, plan)
        found.append((weights_hash(candidate.network), candidate.trial.model_id))
        artefact.export(candidate, data, models)
    (one, first), (two, second), (other, _) = found
    assert one == two != other and first != second


def test_a_seed_that_was_drawn_is_on_record(models: Registry, data: Dataset) -> None:
    plan = Plan("mlp", {}, Goal(1.0, trials=1, minutes=5, epochs=1))
    drawn = search.run(data, models, plan)
    again = search.run(data, models, Plan(plan.network, plan.space, plan.goal, seed=drawn.trial.seed))
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


def test_hyperband_goes_on_from_the_weights_of_the_better_third(models: Registry, data: Dataset) -> None:
    goal = Goal(1.0, trials=4, minutes=5, epochs=3)
    space = {"learning_rate": {"type": "float", "min": 1e-4, "max": 1e-2, "sampling": "log"}}
    search.run(data, models, Plan("mlp", space, goal, seed=5, algorithm="hyperband"))
    *short, full = models.trials("digits")
    assert [len(trial.curve) for trial in short] == [1, 1, 1] and len(full.curve) == 3
    best = max(short, key=lambda trial: trial.score)
    assert (full.curve[:1], full.hyperparameters) == (best.curve, best.hyperparameters)


def test_whatever_a_network_raises_is_the_trials_reason(models: Registry, data: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    def fragile(values, pixels, classes):  # type: ignore[no-untyped-def]
        if values["units"] == 1:
            raise MemoryError("no room\nfor it")
        images = keras.Input(pixels.shape, dtype="uint8")
        return keras.Model(images, keras.layers.Dense(classes, activation="softmax")(keras.layers.Flatten()(images)))

    space = {"units": {"type": "choice", "values": [1, 2]}}
    candidate = search.run(data, models, Plan(fragile, space, Goal(1.0, trials=2, minutes=5, epochs=1), seed=5))
    failed, completed = models.trials("digits")
    assert (failed.state, failed.reason, completed.state) == ("failed", "MemoryError: no room for it", "completed")
    assert candidate.trial == completed
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_trial_that_takes_too_long_has_failed(models: Registry, data: Dataset) -> None:
    with pytest.raises(SearchError, match="All 1 trials failed; found .*took longer than 0.0001 minutes"):
        search.run(data, models, Plan("mlp", {}, Goal(1.0, trials=1, minutes=5, epochs=500), seed=5, trial_minutes=0.0001))


def test_a_network_over_the_limit_is_not_even_trained(models: Registry, data: Dataset) -> None:
    goal = Goal(1.0, trials=2, minutes=5, epochs=1, objective=Objective.parse("accuracy, size_mb <= 0.01"))
    space = {"units": {"type": "choice", "values": [512, 8], "default": 512}}
    candidate = search.run(data, models, Plan("mlp", space, goal, seed=5, algorithm="grid"))
    failed = models.trials("digits")[0]
    assert failed.state == "failed" and "breaks size_mb <= 0.01" in failed.reason and not failed.curve
    assert candidate.trial.hyperparameters["units"] == 8


def test_an_objective_of_which_less_is_better_keeps_the_accuracy_beside_it(models: Registry, data: Dataset) -> None:
    goal = Goal(0.0, trials=1, minutes=5, epochs=2, objective=Objective.parse("nll"))
    trial = search.run(data, models, Plan("mlp", {}, goal, seed=5)).trial
    assert trial.score == max(trial.curve) < 0 < trial.accuracy <= 1


def curve(*values: float) -> Trial:
    """Return a trial with this curve."""
    return Trial("abcdefgh-t001", "digits", "v", "completed", {}, max(values), values)


def test_the_median_rule_gives_up_what_is_clearly_behind() -> None:
    ended = [curve(0.5, 0.7, 0.8, 0.9), curve(0.4, 0.6, 0.7, 0.8), curve(0.2, 0.3, 0.4, 0.5)]
    assert tuner.is_hopeless(curve(0.1, 0.2), ended, epochs=4)
    assert not tuner.is_hopeless(curve(0.1), ended, epochs=4), "the warm-up"
    assert not tuner.is_hopeless(curve(0.1, 0.2), ended[:2], epochs=4), "too few to compare with"
    assert not tuner.is_hopeless(curve(0.1, 0.55), ended, epochs=4), "ahead of the median's average"
    assert not tuner.is_hopeless(curve(0.1, 0.2, 0.3), ended, epochs=16), "the warm-up of long trials"


def test_the_median_rule_never_stops_the_eventual_best(models: Registry, data: Dataset) -> None:
    space = {"learning_rate": {"type": "choice", "values": [3e-3, 1e-6, 2e-3, 3e-6, 5e-3]}}
    goal = Goal(1.0, trials=5, minutes=5, epochs=6)
    plan = Plan("mlp", space, goal, seed=5, algorithm="grid")
    best = {stops: search.run(data, models, replace(plan, stop_early=stops)).trial.hyperparameters for stops in (False, True)}
    assert best[True] == best[False]
    stopped = [trial for trial in models.trials("digits") if trial.state == "stopped"]
    assert stopped and all("below the median" in trial.reason and len(trial.curve) < 6 for trial in stopped)


def test_the_check_up_before_and_after_speaks_of_this_search(data: Dataset) -> None:
    ranges = {"units": {"type": "int", "min": 8, "max": 16}, "dropout": {"type": "float", "min": 0.0, "max": 0.5}}
    plan = search.Plan("mlp", ranges, search.Goal(1.0, trials=2, minutes=1, epochs=1))
    before = search.check_up(data, plan)
    assert before.without_effect == () and any("2 trials take" in sentence for sentence in before.sentences)
    trials = [
        Trial(f"kx3v9q2m-t00{n}", "digits", "v", "completed", {"units": 16, "dropout": rate}, score, (score,), accuracy=score, kind=kind)
        for n, (rate, score, kind) in enumerate(
            [(0.2, 0.95, "search"), (0.3, 0.93, "search"), (0.2, 0.9501, "seed"), (0.2, 0.9499, "seed")]
        )
    ]
    with_seeds, without = (" ".join(search.look_back(data, plan, known).sentences) for known in (trials, trials[:2]))
    assert "may be chance" not in with_seeds and "may be chance" in without
    assert "units" in without and "16" in without


def test_a_broken_limit_has_failed_even_when_the_time_is_up(models: Registry, data: Dataset) -> None:
    goal = Goal(1.0, 4, 1e-9, 2, objective=Objective.parse("accuracy, nll <= 0.000001"))
    with pytest.raises(SearchError, match="All 1 trials failed.*a limit of the objective is broken: nll .* breaks nll <= 1e-06"):
        search.run(data, models, Plan("mlp", SPACE, goal, seed=5))
    (trial,) = models.trials("digits")
    assert trial.state == "failed" and math.isnan(trial.score) and len(trial.curve) == 1


def test_the_searchs_time_ends_a_trial_within_any_epoch_but_its_first(made: Make, tmp_path: Path) -> None:
    asked = iter([False, False, True])
    course = trainer.Course(tmp_path, 9, until=lambda: next(asked))
    job = trainer.Job(networks.find("mlp"), ACCURACY, made(), epochs=9)
    trial = trainer.train(
        Trial("kx3v9q2m-t001", "made", "v", "running", {"network": "mlp", "units": 8}, seed=3), job, course, lambda _: None
    )
    assert (trial.state, trial.reason, len(trial.curve)) == ("completed", "the search's time was up", 2)


def test_weights_that_are_lost_are_trained_again_to_the_same(made: Make, tmp_path: Path) -> None:
    job = trainer.Job(networks.find("mlp"), ACCURACY, made(), epochs=4)
    course = trainer.Course(tmp_path, 4)
    trial = trainer.train(
        Trial("kx3v9q2m-t001", "made", "v", "running", {"network": "mlp", "units": 8}, seed=3), job, course, lambda _: None
    )
    best = best_epoch(trial)
    undamaged = weights_hash(trainer.at_epoch(trial, job, course, best))
    (tmp_path / f"e{best:04d}.npz").write_bytes(b"rubbish")
    assert weights_hash(trainer.at_epoch(trial, job, course, best)) == undamaged
    with pytest.raises(SearchError, match="weights after epoch 1 are lost"):
        trainer.at_epoch(replace(trial, curve=(0.5, *trial.curve[1:])), job, replace(course, folder=tmp_path / "none"), 1)
