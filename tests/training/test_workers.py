"""Searches by several processes: killed workers, chiefs that die, and workers of another address."""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from rowmill import jobs
from rowmill.data.dataset import Dataset
from rowmill.errors import ParameterError, SearchError
from rowmill.records import Trial
from rowmill.registry import Registry
from rowmill.settings import Chief
from rowmill.training import pace, search, workers
from rowmill.training.search import Goal, Plan

SPACE = {"units": {"type": "int", "min": 8, "max": 64, "default": 16}}
PLAN = Plan("mlp", SPACE, Goal(1.0, trials=4, minutes=5, epochs=3), seed=11, algorithm="random", workers=1)

# A network that the kernel kills, as it would for lack of memory.
DEADLY = """
import os, signal, time
import keras
def network(values, pixels, classes):
    if values["units"] == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    if values["units"] == 14:
        time.sleep(600)
    images = keras.Input(pixels.shape, dtype="uint8")
    return keras.Model(images, keras.layers.Dense(classes, activation="softmax")(keras.layers.Flatten()(images)))
"""


def workers_of(models: Registry) -> list[psutil.Process]:
    """Return the running workers of this project's searches."""
    found = [process for process in psutil.process_iter(["cmdline"]) if "rowmill.training.workers" in (process.info["cmdline"] or ())]
    return [process for process in found if str(models.state.resolve()) in process.info["cmdline"][-1]]


def test_a_worker_here_and_one_of_another_address_share_the_trials(models: Registry, data: Dataset) -> None:
    port = jobs.free_port()
    seen: set[int] = set()

    def joined() -> int:
        """Join the search as soon as its folder is laid out, as another machine's worker."""
        while not (found := list((models.state / "searches").glob("*/data/labels.json"))):
            time.sleep(0.01)
        variables = {"KERASTUNER_ORACLE_IP": "127.0.0.2", "KERASTUNER_ORACLE_PORT": str(port), "KERASTUNER_TUNER_ID": "pod1"}
        command = [sys.executable, "-m", "rowmill.training.workers", str(found[0].parents[1])]
        return subprocess.run(command, env={**os.environ, **variables}, stderr=subprocess.DEVNULL, timeout=120, check=False).returncode

    def watch(trials: Sequence[Trial]) -> None:
        seen.add(sum(trial.state == "running" for trial in trials))

    plan = replace(PLAN, goal=Goal(1.0, trials=12, minutes=5, epochs=30), address=f"127.0.0.2:{port}")
    with ThreadPoolExecutor() as pool:
        other = pool.submit(joined)
        candidate = search.run(data, models, plan, watch)
        assert other.result() == 0
    trials = models.siblings(candidate.trial)
    assert [trial.state for trial in trials if trial.state != "stopped"] == ["completed"] * sum(t.state == "completed" for t in trials)
    assert len({str(trial.hyperparameters) for trial in trials}) == 12 and trials[0].hyperparameters["units"] == 16
    assert 2 in seen and all("1 threads" in trial.mode for trial in trials)
    answers = candidate.network.predict(data.validation.images, verbose=0).argmax(axis=1)
    assert (answers == data.validation.targets).mean() == pytest.approx(candidate.trial.score, abs=1e-6)
    assert not workers_of(models) and not (models.state / "searches" / candidate.trial.model_id[:8] / "data").exists()


def test_a_killed_workers_trial_is_trained_again_and_fails_the_second_time_as_one_that_hangs_does(
    models: Registry, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_GRACE_SECONDS", 0.0)
    (tmp_path / "deadly.py").write_text(DEADLY)
    space = {"units": {"type": "choice", "values": [13, 14, 15], "default": 13}}
    plan = replace(
        PLAN, network=f"{tmp_path}/deadly.py:network", space=space, goal=Goal(1.0, 3, 5, epochs=1), algorithm="grid", trial_minutes=0.15
    )
    candidate = search.run(data, models, plan)
    deadly, hanging, fine = models.trials("digits")
    assert deadly.state == "failed" and "its process ended twice, with signal 9" in deadly.reason
    assert hanging.state == "failed" and "it took longer than 0.15 minutes, and its process answered no more" in hanging.reason
    assert candidate.trial == fine


def test_ctrl_c_ends_the_workers_and_the_search_goes_on_alone(models: Registry, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if machines were so slow that the time given decides how long a trial is.
    monkeypatch.setattr(pace, "_OPERATIONS", 3e5)

    def watch(trials: Sequence[Trial]) -> None:
        if any(trial.curve for trial in trials):
            signal.raise_signal(signal.SIGINT)

    plan = replace(PLAN, goal=Goal(1.0, 1, 5))
    with pytest.raises(SearchError, match="interrupted"):
        search.run(data, models, plan, watch)
    assert not workers_of(models)
    candidate = search.run(data, models, replace(plan, workers=0))
    assert [trial.model_id for trial in models.trials("digits")] == [candidate.trial.model_id]


def test_an_address_of_another_machine_is_refused(models: Registry, data: Dataset) -> None:
    with pytest.raises(ParameterError, match="cannot listen on 192.0.2.1:1"):
        search.run(data, models, replace(PLAN, address="192.0.2.1:1"))


def test_a_function_of_this_process_cannot_go_to_workers() -> None:
    with pytest.raises(ParameterError, match=r"give it as path/to/file.py:function"):
        replace(PLAN, network=lambda values, pixels, classes: None)


def test_functions_that_carry_values_are_never_taken_for_one_another() -> None:
    def inner(values: Any, pixels: Any, classes: int) -> Any:
        return (PLAN, values, pixels, classes)

    def outer(values: Any, pixels: Any, classes: int) -> Any:
        return inner(values, pixels, classes)

    for network, same in ((inner, True), (outer, False), (functools.partial(inner, layers=2), False)):
        plan = Plan(network, {}, PLAN.goal)
        assert (plan.identity() == plan.identity()) is same


def test_a_chief_whose_name_is_unknown_is_silent() -> None:
    assert not workers._answers(Chief("no-such-host.invalid", 1, "w1"))  # pylint: disable=protected-access
