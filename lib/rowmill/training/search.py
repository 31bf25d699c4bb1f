"""AutoML by Keras Tuner: a sound default first, then its guesses, until the goal or the end of the budget."""

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rowmill.data.dataset import Dataset
from rowmill.errors import SearchError
from rowmill.records import Candidate, ModelId, Trial
from rowmill.registry import Registry
from rowmill.training import checkpoints, checkup, findings, networks, oracles, pace, study, trainer, workers
from rowmill.training.final import Final
from rowmill.training.findings import Findings, Ranges, spread
from rowmill.training.goal import Goal, Objective
from rowmill.training.lines import Lines
from rowmill.training.plan import Plan
from rowmill.training.study import Study, number, progress
from rowmill.training.trainer import Job
from rowmill.training.tuner import Tuner, job_of

__all__ = ["Goal", "Objective", "Plan", "check_up", "look_back", "progress", "run", "spread", "train"]

WATCH_EVERY_SECONDS = 1.0
Live = Callable[[Sequence[Trial]], None]


def run(data: Dataset, registry: Registry, plan: Plan, watch: Live | None = None, found: Findings | None = None) -> Candidate:
    """Search, and return the best trial with its network at its best epoch.

    Every trial writes one row when it starts and one when it ends. A search of the same plan and data set version that was cut
    off goes on where it was, with at most one epoch lost; its time budget counts over all resumes. Until
    its candidate is exported the same call returns it again, without training.

    Args:
        data: What training may see.
        registry: Where the rows go.
        plan: What to search.
        watch: Called about once a second while trials run, and after each, with what `progress` returns.
        found: What `check_up` found; kept with the search for those who look at it.

    Raises:
        ParameterError: The plan cannot be used.
        SearchError: Every trial failed, or the search was interrupted by hand.
    """
    return _run(data, registry, plan, _Beside(watch, found))


@dataclass(frozen=True)
class _Beside:
    """What a search is given beside its plan and data."""

    watch: Live | None = None
    found: Findings | None = None
    kind: str = "search"


def _run(data: Dataset, registry: Registry, plan: Plan, beside: _Beside) -> Candidate:
    plan, job = _settled(plan, data)
    with study.opened(registry, plan, data.version) as opened, _light_collections():
        if beside.found:
            opened.keep_findings(beside.found.sentences)
        record = _Record(opened, registry, plan, beside.watch, Lines(plan.goal), beside.kind)
        oracle = record.oracle(job)
        try:
            if plan.workers or plan.address:
                workers.run(opened, plan, data, oracle, record.epoch_ended)
            else:
                Tuner(opened, plan, job, oracle, record.epoch_ended).search()
            completed = record.completed()
            opened.keep_time()
            candidate = Final(opened, registry, plan, job).candidate(completed)
        except KeyboardInterrupt:
            opened.keep_time()
            raise record.interrupted() from None
        opened.finish()
    best = max(completed, key=lambda trial: trial.score)
    record.lines.say(f"best {best.model_id}  validation {job.objective.natural(best.score)}  candidate {candidate.trial.model_id}")
    return candidate


def check_up(data: Dataset, plan: Plan) -> Findings:
    """Look, before the first trial, for what would waste the search; see `checkup.before`."""
    plan, job = _settled(plan, data)
    return checkup.before(job.network, _ranges(plan), data, plan.goal)


def look_back(data: Dataset, plan: Plan, trials: Sequence[Trial]) -> Findings:
    """Say what the figures of a search's trials are worth; see `findings.look_back`."""
    plan, job = _settled(plan, data)
    return findings.look_back(trials, _ranges(plan), job.objective, len(data.validation.keys))


def _settled(plan: Plan, data: Dataset) -> tuple[Plan, Job]:
    plan = pace.settled(plan, data, trainer.threads())
    return plan, job_of(plan, data)


def _ranges(plan: Plan) -> Ranges:
    assert isinstance(plan.space, Mapping)
    return plan.space


def train(data: Dataset, registry: Registry, plan: Plan, values: Mapping[str, Any] | Trial, seed: int = 0) -> Candidate:
    """Train one network with values given by hand; equal data, values and seed give equal weights.

    Args:
        data: What training may see.
        registry: Where the rows go.
        plan: Says which network, for which goal and how long; its space does not matter.
        values: Hyperparameters, those not named taking the network's defaults; or a trial on record, with its seed.
        seed: Of weights and order; 0 draws one.

    Raises:
        ParameterError: The network has no such hyperparameter.
        SearchError: Training failed, or was interrupted by hand.
    """
    goal = replace(plan.goal, trials=1)
    if isinstance(values, Trial):
        goal = replace(goal, epochs=plan.goal.epochs or values.epochs)
        seed, values = seed or values.seed, trainer.values(values)
    ranges = {
        name: {"type": "bool", "default": value} if isinstance(value, bool) else {"type": "choice", "values": [value]}
        for name, value in values.items()
    }
    if not ranges:
        own = networks.find(plan.network).defaults
        ranges = {name: {"type": "choice", "values": [own[name]]} for name in list(own)[:1]}
    # One trial of Hyperband's would be its first bracket's, which is short.
    once = replace(plan, space=ranges, goal=goal, seed=seed, algorithm="random", refit=False, seeds=0, members=1)
    return _run(data, registry, once, _Beside(kind="train"))


