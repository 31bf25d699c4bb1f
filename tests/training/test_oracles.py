"""Keras Tuner's algorithms on made-up scores: what they suggest, and that their records are all the memory they need."""

import json
import math
import statistics
import time
from collections.abc import Mapping
from typing import Any

import pytest
from rowmill.records import Trial
from rowmill.training import oracles, space
from rowmill.training.goal import ALGORITHMS

SPACE = space.read(
    {
        "units": {"type": "int", "min": 8, "max": 64, "default": 48},
        "dropout": {"type": "float", "min": 0.0, "max": 0.5, "step": 0.1, "default": 0.2},
        "rate": {"type": "float", "min": 1e-4, "max": 1e-1, "sampling": "log", "default": 1e-2},
        "kind": {"type": "choice", "values": ["a", "b", "c"], "default": "b"},
        "shift": {"type": "bool", "default": True},
    },
    {},
)


class Search:
    """An oracle and the records of its trials."""

    def __init__(self, algorithm: str, before: "Search | None" = None, seed: int = 3) -> None:
        self.oracle: Any = oracles.make(algorithm, SPACE, seed, epochs=9)
        self.records: dict[int, Trial] = dict(before.records) if before else {}
        self.memories: dict[int, Any] = dict(before.memories) if before else {}
        self.oracle.over = lambda: ""
        self.oracle.begun, self.oracle.ended = self.begun, lambda place: None
        self.oracle.replay([self.records[place] for place in sorted(self.records)], self.memories)

    def begun(self, place: int, values: Mapping[str, Any] | None, memory: Mapping[str, Any]) -> None:
        """Keep a new trial's record, and as JSON what its algorithm must remember."""
        if values is not None:
            self.memories[place] = json.loads(json.dumps(memory))
            self.records[place] = Trial(f"abcdefgh-t{place:03d}", "s", "v", "running", {"network": "x", **values})

    def step(self, worker: str = "w1") -> dict[str, Any]:
        """Take a suggestion and end it with a score; return its values."""
        return self.end(self.oracle.create_trial(worker))

    def end(self, suggestion: Any) -> dict[str, Any]:
        """End a trial with a score; return its values."""
        values = oracles.chosen(suggestion)
        place = int(suggestion.trial_id) + 1
        score = 1 - (math.log10(values["rate"]) + 2.5) ** 2 / 10 - abs(values["units"] - 30) / 100
        failed = place % 5 == 4
        self.records[place] = Trial(
            f"abcdefgh-t{place:03d}", "s", "v", "failed" if failed else "completed", {"network": "x", **values}, score
        )
        if not failed:
            self.oracle.update_trial(suggestion.trial_id, {oracles.SCORE: score})
        suggestion.status = "FAILED" if failed else "COMPLETED"
        self.oracle.end_trial(suggestion)
        return values


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_first_trial_is_the_defaults_and_no_full_trial_is_repeated(algorithm: str) -> None:
    search = Search(algorithm)
    found = [search.step() for _ in range(12)]
    assert found[0] == {"units": 48, "dropout": 0.2, "rate": 1e-2, "kind": "b", "shift": True}
    assert not any(name.startswith("tuner") for values in found for name in values)
    if algorithm != "hyperband":
        assert len({str(values) for values in found}) == 12


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("cut", [1, 6, 13])
def test_a_replayed_search_goes_on_as_it_would_have(algorithm: str, cut: int) -> None:
    search = Search(algorithm)
    for _ in range(cut):
        search.step()
    again = Search(algorithm, search)
    assert [search.step() for _ in range(5)] == [again.step() for _ in range(5)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_trial_that_was_cut_off_is_handed_out_first(algorithm: str) -> None:
    search = Search(algorithm)
    search.step()
    cut = oracles.chosen(search.oracle.create_trial("w1"))
    again = Search(algorithm, search)
    assert again.step() == cut and len(again.records) == 2
    again.step()
    assert len(again.records) == 3


def test_hyperbands_workers_may_have_ended_in_any_order() -> None:
    search = Search("hyperband")
    late = search.oracle.create_trial("w1")
    for _ in range(14):
        search.step("w2")
    search.end(late)
    for _ in range(6):
        search.step("w1")
    again = Search("hyperband", search)
    own = [{id_: trial.hyperparameters.values for id_, trial in one.oracle.trials.items()} for one in (search, again)]
    assert own[0] == own[1] and sum("tuner/trial_id" in values for values in own[0].values()) > 1
    assert [search.step() for _ in range(5)] == [again.step() for _ in range(5)]


def test_a_lost_workers_trial_goes_to_another() -> None:
    search = Search("bayesian")
    first = search.oracle.create_trial("w1")
    assert search.oracle.requeue("w1") == first.trial_id and search.oracle.requeue("w1") == ""
    assert search.oracle.create_trial("w2").trial_id == first.trial_id
    assert search.oracle.create_trial("w1").trial_id != first.trial_id


def test_bayesian_guesses_get_better_and_take_a_moment() -> None:
    best = []
    for seed in (1, 2, 3):
        search, started = Search("bayesian", seed=seed), time.process_time()
        for _ in range(30):
            search.step()
        assert (time.process_time() - started) / 30 < 0.5  # Keras Tuner's own: 6 s
        scores = [search.records[place].score for place in sorted(search.records)]
        best.append(max(scores))
        assert sum(scores[20:]) / 10 > sum(scores[:10]) / 10
    assert statistics.median(best) > 0.985  # random search: 0.967


def test_the_first_bayesian_guesses_are_steps_from_the_best_trial() -> None:
    search = Search("bayesian")
    best = search.step()
    for _ in range(3):
        ahead, tried = max(record.score for record in search.records.values()), search.step()
        assert 0 < sum(tried[name] != best[name] for name in SPACE) < len(SPACE)
        best = tried if search.records[len(search.records)].score > ahead else best


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_guess_that_differs_in_the_last_digits_alone_is_none(seed: int) -> None:
    search = Search("bayesian", seed=seed)
    tried = [search.step() for _ in range(6)]
    alike = {tuple(f"{value:.4g}" if isinstance(value, float) else value for value in values.values()) for values in tried}
    assert len(alike) == 6 and all(len(repr(values["rate"])) < 12 and 1e-4 <= values["rate"] <= 1e-1 for values in tried)


def test_a_search_that_is_over_begins_no_trial() -> None:
    for algorithm in ALGORITHMS:
        search = Search(algorithm)
        search.step()
        search.oracle.over = lambda: "the goal is reached"
        assert search.oracle.create_trial("w1").status == "STOPPED"
