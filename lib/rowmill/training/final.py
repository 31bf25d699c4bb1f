"""After a search: its best values trained again, further seeds of them, the average of its best; each a trial of its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rowmill.data.dataset import Dataset, Examples
from rowmill.errors import SearchError
from rowmill.records import Candidate, ModelId, Trial, now
from rowmill.registry import Registry
from rowmill.training import networks, trainer
from rowmill.training.plan import Plan
from rowmill.training.study import Study, number
from rowmill.training.tuner import failed, reason

_SEEN = "its epochs were not watched: it was trained on the validation rows, too"


@dataclass(frozen=True)
class Final:
    """What becomes of a search's trials in the end; taken up again where it was cut off.

    Attributes:
        study: Where records and checkpoints are.
        registry: Where the rows go.
        plan: Says what to do.
        job: As the search's trials were trained.
    """

    study: Study
    registry: Registry
    plan: Plan
    job: trainer.Job

    def candidate(self, completed: Sequence[Trial]) -> Candidate:
        """Return the search's outcome: the best of its completed trials, as the plan wants it finished."""
        ranked = sorted(completed, key=lambda trial: (-trial.score, number(trial.model_id)))
        for place in range(self.plan.seeds):
            # Far from the seeds of the search's own trials.
            like = replace(ranked[0], kind="seed", seed=ranked[0].seed + 1_000_003 * (place + 1))
            # As long as the best one, for all of whose values they stand.
            self._trained(like, self.job, len(ranked[0].curve))
        finished = [self._refitted(trial) if self.plan.refit else self._best(trial) for trial in ranked[: self.plan.members]]
        return finished[0] if len(finished) == 1 else self._averaged(finished)

    def _best(self, trial: Trial) -> Candidate:
        """Return a trial at its best epoch, which may be one of the trial that it goes on from."""
        epoch, line = best_epoch(trial), [other for other in self.study.trials() if _leads_to(other, trial)]
        line.sort(key=lambda other: len(other.curve))
        place = next(place for place, other in enumerate(line) if len(other.curve) >= epoch)
        parent = self.study.trial_folder(line[place - 1].model_id) if place else None
        course = trainer.Course(self.study.trial_folder(line[place].model_id), self.job.epochs, parent=parent)
        return Candidate(trial, trainer.at_epoch(line[place], self.job, course, epoch))

    def _refitted(self, trial: Trial) -> Candidate:
        """Train a trial's values again on train and validation rows, for as many epochs as were best."""
        job, epochs = replace(self.job, data=_with_validation(self.job.data)), best_epoch(trial)
        trained = self._trained(replace(trial, kind="refit"), job, epochs)
        if trained.state == "failed":
            raise SearchError(f"The refit {trained.model_id} failed: {trained.reason}", step="mend that, or search with refit=False")
        course = trainer.Course(self.study.trial_folder(trained.model_id), epochs)
        return Candidate(trained, trainer.at_epoch(trained, job, course, epochs))

    def _averaged(self, members: Sequence[Candidate]) -> Candidate:
        """Return the candidate whose probabilities are the mean of its members'."""
        network = networks.average([member.network for member in members], self.job.network.metrics)
        names = " ".join(ModelId.parse(member.trial.model_id).trial for member in members)
        trial = self._begun(replace(members[0].trial, kind="average", hyperparameters={"network": "average", "members": names}, seed=0))
        score, accuracy = (math.nan, math.nan) if self.plan.refit else trainer.scored(network, self.job)
        return Candidate(self._ended(replace(trial, state="completed", score=score, accuracy=accuracy)), network)

    def _trained(self, like: Trial, job: trainer.Job, epochs: int) -> Trial:
        """Return a trial with these values and this seed, trained; one that was trained before is not trained again."""
        trial = self._begun(like)
        if trial.state != "running":
            return trial
        course = trainer.Course(self.study.trial_folder(trial.model_id), epochs)
        try:
            trained = trainer.train(trial, job, course, self.study.put)
        except Exception as error:  # pylint: disable=broad-exception-caught  # whatever a network or TensorFlow raises
            return self._ended(failed(self.study.trial(trial.model_id), reason(error)))
        if trial.kind == "refit":
            trained = replace(trained, score=math.nan, accuracy=math.nan, curve=(), reason=_SEEN)
        return self._ended(trained)

    def _begun(self, like: Trial) -> Trial:
        """Return the trial on record that is this one, or put it on record with the next number."""
        known = self.study.trials()
        for trial in known:
            if (trial.kind, trial.hyperparameters, trial.seed) == (like.kind, like.hyperparameters, like.seed):
                return trial
        place = 1 + max(number(trial.model_id) for trial in known)
        empty: dict[str, Any] = {"score": math.nan, "accuracy": math.nan, "curve": (), "seconds": 0.0, "reason": ""}
        trial = replace(like, model_id=self.study.model_id(place), state="running", at=now(), **empty)
        self.study.put(trial)
        self.registry.add(trial)
        return trial

    def _ended(self, trial: Trial) -> Trial:
        ended = replace(trial, at=now())
        self.study.put(ended)
        self.registry.add(ended)
        score = "" if math.isnan(ended.score) else f"  validation {self.job.objective.natural(ended.score)}"
        print(f"{ended.model_id}  {ended.kind}{score}  {ended.reason}".rstrip(), flush=True)
        return ended


def best_epoch(trial: Trial) -> int:
    """Return the number of a trial's best epoch, counted from 1."""
    return 1 + int(np.argmax(trial.curve))


def _leads_to(earlier: Trial, trial: Trial) -> bool:
    """Return whether a trial is this one, or one whose training it continues, as Hyperband does."""
    if earlier.model_id == trial.model_id:
        return True
    shorter = 0 < len(earlier.curve) < len(trial.curve) and earlier.curve == trial.curve[: len(earlier.curve)]
    alike = (earlier.kind, earlier.state, earlier.hyperparameters) == (trial.kind, "completed", trial.hyperparameters)
    return shorter and alike


def _with_validation(data: Dataset) -> Dataset:
    """Return the data set with the validation rows among the train rows, too."""
    train, validation = data.train, data.validation
    together = Examples(
        [*train.keys, *validation.keys],
        np.concatenate([train.images, validation.images]),
        np.concatenate([train.targets, validation.targets]),
    )
    return replace(data, train=together)
