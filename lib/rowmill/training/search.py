"""AutoML by Keras Tuner: a sound default first, then Bayesian guesses, until the goal or the end of the budget."""

import math
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import keras_tuner
import numpy as np

from rowmill.data.dataset import Dataset
from rowmill.errors import ParameterError, SearchError
from rowmill.records import Candidate, ModelId, Trial, now
from rowmill.registry import Registry
from rowmill.training import networks
from rowmill.training.space import Goal, check

# A failing trial is a row with its reason; Keras Tuner would print its traceback, too.
keras_tuner.src.config.DEBUG = False

OBJECTIVE = "val_accuracy"
_LINE_EVERY_SECONDS = 5.0
_PREDICT_BATCH = 1024


@dataclass(frozen=True)
class Plan:
    """What to search.

    Attributes:
        network: `cnn` or `mlp`.
        space: Hyperparameter name to its range, see `space.check`.
        goal: When to stop.
        seed: Of the tuner's guesses and, with the trial's number added, of each trial; 0 draws one.
    """

    network: str
    space: Mapping[str, Mapping[str, Any]]
    goal: Goal
    seed: int = 0


def run(data: Dataset, registry: Registry, plan: Plan) -> Candidate:
    """Search, and return the best trial with its network at its best epoch.

    Every trial writes one row when it starts and one when it ends.

    Raises:
        ParameterError: The plan cannot be used.
        SearchError: Every trial failed.
    """
    if plan.network not in networks.DEFAULTS:
        raise ParameterError(f"There is no network {plan.network!r}", step=f"use one of {', '.join(networks.DEFAULTS)}")
    space = check(plan.space, tuple(networks.DEFAULTS[plan.network]))
    seeded = replace(plan, space=space, seed=plan.seed or int(np.random.default_rng().integers(1, 2**31)))
    progress = _Progress(data, registry, seeded)
    with tempfile.TemporaryDirectory(prefix="rowmill-search-") as folder:
        tuner = _Tuner(progress, folder)
        tuner.search()
        if progress.best is None:
            raise SearchError(
                f"All {len(progress.ended)} trials failed",
                found=progress.ended[0].reason,
                step="mend the space or the data, then search anew",
            )
        with warnings.catch_warnings():
            # The optimizer's state is of no use any more.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer", UserWarning)
            candidate = Candidate(progress.best, tuner.get_best_models(1)[0])
    print(f"best {progress.best.model_id}  validation accuracy {progress.best.score:.4f}", flush=True)
    return candidate


@dataclass
class _Progress:
    """What a running search knows of itself."""

    data: Dataset
    registry: Registry
    plan: Plan
    experiment: str = field(default_factory=ModelId.mint_experiment)
    started: float = field(default_factory=time.monotonic)
    ended: list[Trial] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    running: Trial | None = None
    printed: float = 0.0

    @property
    def best(self) -> Trial | None:
        """The completed trial with the highest score, of equals the first; the tuner keeps that one, too."""
        completed = [trial for trial in self.ended if trial.state == "completed"]
        return max(completed, key=lambda trial: trial.score, default=None)

    @property
    def seconds_left(self) -> float:
        """What is left of the time budget; negative once it is spent."""
        return self.plan.goal.minutes * 60 - (time.monotonic() - self.started)

    def is_over(self) -> bool:
        """Whether the goal is reached or the budget spent."""
        reached = self.best is not None and self.best.score >= self.plan.goal.accuracy
        return reached or self.seconds_left <= 0 or len(self.ended) >= self.plan.goal.trials

    def begin(self, values: dict[str, Any]) -> None:
        """Put a new trial on record."""
        number = len(self.ended) + 1
        version = self.data.version
        self.curve, self.printed = [], 0.0
        self.running = Trial(
            model_id=str(ModelId(self.experiment, f"t{number:03d}")),
            service=version.service,
            dataset_version=version.version,
            state="running",
            hyperparameters={"network": self.plan.network, **values},
            seed=self.plan.seed + number,
        )
        self.registry.add(self.running)

    def epoch_ended(self, accuracy: float) -> bool:
        """Note one epoch; return whether the trial should stop here."""
        self.curve.append(accuracy)
        if time.monotonic() - self.printed > _LINE_EVERY_SECONDS and self.running:
            self.printed = time.monotonic()
            left = max(0, round(self.seconds_left))
            print(
                f"{self.running.model_id}  epoch {len(self.curve)}  validation accuracy {accuracy:.4f}  {left // 60}:{left % 60:02d} left",
                flush=True,
            )
        return accuracy >= self.plan.goal.accuracy or self.seconds_left <= 0

    def end(self, reason: str) -> None:
        """Put the running trial's end on record; it failed when there is a reason."""
        assert self.running is not None
        score = max(self.curve, default=math.nan)
        state = "failed" if reason else "completed"
        ended = replace(self.running, state=state, score=score, curve=tuple(self.curve), reason=reason, at=now())
        self.ended.append(ended)
        self.registry.add(ended)
        print(f"{ended.model_id}  {state}  validation accuracy {score:.4f}  {_short(ended.hyperparameters)}  {reason}".rstrip(), flush=True)


