"""Keras Tuner's oracles, with the search's own records as their only memory: a resumed one is replayed, never reloaded."""

import math
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras_tuner
import numpy as np
import sklearn.gaussian_process as gaussian
from keras_tuner.engine.hyperparameters import Float
from keras_tuner.engine.trial import Trial as Suggestion
from scipy.stats import qmc
from sklearn.exceptions import ConvergenceWarning

from rowmill.records import Trial
from rowmill.training.space import values_of
from rowmill.training.study import number

SCORE = "score"
# Values that the acquisition function is asked for at each Bayesian guess: spread over the space, and near the best.
_SPREAD, _NEAR, _WIDTH = 512, 256, 0.1
_FEWEST = 4
# So many values change on average in a first guess, each by at most this part of its range.
_MOVED, _STRIDE = 3.0, 0.35


class Recorded(keras_tuner.Oracle):  # type: ignore[misc]  # Keras Tuner has no types
    """What each of Keras Tuner's algorithms gets from us; stands before it in the bases.

    Keras Tuner writes its state in place, at each step, and cannot read a torn file. Here nothing is written: what a trial
    was and became is on record anyway, and from these records the same oracle is built again.

    Attributes:
        over: Says why no further trial is begun; empty while the search goes on.
        begun: Called with each new trial's number, values and `memory`; without values for one that is taken up again.
        ended: Called with each trial's number when it has ended.
    """

    over: Callable[[], str]
    begun: Callable[[int, Mapping[str, Any] | None, Mapping[str, Any]], None]
    ended: Callable[[int], None]

    def __init__(self, seed: int, **rest: Any) -> None:
        self.turn = threading.RLock()
        objective = keras_tuner.Objective(SCORE, "max")
        # A failing trial is a row with its reason; the search goes on.
        super().__init__(objective=objective, seed=seed, max_consecutive_failed_trials=10**9, **rest)
        self.verbose = 0

    def save(self) -> None:
        """Write nothing."""

    def _save_trial(self, trial: Any) -> None:
        """Write nothing."""

    def create_trial(self, tuner_id: str) -> Any:
        """Return the next trial, which is one that was cut off, or a new one, and put a new one on record."""
        with self.turn:
            known = set(self.trials)
            suggestion = super().create_trial(tuner_id)
            if suggestion.status == "RUNNING":
                values = None if suggestion.trial_id in known else chosen(suggestion)
                self.begun(int(suggestion.trial_id) + 1, values, self.memory(suggestion.trial_id))
            return suggestion

    def end_trial(self, trial: Any) -> None:
        """Take a trial's end in, and put it on record."""
        with self.turn:
            super().end_trial(trial)
            self.ended(int(trial.trial_id) + 1)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the next values, or an end when the search is over."""
        if self.over():
            return {"status": "STOPPED"}
        suggested: dict[str, Any] = super().populate_space(trial_id)
        return suggested

    def _random_values(self) -> dict[str, Any] | None:
        """Return values never tried: the space's defaults first, then what seed and count of trials alone decide."""
        if not self.trials:
            return {hp.name: hp.default for hp in self.hyperparameters.space}
        self._seed_state = self.seed + 10_000 * len(self.trials)
        values: dict[str, Any] | None = super()._random_values()
        return values

    def _compute_values_hash(self, values: Mapping[str, Any]) -> str:
        # By the digits that matter: to and fro between a value and its place in the range the last ones change.
        found: str = super()._compute_values_hash({name: _rounded(value) for name, value in values.items()})
        return found

    def memory(self, trial_id: str) -> dict[str, Any]:  # pylint: disable=unused-argument  # Hyperband's has one
        """Return what the algorithm must remember beside the trials' values, as JSON can hold it."""
        return {}

    def replay(self, trials: Sequence[Trial], memories: Mapping[int, dict[str, Any]]) -> None:
        """Bring the oracle to where it was; trials that were running are handed out first.

        Args:
            trials: On record, in the order of their numbers.
            memories: Of trials by their number, what `memory` gave when they began; one that is lost is guessed.
        """
        with self.turn:
            for trial in trials:
                self._replay_one(trial, memories.get(number(trial.model_id), {}))

    def requeue(self, tuner_id: str) -> str:
        """Take a trial from a worker that is no more, to be handed out again; return its id, or an empty text."""
        with self.turn:
            suggestion = self.ongoing_trials.pop(tuner_id, None)
            self.tuner_ids.discard(tuner_id)
            if suggestion is None:
                return ""
            self._queue(suggestion)
            return str(suggestion.trial_id)

    def _replay_one(self, trial: Trial, memory: Mapping[str, Any]) -> None:
        trial_id = f"{number(trial.model_id) - 1:04d}"
        values = {name: value for name, value in trial.hyperparameters.items() if name != "network"}
        hyperparameters = self.hyperparameters.copy()
        hyperparameters.values = {**self._recalled(trial_id, memory), **values}
        suggestion = Suggestion(hyperparameters, trial_id, "RUNNING")
        self.trials[trial_id] = suggestion
        self.start_order.append(trial_id)
        self._record_values(suggestion)
        if trial.state == "running":
            self._queue(suggestion)
            return
        suggestion.status = "FAILED" if trial.state == "failed" or not math.isfinite(trial.score) else "COMPLETED"
        if suggestion.status == "COMPLETED":
            self.update_trial(trial_id, {SCORE: trial.score})
        super().end_trial(suggestion)

    def _queue(self, suggestion: Any) -> None:
        # Keras Tuner's Gaussian process would take a trial that nobody runs for a running one; handed out, it becomes that again.
        suggestion.status = "INVALID"
        self._retry_queue.insert(0, suggestion.trial_id)

    def _recalled(self, trial_id: str, memory: Mapping[str, Any]) -> dict[str, Any]:  # pylint: disable=unused-argument
        """Return the tuner's own values of a trial on record; asked for its side effects, too, such as the grid's place."""
        suggested = super().populate_space(trial_id).get("values") or {}
        return {name: value for name, value in suggested.items() if name.startswith("tuner/")}


