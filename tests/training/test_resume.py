"""Searches that are cut off by hand, by kill -9 and by damaged files: what had ended stays, what ran goes on."""

import contextlib
import dataclasses
import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from rowmill import jobs
from rowmill.data.dataset import Dataset
from rowmill.errors import SearchError
from rowmill.records import Candidate, ModelId, Trial
from rowmill.registry import Registry, connected
from rowmill.settings import Settings
from rowmill.tables import TABLES
from rowmill.training import artefact, checkpoints, search, study
from rowmill.training.search import Goal, Plan
from rowmill.training.study import number

from tests.conftest import ROOT, digits_in, project_in
from tests.training.conftest import weights_hash

SPACE = {"units": {"type": "int", "min": 8, "max": 64, "default": 16}}
PLAN = Plan("mlp", SPACE, Goal(1.0, trials=2, minutes=5, epochs=4), seed=11)

# What a process that is killed runs: the project's folder of state is its only argument.
SEARCH = """
import sys
from pathlib import Path
from rowmill.data import dataset
from rowmill.registry import connected
from rowmill.training import search
from tests.conftest import project_in
from tests.training.test_resume import PLAN
models = connected(project_in(Path(sys.argv[1])))
search.run(dataset.load(models.warehouse, dataset.find(models.warehouse)), models, PLAN)
"""


@pytest.fixture(autouse=True)
def _watched_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "WATCH_EVERY_SECONDS", 0.0)


def experiment_of(models: Registry) -> str:
    """Return the only experiment's name."""
    (name,) = {ModelId.parse(trial.model_id).experiment for trial in models.trials("digits")}
    return name


def cut(data: Dataset, models: Registry, when: Callable[[Sequence[Trial]], bool], plan: Plan = PLAN) -> None:
    """Run a search, with Ctrl-C at the first moment that `when` says so."""

    def watch(trials: Sequence[Trial]) -> None:
        if when(trials):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(SearchError, match="was interrupted; found .* trials ended.*run it again with the same plan"):
        search.run(data, models, plan, watch)


def in_trial(place: int, epoch: int) -> Callable[[Sequence[Trial]], bool]:
    """Return whether this trial, counted from 1, is running and has ended this epoch."""
    return lambda trials: len(trials) == place and trials[-1].state == "running" and len(trials[-1].curve) == epoch


def check_whole(models: Registry, candidate: Candidate) -> None:
    """Hold the search's rows against what an uninterrupted search leaves: one start and one end each."""
    rows = models.warehouse.read(TABLES[Trial])
    assert sorted(zip(rows["model_id"].str[-4:], rows["state"], strict=True)) == sorted(
        (name, state) for name in ("t001", "t002") for state in ("running", "completed")
    )
    assert all(len(trial.curve) == 4 for trial in models.siblings(candidate.trial))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], str]:
    """The values and curves of the plan's trials when nothing happens to it, and its candidate's weights."""
    models = connected(project_in(tmp_path_factory.mktemp("undisturbed")))
    candidate = search.run(digits_in(models), models, PLAN)
    return essence(models), weights_hash(candidate.network)


def essence(models: Registry) -> list[dict[str, Any]]:
    """Return what must not depend on interruptions."""
    return [{"values": trial.hyperparameters, "seed": trial.seed, "curve": trial.curve} for trial in models.trials("digits")]


def test_a_search_stopped_by_hand_goes_on_as_if_it_had_not_been(
    models: Registry, data: Dataset, undisturbed: tuple[list[dict[str, Any]], str]
) -> None:
    cut(data, models, in_trial(2, 2))
    assert [trial.state for trial in models.trials("digits")] == ["completed", "running"]
    assert [len(trial.curve) for trial in search.progress(models.state, "")] == [4, 2]
    candidate = search.run(data, models, PLAN)
    check_whole(models, candidate)
    assert (essence(models), weights_hash(candidate.network)) == undisturbed