class _Oracle(keras_tuner.oracles.BayesianOptimizationOracle):  # type: ignore[misc]  # Keras Tuner has no types
    """Bayesian optimisation that starts with the space's defaults and ends with the search's budget."""

    progress: _Progress

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the next values; the defaults first, and an end when the search is over."""
        if self.progress.is_over():
            return {"status": "STOPPED"}
        if not self.trials:
            return {"status": "RUNNING", "values": {hp.name: hp.default for hp in self.hyperparameters.space}}
        suggested: dict[str, Any] = super().populate_space(trial_id)
        return suggested


class _Network(keras_tuner.HyperModel):  # type: ignore[misc]
    """Builds and trains one trial."""

    def __init__(self, progress: _Progress) -> None:
        super().__init__()
        self.progress = progress
        self.pixels = networks.Pixels.of(progress.data.train.images)

    def build(self, hp: Any) -> Any:
        """Return the compiled network of these values."""
        plan, data = self.progress.plan, self.progress.data
        if self.progress.running:
            keras.utils.set_random_seed(self.progress.running.seed)
        values = {**networks.DEFAULTS[plan.network], **hp.values}
        model = networks.build(plan.network, values, self.pixels, len(data.version.labels))
        steps = plan.goal.epochs_for(len(data.train.keys)) * math.ceil(len(data.train.keys) / values["batch_size"])
        rate = keras.optimizers.schedules.CosineDecay(values["learning_rate"], steps)
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Train on the train split, watched on the validation split."""
        data, goal = self.progress.data, self.progress.plan.goal

        def watch(_: int, logs: dict[str, float]) -> None:
            model.stop_training |= self.progress.epoch_ended(logs[OBJECTIVE])

        history = model.fit(
            data.train.images,
            data.train.targets,
            batch_size={**networks.DEFAULTS[self.progress.plan.network], **hp.values}["batch_size"],
            epochs=goal.epochs_for(len(data.train.keys)),
            validation_data=(data.validation.images, data.validation.targets),
            validation_batch_size=_PREDICT_BATCH,
            callbacks=[*kwargs["callbacks"], keras.callbacks.LambdaCallback(on_epoch_end=watch)],
            verbose=0,
        )
        if not np.isfinite(history.history["loss"]).all():
            raise keras_tuner.errors.FailedTrialError("the loss is not a finite number; a smaller learning_rate may help")
        return history


class _Tuner(keras_tuner.Tuner):  # type: ignore[misc]  # pylint: disable=abstract-method  # as in Keras Tuner's own tuners
    """Keras Tuner with the project's trial rows."""

    def __init__(self, progress: _Progress, folder: str) -> None:
        self.progress = progress
        oracle = _Oracle(
            objective=keras_tuner.Objective(OBJECTIVE, "max"),
            max_trials=progress.plan.goal.trials,
            seed=progress.plan.seed,
            hyperparameters=_hyperparameters(progress.plan.space),
            # A failing trial is a row with its reason; the search goes on.
            max_consecutive_failed_trials=progress.plan.goal.trials + 1,
        )
        oracle.progress = progress
        super().__init__(oracle, _Network(progress), directory=folder, project_name=progress.experiment)
        self.oracle.verbose = 0

    def on_trial_begin(self, trial: Any) -> None:
        """Write the trial's first row."""
        self.progress.begin(dict(trial.hyperparameters.values))
        super().on_trial_begin(trial)

    def on_trial_end(self, trial: Any) -> None:
        """Write the trial's last row."""
        last_line = (trial.message or "").strip().rpartition("\n")[2]
        self.progress.end(last_line.removeprefix(f"{keras_tuner.errors.FailedTrialError.__module__}.FailedTrialError: "))
        super().on_trial_end(trial)


def _hyperparameters(space: Mapping[str, Mapping[str, Any]]) -> Any:
    hp = keras_tuner.HyperParameters()
    for name, entry in space.items():
        rest = {key: value for key, value in entry.items() if key not in ("type", "min", "max", "values")}
        match entry["type"]:
            case "int":
                hp.Int(name, entry["min"], entry["max"], **rest)
            case "float":
                hp.Float(name, entry["min"], entry["max"], **rest)
            case _:
                hp.Choice(name, entry["values"], **rest)
    return hp


def _short(values: Mapping[str, Any]) -> str:
    return "  ".join(f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items())