class _Random(Recorded, keras_tuner.oracles.RandomSearchOracle):  # type: ignore[misc]
    """Random search."""


class _Grid(Recorded, keras_tuner.oracles.GridSearchOracle):  # type: ignore[misc]
    """Every combination of values, the defaults first."""


class _Hyperband(Recorded, keras_tuner.oracles.HyperbandOracle):  # type: ignore[misc]
    """Many short trials, of which the better ones go on.

    Which ones did depends on what had ended when they were chosen, and with workers no record tells that: so it is remembered.
    """

    def memory(self, trial_id: str) -> dict[str, Any]:
        """Return the brackets after a trial began, and its own place in them."""
        values = self.trials[trial_id].hyperparameters.values
        own = {name: value for name, value in values.items() if name.startswith("tuner/")}
        return {"own": own, "brackets": self._brackets, "bracket": self._current_bracket, "iteration": self._current_iteration}

    def _recalled(self, trial_id: str, memory: Mapping[str, Any]) -> dict[str, Any]:
        if memory:
            self._brackets, self._current_bracket = memory["brackets"], memory["bracket"]
            self._current_iteration = memory["iteration"]
            return dict(memory["own"])
        return super()._recalled(trial_id, memory)


class _Bayesian(Recorded, keras_tuner.oracles.BayesianOptimizationOracle):  # type: ignore[misc]
    """Bayesian optimisation with Keras Tuner's Gaussian process and upper confidence bound, its maximum found faster.

    Keras Tuner starts 50 gradient searches per guess, each of hundreds of single predictions: 6 to 15 s where all else takes
    0.1 s. The values that can be tried are steps and choices anyway, so many points at once are asked, in one prediction.
    """

    def _make_gpr(self) -> Any:
        # Places are 0 to 1: nothing varies over less than a hundredth of a range.
        kernel = gaussian.kernels.Matern(length_scale_bounds=(0.01, 100), nu=2.5)
        return gaussian.GaussianProcessRegressor(
            kernel=kernel, n_restarts_optimizer=2, normalize_y=True, alpha=self.alpha, random_state=self.seed
        )

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the values with the best bound of those that were never tried."""
        if self.over():
            return {"status": "STOPPED"}
        done = [trial for trial in self.trials.values() if trial.status == "COMPLETED"]
        if not done:
            return dict(self._random_populate_space())
        places, losses = self._vectorize_trials()
        best = places[np.argmin(losses)]
        if len(done) < _FEWEST:
            return self._never_tried(self._steps_from(best))
        with warnings.catch_warnings():
            # A length scale at its bound is no fault: few trials do not tell better.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.gpr.fit(places, losses)
        points = self._points(best)
        mean, deviation = self.gpr.predict(points, return_std=True)
        return self._never_tried(points[np.argsort(mean - self.beta * deviation)])

    def _vector_to_values(self, vector: Any) -> dict[str, Any]:
        """Return a point's values; those of a range without steps in digits that a person would write."""
        values: dict[str, Any] = super()._vector_to_values(vector)
        for hp in self.hyperparameters.space:
            if isinstance(hp, Float) and hp.name in values:
                values[hp.name] = min(max(_rounded(values[hp.name]), hp.min_value), hp.max_value)
        return values

    def _never_tried(self, points: Any) -> dict[str, Any]:
        for point in points:
            values = self._vector_to_values(point)
            if not self._duplicate(values):
                return {"status": "RUNNING", "values": values}
        return dict(self._random_populate_space())

    def _steps_from(self, best: Any) -> Any:
        """Return points for the first guesses, while there is too little to learn from: the best one with a few of its values changed.

        The first trial is a sound one, and what is near it mostly is, too; from a random point a short search never comes back
        (local search from a good start: Q. Wu et al., Frugal Optimization for Cost-related Hyperparameters, AAAI 2021).
        """
        rng = np.random.default_rng([self.seed, len(self.trials)])
        moved = rng.random((_NEAR, len(best))) < min(1.0, _MOVED / len(best))
        return np.where(moved, np.clip(best + rng.uniform(-_STRIDE, _STRIDE, moved.shape), 0, 1), best)

    def _recalled(self, trial_id: str, memory: Mapping[str, Any]) -> dict[str, Any]:
        """Keep nothing between guesses."""
        return {}

    def _points(self, best: Any) -> Any:
        """Return points of the space, float64, (points, hyperparameters), 0 to 1: spread evenly, and near the best one.

        Each is one that can be tried: the place of the value it stands for.
        """
        rng = np.random.default_rng([self.seed, len(self.trials)])
        spread = qmc.Sobol(len(best), rng=rng).random(_SPREAD)
        near = np.clip(best + rng.normal(0, _WIDTH, (_NEAR, len(best))), 0, 1)
        points = np.concatenate([spread, near])
        space = self._nonfixed_space()
        for column, hp in enumerate(space):
            points[:, column] = [hp.value_to_prob(hp.prob_to_value(min(point, 1 - 1e-9))) for point in points[:, column]]
        return points