@dataclass
class _Record:
    """Keeps a search's books: rows, time, lines, and whoever watches."""

    study: Study
    registry: Registry
    plan: Plan
    watch: Live | None
    lines: Lines
    kind: str
    network: str = ""
    trials: dict[int, Trial] = field(default_factory=dict)
    shown: float = 0.0

    def completed(self) -> list[Trial]:
        """Return the trials that ran to their end.

        Raises:
            SearchError: There is none; the search is done with.
        """
        completed = [trial for trial in self.trials.values() if trial.state == "completed" and math.isfinite(trial.score)]
        if not completed:
            self.study.close()
            raise SearchError(
                f"All {len(self.trials)} trials failed",
                found=next((trial.reason for trial in self.trials.values()), ""),
                step="mend the space or the data, then search anew",
            )
        return completed

    def oracle(self, job: Job) -> Any:
        """Return the plan's oracle as the search's records have left it."""
        assert isinstance(self.plan.space, Mapping)
        self.network = job.network.name
        oracle = oracles.make(self.plan.algorithm, self.plan.space, self.study.seed, job.epochs)
        self.trials = {number(t.model_id): t for t in self.study.trials() if t.kind in ("search", "train")}
        oracle.replay(list(self.trials.values()), {place: self.study.memory(place) for place in self.trials})
        oracle.over, oracle.begun, oracle.ended = self.over, self.begun, self.ended
        if self.trials:
            completed = [trial for trial in self.trials.values() if trial.state == "completed"]
            self.lines.best = max(completed, key=lambda trial: trial.score, default=None)
            self.lines.ended = sum(trial.state != "running" for trial in self.trials.values())
            self.lines.say(f"search {self.study.experiment} goes on: {self._so_far()}")
        return oracle

    def over(self) -> str:
        """Return why no further trial begins; empty while the search goes on."""
        if not self.trials:
            return ""
        if len(self.trials) >= self.plan.goal.trials:
            return "all trials have begun"
        ended = [trial.score for trial in self.trials.values() if trial.state != "running"]
        return self.plan.goal.over(ended, self.study.spent)

    def begun(self, place: int, values: Mapping[str, Any] | None, memory: Mapping[str, Any]) -> None:
        """Put a new trial on record, with what its algorithm must remember; one without values is there already."""
        if values is not None:
            if memory:
                self.study.remember(place, memory)
            trial = Trial(
                model_id=self.study.model_id(place),
                service=self.study.service,
                dataset_version=self.study.dataset_version,
                state="running",
                hyperparameters={"network": self.network, **values},
                # The first trial's seed is the plan's, so that it can be had again by itself.
                seed=self.study.seed + place - 1,
                kind=self.kind,
            )
            self.study.put(trial)
            self.registry.add(trial)
            self.trials[place] = trial
        self.study.keep_time()

    def ended(self, place: int) -> None:
        """Put a trial's end on record."""
        trial = self.study.trial(self.study.model_id(place))
        self.registry.add(trial)
        self.trials[place] = trial
        self.study.keep_time()
        self.lines.trial_ended(trial)
        self._drop_losers()
        self._show()

    def _drop_losers(self) -> None:
        """Remove the weights of ended trials that nothing goes on from: they would fill the disk."""
        if self.plan.algorithm == "hyperband":
            return
        ended = [trial for trial in self.trials.values() if trial.state != "running"]
        won = sorted((t for t in ended if t.state == "completed" and math.isfinite(t.score)), key=lambda t: (-t.score, t.model_id))
        kept = {trial.model_id for trial in won[: self.plan.members]}
        for trial in ended:
            if trial.model_id not in kept:
                checkpoints.drop(self.study.trial_folder(trial.model_id))

    def epoch_ended(self, trial: Trial) -> None:
        """Say from time to time how it goes."""
        self.lines.epoch_ended(trial, self.study.spent)
        if time.monotonic() - self.shown > WATCH_EVERY_SECONDS:
            self.study.keep_time()
            self._show()

    def interrupted(self) -> SearchError:
        """Return the sentence for a search that was stopped by hand."""
        return SearchError(
            f"Search {self.study.experiment} was interrupted",
            found=self._so_far(),
            step="run it again with the same plan to go on from there",
        )

    def _show(self) -> None:
        self.shown = time.monotonic()
        if self.watch:
            self.watch(self.study.trials())

    def _so_far(self) -> str:
        running = [trial for trial in self.study.trials() if trial.state == "running"]
        cut = [f"{ModelId.parse(trial.model_id).trial} after epoch {len(trial.curve)}" for trial in running]
        return ", ".join([f"{len(self.trials) - len(running)} trials ended", *cut])


@contextlib.contextmanager
def _light_collections() -> Iterator[None]:
    """Keep what is loaded now, half a million objects of TensorFlow's, out of the garbage collections after each trial."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
