"""A search in pictures: learning curves and the best so far, live or in the end; what mattered; parallel coordinates."""

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import DisplayHandle, display
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rowmill.pages.charts import ACCENT, BAD, INK, QUIET, Chart
from rowmill.records import Trial
from rowmill.training import importance

_MOST_CURVES, _MOST_NAMES = 60, 12
_DRAWING_SHARE = 0.05  # of the search's time, for pictures while it runs


class Live:
    """A chart of a running search in a notebook's cell; call it with the trials as they are, as `search.run` does with `watch`."""

    def __init__(self) -> None:
        self._handle: DisplayHandle | None = None
        self._next = 0.0

    def __call__(self, known: Sequence[Trial]) -> None:
        """Draw the trials anew, unless drawing would take more than its share of the time; a search that ended is always drawn."""
        running = any(trial.state == "running" for trial in known)
        if not known or (running and time.monotonic() < self._next):
            return
        started = time.monotonic()
        chart = trials(known)
        if self._handle is None:
            self._handle = display(chart, display_id=True)
        else:
            self._handle.update(chart)
        ended = time.monotonic()
        self._next = ended + (ended - started) / _DRAWING_SHARE


def trials(known: Sequence[Trial]) -> Chart:
    """Draw a search: each trial's learning curve on the left, its score and the best so far on the right.

    Args:
        known: The search's trials in order; a running one has its curve so far, a failed one may have none.
    """
    chart = Chart(figsize=(9, 3), layout="constrained")
    curves, scores = chart.subplots(1, 2, sharey=True)
    best = max(known, key=lambda trial: np.nan_to_num(_score(trial), nan=-np.inf, neginf=-np.inf))
    for trial in {id(trial): trial for trial in (*known[-_MOST_CURVES:], best)}.values():
        _draw_curve(curves, trial, trial is best, _percent(known))
    _draw_scores(scores, known, best)
    what = "validation accuracy in %" if _is_share(known) else "validation score"
    curves.set_title(f"{what}, by epoch", loc="left", fontsize=10, color=INK)
    leads = f"; {best.model_id} leads" if np.isfinite(_score(best)) else ""
    scores.set_title(f"each trial's best{leads}", loc="left", fontsize=10, color=INK)
    for axes in (curves, scores):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e4e7eb", zorder=0)
    curves.xaxis.set_major_locator(MaxNLocator(integer=True))
    _focus(curves, known)
    return chart