def test_kill_9_loses_at_most_one_epoch(
    project: Settings,
    models: Registry,
    data: Dataset,
    undisturbed: tuple[list[dict[str, Any]], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert data.version.service == "digits"
    chance = random.Random(4)
    for place in (1, 2):
        wanted = chance.randrange(1, 4)
        with started(project) as process:
            while not any(number(t.model_id) == place and len(t.curve) >= wanted for t in study.progress(project.state, "")):
                assert process.poll() is None
                time.sleep(0.002)
            process.kill()
        seen = study.progress(project.state, "")
    candidate = search.run(data, models, PLAN)
    ended = sum(trial.state != "running" for trial in seen)
    assert f"goes on: {ended} trials ended, t002 after epoch {len(seen[-1].curve)}" in capsys.readouterr().out
    assert (essence(models), weights_hash(candidate.network)) == undisturbed
    check_whole(models, candidate)


@contextlib.contextmanager
def started(project: Settings) -> Iterator[subprocess.Popen[str]]:
    """Run the plan in a process of its own; it is no more in the end."""
    command = [sys.executable, "-c", SEARCH, str(project.state)]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("damaged", ["t002/trial.json", "t002/e0002.npz", "[st]*"])
def test_a_torn_file_is_recovered_from(
    models: Registry, data: Dataset, damaged: str, undisturbed: tuple[list[dict[str, Any]], str]
) -> None:
    cut(data, models, in_trial(2, 2))
    folder = models.state / "searches" / experiment_of(models)
    # The last of them stands for all files but the plan's.
    torn = [path for path in folder.glob(damaged) if path.is_file()] + [path for path in folder.glob(f"{damaged}/*") if path.is_file()]
    assert torn
    for path in torn:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    candidate = search.run(data, models, PLAN)
    check_whole(models, candidate)
    assert (essence(models), weights_hash(candidate.network)) == undisturbed


def test_a_torn_plan_is_a_search_of_its_own(models: Registry, data: Dataset) -> None:
    cut(data, models, in_trial(1, 1))
    plan = models.state / "searches" / experiment_of(models) / "plan.json"
    plan.write_bytes(plan.read_bytes()[:40])
    search.run(data, models, PLAN)
    assert len({trial.model_id[:8] for trial in models.trials("digits")}) == 2


def test_a_kill_between_record_and_warehouse_is_mended(models: Registry, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    add, calls = Registry.add, []

    def dies(self: Registry, record: Any) -> None:
        calls.append(record)
        if len(calls) == 2:
            raise KeyboardInterrupt
        add(self, record)

    monkeypatch.setattr(Registry, "add", dies)
    with pytest.raises(SearchError, match="interrupted"):
        search.run(data, models, PLAN)
    assert [trial.state for trial in models.trials("digits")] == ["running"]
    check_whole(models, search.run(data, models, PLAN))


def test_the_time_budget_counts_over_all_resumes(models: Registry, data: Dataset) -> None:
    plan = dataclasses.replace(PLAN, goal=Goal(1.0, trials=500, minutes=1, epochs=2))
    cut(data, models, in_trial(2, 1), plan)
    spent = models.state / "searches" / experiment_of(models) / "spent"
    assert 0 < float(spent.read_text()) < 60
    spent.write_text("59.9")
    search.run(data, models, plan)
    assert len(models.trials("digits")) <= 3


def test_a_full_disk_is_one_sentence_and_the_search_goes_on_when_there_is_room(
    models: Registry, data: Dataset, undisturbed: tuple[list[dict[str, Any]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (3, 8):
        with monkeypatch.context() as full:
            calls = iter(range(place))

            def fsync(_: int, calls: Iterator[int] = calls) -> None:
                if next(calls, None) is None:
                    raise OSError(errno.ENOSPC, "No space left on device")

            full.setattr(os, "fsync", fsync)
            with pytest.raises(SearchError, match="cannot write .*; found No space left on device; make room, then run the search again"):
                search.run(data, models, PLAN)
    candidate = search.run(data, models, PLAN)
    check_whole(models, candidate)
    assert (essence(models), weights_hash(candidate.network)) == undisturbed


def test_a_trial_that_ends_its_process_again_and_again_has_failed(models: Registry, data: Dataset) -> None:
    cut(data, models, in_trial(1, 1))
    for _ in range(3):
        # What each process leaves that is killed before its next epoch.
        checkpoints.attempts(models.state / "searches" / experiment_of(models) / "t001", 1)
    assert search.run(data, models, PLAN).trial.model_id.endswith("t002")
    failed = models.trials("digits")[0]
    assert failed.state == "failed" and "its process ended 3 times in this epoch, perhaps for lack of memory" in failed.reason


def test_an_outcome_that_is_no_model_yet_is_had_again_without_training(models: Registry, data: Dataset) -> None:
    first, before = search.run(data, models, PLAN), essence(models)
    again = search.run(data, models, PLAN)
    assert (again.trial.model_id, weights_hash(again.network)) == (first.trial.model_id, weights_hash(first.network))
    assert essence(models) == before
    artefact.export(again, data, models)
    assert search.run(data, models, PLAN).trial.model_id[:8] != first.trial.model_id[:8]


@pytest.mark.parametrize("place", ["add", "close"])
def test_an_export_that_was_killed_is_taken_up(models: Registry, data: Dataset, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    short = dataclasses.replace(PLAN, goal=Goal(1.0, trials=1, minutes=5, epochs=1))
    candidate = search.run(data, models, short)
    with monkeypatch.context() as killed:
        # Nothing of what follows is done, as after a kill.
        killed.setattr(*{"add": (Registry, "add"), "close": (checkpoints, "close")}[place], kill)
        with pytest.raises(KeyboardInterrupt):
            artefact.export(candidate, data, models)
    again = search.run(data, models, short)
    assert (again.trial.model_id == candidate.trial.model_id) == (place == "add")
    assert artefact.export(again, data, models) in models.models("digits")


def kill(*_: Any) -> None:
    """Stand for a process that ends here."""
    raise KeyboardInterrupt


def test_weights_of_losers_leave_the_disk(models: Registry, data: Dataset) -> None:
    most, plan = [0], dataclasses.replace(PLAN, goal=Goal(1.0, trials=4, minutes=5, epochs=2))

    def watch(trials: Sequence[Trial]) -> None:
        ended = {ModelId.parse(trial.model_id).trial for trial in trials if trial.state != "running"}
        most.append(len(ended & {path.parent.name for path in models.state.glob("searches/*/t*/*.npz")}))

    candidate = search.run(data, models, plan, watch)
    assert max(most) == 1 and list(models.state.glob("searches/*/t*/*.npz"))
    artefact.export(candidate, data, models)
    assert not list(models.state.glob("searches/*/t*/*.npz"))


def test_other_plans_data_and_finished_searches_are_not_resumed(models: Registry, data: Dataset) -> None:
    short = dataclasses.replace(PLAN, goal=Goal(1.0, trials=1, minutes=5, epochs=1))
    first, second = (artefact.export(search.run(data, models, short), data, models).model_id for _ in range(2))
    cut(data, models, in_trial(1, 1))
    other = dataclasses.replace(data, version=dataclasses.replace(data.version, version="0" * 12))
    third = search.run(data, models, dataclasses.replace(short, seed=12)).trial.model_id
    fourth = search.run(other, models, PLAN).trial.model_id
    assert len({model_id[:8] for model_id in (first, second, third, fourth)} | {t.model_id[:8] for t in models.trials("digits")}) == 5


def test_a_running_search_is_not_resumed_by_another(models: Registry, data: Dataset) -> None:
    cut(data, models, in_trial(1, 1))
    short = experiment_of(models)
    with jobs.lock(models.state, f"search-{short}", what="a search"):
        other = artefact.export(search.run(data, models, PLAN), data, models)
        assert other.model_id[:8] != short
    assert search.run(data, models, PLAN).trial.model_id[:8] == short
