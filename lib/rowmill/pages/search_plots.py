"""A search in pictures for its page, as SVG in the page's colours; `search_charts` draws for notebooks, by matplotlib."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd

from rowmill.pages import plots, words
from rowmill.records import ModelId, Trial
from rowmill.training import importance
from rowmill.training.goal import Objective

_MOST_CURVES, _MOST_NAMES, _FEWEST_LINES = 60, 12, 3
_WIDE, _HIGH, _SIDE, _ABOVE, _BELOW = 960, 300, 60, 34, 58


def curves(trials: Sequence[Trial], objective: Objective, chosen: str = "") -> str:
    """Return markup of the learning curves: the best trial's and the chosen one's stand out.

    Args:
        trials: Of one search, in order.
        objective: What they were scored by.
        chosen: A trial's model id.
    """
    best = leading(trials)
    named = {trial.model_id: trial for trial in (best, *(t for t in trials if t.model_id == chosen)) if trial}
    floor = _floor(trials)
    points = {trial.model_id: _points(trial, objective, floor) for trial in trials[-_MOST_CURVES:] if trial.curve}
    quiet = [line for model_id, line in points.items() if model_id not in named]
    loud = {ModelId.parse(model_id).trial: _points(trial, objective, floor) for model_id, trial in named.items()}
    return plots.lines(loud, words.say("search.by_epoch"), unit(objective), quiet)


def scores(trials: Sequence[Trial], objective: Objective) -> str:
    """Return markup of each trial's score as a dot, and the best so far as a line."""
    floor, best = _floor(trials), -math.inf
    dots: list[list[plots.Point]] = []
    line: list[plots.Point] = []
    for place, trial in enumerate(trials, 1):
        score = reached(trial)
        if score >= floor:
            dots.append([(float(place), natural(objective, score))])
        if score > best and math.isfinite(score):
            line += [(float(place), natural(objective, best))] if line else []
            best = score
        if line or math.isfinite(best):
            line.append((float(place), natural(objective, best)))
    return plots.lines({words.say("search.best"): line}, words.say("search.by_trial"), unit(objective), dots)


def parallel(trials: Sequence[Trial]) -> str:
    """Return markup of each trial as a line through its values to its score; what does not vary is left out; nothing below three trials."""
    ended = importance.table(trials)
    names = [name for name in ended.columns if ended[name].astype(str).nunique() > 1][-_MOST_NAMES:]
    if len(ended) < _FEWEST_LINES or len(names) < 2 or "score" not in names:
        return ""
    heights = np.column_stack([_heights(ended[name]) for name in names])
    order = np.argsort(ended["score"].to_numpy(), kind="stable")
    gap = (_WIDE - 2 * _SIDE) / (len(names) - 1)
    drawn = []
    for row in order:
        points = " ".join(f"{_SIDE + gap * place:.1f},{_y(height):.1f}" for place, height in enumerate(heights[row]))
        drawn.append(f'<polyline class="rm-curve rm-of-{"accent" if row == order[-1] else "quiet"}" points="{points}"/>')
    axes = [_axis(_SIDE + gap * place, str(name), ended[name]) for place, name in enumerate(names)]
    label, title = escape(words.say("search.parallel_note")), escape(words.say("search.parallel"))
    return (
        f'<div class="rm-scroll" tabindex="0" role="region" aria-label="{title}">'
        f'<svg class="rm-plot rm-parallel" viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{label}">'
        f"{''.join((*drawn, *axes))}</svg></div>"
    )


def mattered(shares: Mapping[str, float], explained: float) -> str:
    """Return markup of how much each hyperparameter mattered, or why that cannot be said; see `importance.of`."""
    if not shares or not explained > 0:  # pylint: disable=unnecessary-negation  # NaN explains nothing
        why = words.say("search.unexplained") if shares else words.say("search.too_few", fewest=importance.FEWEST)
        return f'<p class="rm-quiet">{escape(words.say("search.mattered_not", why=why))}</p>'
    note = words.say("search.mattered_note", explained=100 * explained)
    return f'{plots.bars(dict(list(shares.items())[:_MOST_NAMES]))}<p class="rm-quiet">{escape(note)}</p>'


def leading(trials: Sequence[Trial]) -> Trial | None:
    """Return the best trial so far; None where none has a score."""
    return max((trial for trial in trials if math.isfinite(reached(trial))), key=reached, default=None)


def reached(trial: Trial) -> float:
    """Return a trial's score, or its best so far while it runs; NaN for one that failed."""
    if trial.state == "failed":
        return math.nan
    finite = [value for value in trial.curve if math.isfinite(value)]
    return trial.score if not math.isnan(trial.score) else max(finite, default=math.nan)


def natural(objective: Objective, score: float) -> float:
    """Return a score as the objective's own figure, an accuracy in percent."""
    name, value = objective.named(score)
    return 100 * value if name == "accuracy" else value


def unit(objective: Objective) -> str:
    """Return what `natural` gives, in words."""
    name, _ = objective.named(0.0)
    return f"{name} in %" if name == "accuracy" else name


def _points(trial: Trial, objective: Objective, floor: float) -> list[plots.Point]:
    return [(float(epoch), natural(objective, score)) for epoch, score in enumerate(trial.curve, 1) if score >= floor]


def _floor(trials: Sequence[Trial]) -> float:
    """Return the score below which nothing is drawn: weak trials and first epochs would squeeze all that matters into a line."""
    known = np.array([reached(trial) for trial in trials])
    known = known[np.isfinite(known)]
    if not known.size:
        return -math.inf
    spread = 1.5 * (known.max() - np.median(known))
    # Of a single trial its own course says what is much.
    course = [value for trial in trials for value in trial.curve if math.isfinite(value)]
    return float(known.max() - max(spread, 0.3 * (known.max() - min(course, default=known.max()))))


def _heights(values: pd.Series) -> np.ndarray:
    """Return values as heights from 0 to 1; numbers that span a factor of 50 or more by their logarithms."""
    numbers = importance.places(values)
    if numbers.min() > 0 and numbers.max() / numbers.min() >= 50:
        numbers = np.log(numbers)
    return np.asarray((numbers - numbers.min()) / (np.ptp(numbers) or 1), np.float64)


def _y(height: float) -> float:
    return _HIGH - _BELOW - height * (_HIGH - _ABOVE - _BELOW)


def _axis(x: float, name: str, values: pd.Series) -> str:
    order = values.iloc[np.argsort(importance.places(values), kind="stable")]
    ends = ((_y(1) - 10, order.iloc[-1]), (_y(0) + 18, order.iloc[0]))
    told = "".join(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(short(value))}</text>' for y, value in ends)
    head = f'<text class="rm-name" x="{x:.1f}" y="{_HIGH - 16}" text-anchor="middle">{escape(name)}</text>'
    return f'<line class="rm-grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_y(1):.1f}" y2="{_y(0):.1f}"/>{told}{head}'


def short(value: object) -> str:
    """Return a value with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