def mattered(known: Sequence[Trial]) -> Chart:
    """Draw how much each hyperparameter mattered to the score, or why that cannot be said; see `importance.of`."""
    shares, share_explained = importance.of(known)
    shown = shares.head(_MOST_NAMES)[::-1]
    chart = Chart(figsize=(6, 0.6 + 0.3 * len(shown)), layout="constrained")
    if shown.empty or share_explained <= 0:
        why = f"fewer than {importance.FEWEST} trials, or nothing varied" if shown.empty else "these trials do not explain the score"
        chart.suptitle(f"which hyperparameter mattered cannot be said: {why}", x=0.01, ha="left", fontsize=10, color=INK)
        return chart
    axes = chart.add_subplot()
    axes.barh(range(len(shown)), 100 * shown, color=ACCENT, height=0.6)
    axes.set_yticks(range(len(shown)), [str(name) for name in shown.index])
    axes.set_xlim(0, 100)
    axes.tick_params(left=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    title = f"what mattered to the score, in % (explains {100 * share_explained:.0f} % of its variance)"
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    return chart


def parallel(known: Sequence[Trial]) -> Chart:
    """Draw each trial as a line through its hyperparameters to its score, the best ones on top; a constant one is left out."""
    ended = importance.table(known)
    names = [name for name in ended.columns if ended[name].astype(str).nunique() > 1][-_MOST_NAMES:]
    chart = Chart(figsize=(max(4.0, 1.15 * len(names)), 3.2), layout="constrained")
    if len(names) < 2:
        chart.suptitle("parallel coordinates need trials that differ", x=0.01, ha="left", fontsize=10, color=INK)
        return chart
    axes = chart.add_subplot()
    heights = np.column_stack([_heights(ended[name]) for name in names])
    ranks = ended["score"].rank(pct=True).to_numpy()
    for row in np.argsort(ranks):
        leads = ranks[row] == ranks.max()
        colour = ACCENT if leads else QUIET
        axes.plot(heights[row], color=colour, alpha=1.0 if leads else 0.15 + 0.65 * ranks[row], linewidth=2 if leads else 1.2)
    _label_coordinates(axes, ended[names])
    axes.set_title("each line a trial; blue is the best", loc="left", fontsize=10, color=INK, pad=24)
    return chart


def _score(trial: Trial) -> float:
    if trial.state == "failed":
        return np.nan
    finite = [value for value in trial.curve if np.isfinite(value)]
    return trial.score if np.isfinite(trial.score) else max(finite, default=np.nan)


def _is_share(known: Sequence[Trial]) -> bool:
    """Whether all scores can be accuracies, 0 to 1, which are drawn in percent."""
    values = np.array([value for trial in known for value in (*trial.curve, trial.score)], dtype=float)
    finite = values[np.isfinite(values)]
    return bool(((finite >= 0) & (finite <= 1)).all())


def _percent(known: Sequence[Trial]) -> float:
    return 100.0 if _is_share(known) else 1.0


def _draw_curve(axes: Axes, trial: Trial, leads: bool, factor: float) -> None:
    colour = ACCENT if leads else QUIET
    style = ":" if trial.state in ("failed", "stopped") else "-"
    values = factor * np.array(trial.curve, dtype=float)
    marker = "o" if len(values) == 1 or trial.state == "running" else ""
    axes.plot(
        range(1, len(values) + 1),
        values,
        style,
        color=colour,
        zorder=3 if leads else 2,
        linewidth=1.5,
        marker=marker,
        markevery=[-1] if len(values) else None,
    )


def _draw_scores(axes: Axes, known: Sequence[Trial], best: Trial) -> None:
    scores = _percent(known) * np.array([_score(trial) for trial in known], dtype=float)
    scores[~np.isfinite(scores)] = np.nan
    places = np.arange(1, len(known) + 1)
    axes.plot(places, np.fmax.accumulate(scores), drawstyle="steps-post", color=QUIET, linewidth=1.5)
    axes.scatter(places, scores, color=[ACCENT if trial is best else QUIET for trial in known], zorder=3)
    failed = [place for place, trial in zip(places, known, strict=True) if trial.state == "failed"]
    bottom = np.nanmin(scores) if np.isfinite(scores).any() else 0.0
    axes.scatter(failed, [bottom] * len(failed), marker="x", color=BAD, zorder=3)
    step = -(-len(known) // 8)
    axes.set_xticks(places[::step], [trial.model_id.rpartition("-")[2] for trial in known[::step]])


def _focus(axes: Axes, known: Sequence[Trial]) -> None:
    """Let the better half of the trials fill the picture: weak ones and all first epochs would squeeze the rest."""
    scores = 100 * np.array([_score(trial) for trial in known], dtype=float)
    finite = scores[np.isfinite(scores)]
    if len(finite) > 2 and _is_share(known):
        room = max(2.0, 1.5 * (finite.max() - np.median(finite)))
        axes.set_ylim(finite.max() - room, min(100.5, finite.max() + 0.1 * room))


def _heights(values: pd.Series) -> np.ndarray:
    """Return values as heights from 0 to 1; numbers that span a factor of 50 or more by their logarithms."""
    numbers = importance.places(values)
    if numbers.min() > 0 and numbers.max() / numbers.min() >= 50:
        numbers = np.log(numbers)
    return np.asarray((numbers - numbers.min()) / (np.ptp(numbers) or 1), np.float64)


def _label_coordinates(axes: Axes, ended: pd.DataFrame) -> None:
    for place, name in enumerate(ended.columns):
        axes.axvline(place, color="#cbd2d9", linewidth=1, zorder=0)
        order = ended[name].iloc[np.argsort(importance.places(ended[name]), kind="stable")]
        for height, value, side in ((0, order.iloc[0], "top"), (1, order.iloc[-1], "bottom")):
            axes.text(place, height + (0.03 if height else -0.03), _short(value), ha="center", va=side, fontsize=8, color=INK)
    axes.set_xticks(range(len(ended.columns)), [str(name).replace("_", "\n") for name in ended.columns], fontsize=8)
    axes.tick_params(length=0, pad=14)
    axes.set_yticks([])
    axes.set_ylim(-0.05, 1.05)
    axes.spines[:].set_visible(False)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