_KINDS = {"random": _Random, "grid": _Grid, "hyperband": _Hyperband, "bayesian": _Bayesian}


def make(algorithm: str, ranges: Mapping[str, Mapping[str, Any]], seed: int, epochs: int) -> Recorded:
    """Return an oracle; `over`, `begun` and `ended` are the caller's to set.

    Args:
        algorithm: One of `goal.ALGORITHMS`.
        ranges: As `space.read` returns them.
        seed: Of its guesses.
        epochs: Length of a full trial, for Hyperband's brackets.
    """
    # The search's budget ends it, not the oracle's own.
    rest = {"max_epochs": epochs, "hyperband_iterations": 10**6} if algorithm == "hyperband" else {"max_trials": None}
    return _KINDS[algorithm](seed, hyperparameters=_hyperparameters(ranges), **rest)


def chosen(suggestion: Any) -> dict[str, Any]:
    """Return the values of Keras Tuner's trial without the tuner's own."""
    return {name: value for name, value in suggestion.hyperparameters.values.items() if not name.startswith("tuner/")}


def _rounded(value: Any) -> Any:
    """Return a float in five digits, anything else as it is."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _hyperparameters(ranges: Mapping[str, Mapping[str, Any]]) -> Any:
    hp = keras_tuner.HyperParameters()
    for name, entry in ranges.items():
        rest = {key: value for key, value in entry.items() if key not in ("type", "min", "max", "values")}
        match entry["type"]:
            case "int":
                hp.Int(name, entry["min"], entry["max"], **rest)
            case "bool":
                # As a choice Keras Tuner would make numbers of them.
                hp.Boolean(name, entry["default"])
            case "float" if "step" in entry:
                # Keras Tuner's own steps of 0.1 never reach 0.5: it divides without rounding.
                hp.Choice(name, values_of(entry), default=float(entry["default"]))
            case "float":
                hp.Float(name, entry["min"], entry["max"], **rest)
            case _:
                hp.Choice(name, entry["values"], **rest)
    return hp
