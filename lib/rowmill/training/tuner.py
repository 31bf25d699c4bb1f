"""Keras Tuner's loop around our trainer: one trial after the other, each of which fails, stops or ends for itself."""

import gc
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.errors import FailedTrialError, FatalError

from rowmill.data.dataset import Dataset
from rowmill.errors import RowmillError, SearchError
from rowmill.records import Trial, now
from rowmill.training import checkpoints, networks, oracles, trainer
from rowmill.training.events import Events
from rowmill.training.plan import Plan
from rowmill.training.study import Study, UnwritableError

# A failing trial is a row with its reason; Keras Tuner would print its traceback, too.
keras_tuner.src.config.DEBUG = False

# The median rule needs so many ended trials, and this share of a trial's epochs.
_PEERS, _WARM_UP = 3, 0.25
_LONGEST_REASON = 300
_ATTEMPTS = 3


def job_of(plan: Plan, data: Dataset) -> trainer.Job:
    """Return what a plan's trials share."""
    objective = plan.goal.objective
    return trainer.Job(networks.find(plan.network, objective.metrics), objective, data, plan.goal.epochs_for(len(data.train.targets)))


class Tuner(BaseTuner):  # type: ignore[misc]  # pylint: disable=abstract-method  # the trainer saves and loads
    """Asks the oracle for trials until it has none, and trains them.

    Args:
        study: Where records and checkpoints are.
        plan: What is searched.
        job: What trials share.
        oracle: Whom to ask; in a worker, `KERASTUNER_*` put the chief's in its place.
        watch: Called after each epoch with the trial so far.
    """

    def __init__(self, study: Study, plan: Plan, job: trainer.Job, oracle: Any, watch: trainer.Watch) -> None:  # pylint: disable=too-many-positional-arguments
        self.study = study
        self.plan = plan
        self.job = job
        self.watch = watch
        self.ended: list[Trial] = []
        super().__init__(oracle, directory=str(study.folder.parent), project_name=study.experiment)

    def save(self) -> None:
        """Write nothing: the trials' own records are all there is to know."""

    def search(self, *_: Any, **__: Any) -> None:
        """Train until the oracle has no more trials.

        Raises:
            UnwritableError: The search's folder cannot be written.
        """
        try:
            super().search()
        except FatalError as error:
            assert error.__cause__
            raise error.__cause__ from None

    def pre_create_trial(self) -> None:
        """Give a chief that has nothing for this worker a moment."""
        if not isinstance(self.oracle, oracles.Recorded):
            time.sleep(0.05)

    def run_trial(self, trial: Any, *_: Any, **__: Any) -> dict[str, float]:
        """Train one trial and put on record how it ended.

        Raises:
            FailedTrialError: It failed.
        """
        record = self.study.trial(self.study.model_id(int(trial.trial_id) + 1))
        self.ended = [other for other in self.study.trials() if other.state == "completed"]
        try:
            ended = self._trained(record, self._course(record, trial.hyperparameters.values))
            self.study.put(ended)
        except UnwritableError as error:  # Keras Tuner lets through what is fatal only
            raise FatalError from error
        # Networks are cycles of references; with the imports frozen a collection takes milliseconds, not 0.4 s.
        gc.collect()
        if ended.state == "failed":
            raise FailedTrialError(ended.reason)
        return {oracles.SCORE: ended.score}

    def _trained(self, record: Trial, course: trainer.Course) -> Trial:
        events = Events(self.study.folder.parent.parent, record)

        def epoch_ended(so_far: Trial) -> None:
            events.epoch(so_far)
            self._epoch_ended(so_far)

        try:
            if checkpoints.attempts(course.folder, len(record.curve)) > _ATTEMPTS:
                raise SearchError(f"its process ended {_ATTEMPTS} times in this epoch, perhaps for lack of memory", step="narrow the space")
            return trainer.train(record, self.job, course, epoch_ended)
        except KeyboardInterrupt:
            checkpoints.forget_attempts(course.folder)
            raise
        except UnwritableError:
            raise
        except Exception as error:  # pylint: disable=broad-exception-caught  # whatever a network or TensorFlow raises
            return failed(self.study.trial(record.model_id), reason(error))
        finally:
            events.close()

    def _course(self, trial: Trial, values: Any) -> trainer.Course:
        parent = values.get("tuner/trial_id")
        return trainer.Course(
            folder=self.study.trial_folder(trial.model_id),
            epochs=values.get("tuner/epochs", self.job.epochs),
            seconds=self.plan.trial_minutes * 60,
            parent=self.study.trial_folder(self.study.model_id(int(parent) + 1)) if parent else None,
            until=lambda: self.study.spent >= self.plan.goal.minutes * 60,
        )

    def _epoch_ended(self, trial: Trial) -> None:
        self.study.put(trial)
        self.watch(trial)
        if self.plan.goal.reached(trial.score):
            raise trainer.Stopped("completed", "")
        if (self.study.folder / "over").exists():
            raise trainer.Stopped("stopped", "another trial reached the goal")
        if self.plan.stop_early and self.plan.algorithm != "hyperband" and is_hopeless(trial, self.ended, self.job.epochs):
            raise trainer.Stopped("stopped", f"below the median of {len(self.ended)} trials")


def is_hopeless(trial: Trial, completed: Sequence[Trial], epochs: int) -> bool:
    """Return whether a running trial should be given up, by the median stopping rule.

    It is when its best epoch so far is below the median of what the completed trials had on average up to the same epoch
    (D. Golovin et al., Google Vizier: A Service for Black-Box Optimization, KDD 2017, section 3.5.2). An average lags behind
    the best, so that only what is clearly behind is stopped; and nothing is before a quarter of its epochs.

    Args:
        trial: With its curve so far.
        completed: The trials that ran to their end.
        epochs: A full trial's.
    """
    seen = len(trial.curve)
    averages = [statistics.fmean(other.curve[:seen]) for other in completed if len(other.curve) >= seen]
    if len(averages) < _PEERS or seen < max(2, _WARM_UP * epochs):
        return False
    return max(trial.curve) < statistics.median(averages)


def failed(trial: Trial, why: str) -> Trial:
    """Return a trial that failed: its curve stays to be seen, but it has no score to be compared by."""
    return replace(trial, state="failed", reason=why, score=math.nan, accuracy=math.nan, at=now())


def reason(error: Exception) -> str:
    """Return why a trial failed, in one clause."""
    if isinstance(error, RowmillError):
        return str(error).rstrip(".")
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}"[:_LONGEST_REASON].rstrip(".: ")
