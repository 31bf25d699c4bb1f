"""What a search says while it runs: a line per trial, and below them one that moves where the output can."""

import sys
import time
from dataclasses import dataclass
from typing import Any

from rowmill.records import ModelId, Trial
from rowmill.training.goal import Goal

_WIDTH, _BAR = 110, 16
# A line that stays may not come as often as one that is written over.
MOVING_SECONDS, STAYING_SECONDS = 0.5, 5.0


@dataclass
class Lines:
    """Prints a search's progress.

    Attributes:
        goal: Says what the figures are, and the budget.
        best: The leading trial, once there is one.
        ended: Count of trials that have ended.
    """

    goal: Goal
    best: Trial | None = None
    ended: int = 0
    printed: float = 0.0

    def say(self, text: str) -> None:
        """Print a line that stays."""
        print(f"\r{text:<{_WIDTH}}" if _moves() else text, flush=True)

    def trial_ended(self, trial: Trial) -> None:
        """Print how a trial ended."""
        self.ended += 1
        leads = self.best is None or not trial.score <= self.best.score  # pylint: disable=unnecessary-negation  # NaN leads nothing
        if trial.state == "completed" and leads:
            self.best = trial
        values = "  ".join(f"{name}={_short(value)}" for name, value in trial.hyperparameters.items())
        self.say(f"{trial.model_id}  {trial.state}  {self._score(trial.score)}  {values}  {trial.reason}".rstrip())

    def epoch_ended(self, trial: Trial, spent: float) -> None:
        """Move the line at the end, or print one from time to time where the output only grows.

        Args:
            trial: One that is running.
            spent: Seconds of the search so far.
        """
        if time.monotonic() - self.printed < (MOVING_SECONDS if _moves() else STAYING_SECONDS):
            return
        self.printed = time.monotonic()
        left = max(0, round(self.goal.minutes * 60 - spent))
        share = min(1.0, max(self.ended / self.goal.trials, spent / (self.goal.minutes * 60)))
        best = f"  best {self._score(self.best.score)} ({ModelId.parse(self.best.model_id).trial})" if self.best else ""
        done = "#" * round(_BAR * share)
        epoch = f"{trial.model_id}  epoch {len(trial.curve)}  {self._score(trial.curve[-1])}"
        text = f"[{done:-<{_BAR}}] {epoch}{best}  {left // 60}:{left % 60:02d} left"
        print(f"\r{text:<{_WIDTH}}" if _moves() else text, end="" if _moves() else "\n", flush=True)

    def _score(self, score: float) -> str:
        return f"validation {self.goal.objective.natural(score)}"


def _moves() -> bool:
    """Return whether what is printed can be written over; a notebook cannot be relied on, for an executed copy keeps every line."""
    return sys.stdout.isatty()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
