"""What a check-up found: of the data, and of what a search's figures are worth. Loads no Keras."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rowmill.data.dataset import Dataset
from rowmill.records import ModelId, Trial
from rowmill.training import space
from rowmill.training.goal import ACCURACY, Objective

_CONSTANT_SHARE = 0.5
_IMBALANCE = 10
_EDGE = 0.02
_CONFIDENCE = 1.96

Ranges = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Findings:
    """What a check-up found, each a sentence, and the figures behind them.

    Attributes:
        without_effect: Hyperparameters that change nothing.
        trial_seconds: Of one trial with the defaults; NaN where it was not measured.
        trial_mb: Estimated memory of one trial with the defaults beside the data's, in 10^6 bytes; NaN where it was not asked.
    """

    sentences: tuple[str, ...]
    without_effect: tuple[str, ...] = ()
    trial_seconds: float = math.nan
    trial_mb: float = math.nan

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    def _repr_html_(self) -> str:
        return f"<ul>{''.join(f'<li>{html.escape(sentence)}</li>' for sentence in self.sentences)}</ul>"


def of_data(data: Dataset) -> tuple[str, ...]:
    """Return what looks wrong in the train and validation splits, a sentence each."""
    labels, found = data.version.labels, []
    for name, part in (("train", data.train), ("validation", data.validation)):
        pixels = part.images.reshape(len(part.images), -1)
        blank = np.flatnonzero((pixels == pixels[:, :1]).all(axis=1))
        if len(blank):
            keys = ", ".join(part.keys[place] for place in blank[:3])
            found.append(f"{len(blank)} of {len(pixels)} {name} images have one value in all pixels, such as {keys}: look at them.")
        counts = np.bincount(part.targets, minlength=len(labels))
        missing = [label for label, count in zip(labels, counts, strict=True) if not count]
        if missing:
            found.append(f"No {name} image has the label {', '.join(map(repr, missing))}: add examples.")
        rare, common = (labels[list(counts).index(count)] for count in (counts[counts > 0].min(), counts.max()))
        if counts.max() > _IMBALANCE * counts[counts > 0].min():
            found.append(
                f"Label {common!r} has over {_IMBALANCE} times the {name} images of {rare!r}: the accuracy hardly sees the rare one."
            )
    constant = float((data.train.images == data.train.images[:1]).all(axis=0).mean())
    if constant > _CONSTANT_SHARE:
        found.append(f"{constant:.0%} of the pixels have the same value in all train images: crop or enlarge what they show.")
    return tuple(found)


def after(trials: Sequence[Trial], ranges: Ranges, objective: Objective, rows: int, deviation: float = math.nan) -> Findings:
    """Say what the trials' figures are worth.

    Two trials' scores are told apart only beyond 1.96 standard errors of their difference: by the spread of equal trials with
    other seeds where it is known, else, for accuracies, by the binomial standard error sqrt(p (1 - p) / rows) of each (Agresti,
    Categorical Data Analysis, section 1.3). Both answered the same rows, so the second errs on the careful side.

    Args:
        trials: Of one search.
        ranges: The checked space that was searched.
        objective: What the trials were scored by.
        rows: Of the validation split.
        deviation: Standard deviation of the score over seeds; NaN when unknown.
    """
    completed = [trial for trial in trials if trial.state == "completed" and math.isfinite(trial.score)]
    best = max(completed, key=lambda trial: trial.score, default=None)
    if best is None:
        return Findings(())
    edges = [_edge(name, entry, best.hyperparameters.get(name)) for name, entry in ranges.items()]
    told = [sentence for sentence in edges if sentence]
    by = (
        f"the spread of its seeds ({deviation:.2g})"
        if math.isfinite(deviation)
        else f"the binomial standard error on {rows} validation rows"
    )
    if not math.isfinite(deviation) and objective.weights == ACCURACY.weights:
        deviation = math.sqrt(best.score * (1 - best.score) / rows)
    margin = _CONFIDENCE * math.sqrt(2) * deviation
    close = [trial for trial in completed if trial is not best and best.score - trial.score <= margin]
    if close:
        told.append(
            f"{len(close)} of the {len(completed) - 1} other trials are within {margin:.2g} of the best: by {by} that may be chance."
        )
    return Findings(tuple(told))


def look_back(trials: Sequence[Trial], ranges: Ranges, objective: Objective, rows: int) -> Findings:
    """Say what the trials' figures are worth, by the spread of further seeds where the search has some; see `after`.

    Args:
        trials: Of one search, as `Registry.siblings` returns them.
        ranges: The checked space that was searched.
        objective: What the trials were scored by.
        rows: Of the validation split.
    """
    own = [trial for trial in trials if trial.kind == "search"]
    deviations = spread(trials)["std"].tolist() if objective.weights == ACCURACY.weights else []
    return after(own, ranges, objective, rows, deviations[0] if deviations else math.nan)


def _edge(name: str, entry: Mapping[str, Any], value: Any) -> str:
    """Return a sentence when the best value leans on an end of its range beyond which there could be more."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    values = sorted(space.values_of(entry))
    low, high, continuous = values[0], values[-1], entry["type"] == "float" and "step" not in entry
    # One of two values is always an end.
    if low == high or (len(values) < 3 and not continuous):
        return ""
    where = (value - low) / (high - low)
    if entry.get("sampling") == "log":
        where = math.log(value / low) / math.log(high / low)
    # Less than no dropout or than one layer there is not.
    natural = low == 0 or (isinstance(low, int) and low == 1)
    if where > 1 - _EDGE:
        return f"The best {name}, {value:.4g}, leans on the upper end of its range: try above {high:.4g}."
    if where < _EDGE and not natural:
        return f"The best {name}, {value:.4g}, leans on the lower end of its range: try below {low:.4g}."
    return ""


def spread(trials: Sequence[Trial]) -> pd.DataFrame:
    """Return how much seeds alone move what a search found.

    Args:
        trials: Of one search, as `Registry.siblings` returns them.

    Returns:
        One row per set of values that was trained with further seeds: `trial` (the search's), `seeds`, and `mean`, `std`, `least`
        and `most` of the accuracy on the validation split, 0 to 1.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if (trial.kind, trial.state) == ("seed", "completed"):
            groups.setdefault(str(trial.hyperparameters), []).append(trial)
    rows: list[dict[str, Any]] = []
    for values, seeds in groups.items():
        # Hyperband trains the same values longer and longer, which are no seeds.
        own = max(
            (trial for trial in trials if (trial.kind, trial.state, str(trial.hyperparameters)) == ("search", "completed", values)),
            key=lambda trial: trial.score,
            default=None,
        )
        if own is None:
            continue
        found = np.array([trial.accuracy for trial in (own, *seeds)])
        figures = {"mean": found.mean(), "std": found.std(ddof=1), "least": found.min(), "most": found.max()}
        rows.append({"trial": ModelId.parse(own.model_id).trial, "seeds": len(found), **figures})
    return pd.DataFrame(rows, columns=["trial", "seeds", "mean", "std", "least", "most"])
