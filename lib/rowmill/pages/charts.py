"""Records and arrays in, matplotlib figures out; drawn as SVG, without pyplot's global state."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from rowmill.data.dataset import Dataset
from rowmill.records import Trial, Verdict

_INK, _QUIET, _ACCENT, _GOOD, _BAD = "#1f2933", "#9aa5b1", "#2563eb", "#15803d", "#b91c1c"
_COLOURS = {"better": _GOOD, "worse": _BAD, "cannot tell": _QUIET}
_SAMPLES = 8


class Chart(Figure):
    """A figure that shows itself in a notebook without pyplot."""

    def _repr_svg_(self) -> str:
        buffer = io.StringIO()
        self.savefig(buffer, format="svg", bbox_inches="tight")
        return buffer.getvalue()


def profile(data: Dataset) -> Chart:
    """Draw the train split: rows per label on the left, the first examples of each label on the right."""
    labels, examples = data.version.labels, data.train
    chart = Chart(figsize=(9, 0.5 + 0.36 * len(labels)), layout="constrained")
    bars, sheet = chart.subplots(1, 2, width_ratios=(1, 1.6))
    counts = np.bincount(examples.targets, minlength=len(labels))
    bars.barh(range(len(labels)), counts, color=_ACCENT, height=0.7)
    bars.set_yticks(range(len(labels)), labels)
    bars.invert_yaxis()
    bars.set_title("rows to train on, by label", loc="left", fontsize=10, color=_INK)
    bars.spines[["top", "right"]].set_visible(False)
    sheet.imshow(_sheet(data), cmap="gray_r", aspect="equal")
    sheet.set_title("the first of each label", loc="left", fontsize=10, color=_INK)
    sheet.set_axis_off()
    return chart


def _sheet(data: Dataset) -> np.ndarray:
    """Return one picture with a row of samples per label, blank where a label has fewer."""
    height, width, channels = data.version.shape
    sheet = np.zeros((len(data.version.labels), _SAMPLES, height + 1, width + 1, channels), np.uint8)
    for target in range(len(data.version.labels)):
        found = data.train.images[data.train.targets == target][:_SAMPLES]
        sheet[target, : len(found), :height, :width] = found
    picture = np.swapaxes(sheet, 1, 2).reshape((-1, _SAMPLES * (width + 1), channels))
    return picture[..., 0] if channels == 1 else picture


def trials(done: Sequence[Trial]) -> Chart:
    """Draw a search: each trial's learning curve on the left, its score and the best so far on the right."""
    chart = Chart(figsize=(9, 3), layout="constrained")
    curves, scores = chart.subplots(1, 2, sharey=True)
    best = max(done, key=lambda trial: np.nan_to_num(trial.score, nan=-1.0))
    for trial in done:
        colour, order = (_ACCENT, 3) if trial is best else (_QUIET, 2)
        curves.plot(range(1, len(trial.curve) + 1), [100 * value for value in trial.curve], color=colour, zorder=order, linewidth=1.5)
    percent = [100 * trial.score for trial in done]
    places = range(1, len(done) + 1)
    scores.plot(places, np.fmax.accumulate(percent), drawstyle="steps-post", color=_QUIET, linewidth=1.5)
    scores.scatter(places, percent, color=[_ACCENT if trial is best else _QUIET for trial in done], zorder=3)
    scores.set_xticks(places, [trial.model_id.rpartition("-")[2] for trial in done])
    curves.set_title("validation accuracy in %, by epoch", loc="left", fontsize=10, color=_INK)
    scores.set_title(f"each trial's best; {best.model_id} leads", loc="left", fontsize=10, color=_INK)
    for axes in (curves, scores):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e4e7eb", zorder=0)
    return chart


def verdict(found: Verdict) -> Chart:
    """Draw a verdict: the difference in accuracy with its 95 % interval against zero."""
    chart = Chart(figsize=(9, 1.3), layout="constrained")
    axes = chart.add_subplot()
    axes.axvline(0, color=_INK, linewidth=1)
    points = [100 * value for value in (found.low, found.difference, found.high)]
    axes.plot([points[0], points[2]], [0, 0], color=_COLOURS[found.outcome], linewidth=3, solid_capstyle="round")
    axes.plot(points[1], 0, "o", color=_COLOURS[found.outcome], markersize=9)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    against = found.incumbent or ("logistic regression" if found.rule == "first model" else "what serves")
    axes.set_title(
        f"{found.outcome}: points of accuracy {found.candidate} has over {against}, with 95 % interval", loc="left", fontsize=10, color=_INK
    )
    return chart
