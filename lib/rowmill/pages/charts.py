"""Records and arrays in, matplotlib figures out; drawn as SVG, without pyplot's global state."""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rowmill.data.dataset import Dataset
from rowmill.records import Trial, Verdict

_INK, _QUIET, _ACCENT, _GOOD, _BAD = "#1f2933", "#9aa5b1", "#2563eb", "#15803d", "#b91c1c"
_COLOURS = {"better": _GOOD, "worse": _BAD, "cannot tell": _QUIET}
_SPLITS = {"train": _ACCENT, "validation": "#93b4f5", "holdout": _QUIET}
_SAMPLES, _MOST_LABELS, _SHARPEST = 8, 30, 64  # images a label, labels, pixels a side: what a page can show


class Chart(Figure):
    """A figure that shows itself in a notebook without pyplot."""

    def _repr_svg_(self) -> str:
        buffer = io.StringIO()
        self.savefig(buffer, format="svg", bbox_inches="tight")
        return buffer.getvalue()


def profile(data: Dataset, counts: pd.DataFrame) -> Chart:
    """Draw a data set: its rows per label and split, the first examples to train on of each label, and their mean.

    Args:
        data: What training may see.
        counts: Rows per label (index) and split (columns), as `dataset.label_counts` returns them.
    """
    labels = data.version.labels[:_MOST_LABELS]
    chart, (bars, sheet, mean) = _rows(labels, data.version.shape[1] / data.version.shape[0])
    _draw_counts(bars, counts.loc[list(labels)], len(data.version.labels))
    examples = [data.train.images[data.train.targets == target] for target in range(len(labels))]
    brightest = int(data.train.images.max()) or 1
    _draw_images(sheet, [list(found[:_SAMPLES]) for found in examples], brightest)
    _draw_images(mean, [[found.mean(axis=0)] for found in examples], brightest)
    sheet.set_title("the first to train on", loc="left", fontsize=10, color=_INK)
    mean.set_title("mean", loc="left", fontsize=10, color=_INK)
    return chart


def _rows(labels: Sequence[str], ratio: float) -> tuple[Chart, list[Axes]]:
    """Return axes side by side that share a row per label: bars, a sheet of images of this width to height, one image."""
    row, gap = 0.42, 0.3  # in inches, as all that follows
    left, high = gap + 0.09 * max(len(_name(label)) for label in labels), row * len(labels)
    widths = (2.8, _SAMPLES * row * ratio, row * ratio)
    across, up = left + sum(widths) + 3 * gap, high + 0.9
    chart, axes = Chart(figsize=(across, up)), []
    for wide in widths:
        axes.append(chart.add_axes((left / across, 0.5 / up, wide / across, high / up)))
        left += wide + gap
    return chart, axes


def _draw_counts(bars: Axes, counts: pd.DataFrame, labels: int) -> None:
    """Draw stacked bars, a row per label, with each row's sum behind it."""
    start = np.zeros(len(counts), np.int64)
    for split, colour in _SPLITS.items():
        bars.barh(range(len(counts)), counts[split], left=start, color=colour, height=0.7, label=split)
        start += counts[split].to_numpy()
    for place, total in enumerate(start):
        bars.text(total + 0.02 * start.max(), place, f"{total:,}", va="center", fontsize=8, color=_INK)
    bars.set_xlim(0, 1.2 * start.max())
    bars.set_ylim(len(counts) - 0.5, -0.5)
    bars.set_yticks(range(len(counts)), [_name(str(label)) for label in counts.index])
    bars.set_xticks([])
    bars.tick_params(left=False)
    bars.spines[:].set_visible(False)
    shown = "rows per label" if labels == len(counts) else f"rows of the first {len(counts)} of {labels} labels"
    bars.set_title(shown, loc="left", fontsize=10, color=_INK)
    bars.legend(
        loc="upper left", bbox_to_anchor=(0, 0), ncols=3, frameon=False, fontsize=8, handlelength=0.8, columnspacing=1.0, borderpad=0.2
    )


def _draw_images(axes: Axes, rows: Sequence[Sequence[np.ndarray]], brightest: int) -> None:
    """Draw a row of images per label, blank where it has fewer; `brightest` is drawn black in grey."""
    is_grey, step = rows[0][0].shape[2] == 1, -(-max(rows[0][0].shape[:2]) // _SHARPEST)
    high, wide, channels = rows[0][0][::step, ::step].shape
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows), columns, high + 1, wide + 1, channels), 0.0 if is_grey else 1.0)
    for place, row in enumerate(rows):
        sheet[place, : len(row), :high, :wide] = np.stack(row)[:, ::step, ::step] / (brightest if is_grey else 255)
    picture = np.swapaxes(sheet, 1, 2).reshape((len(rows) * (high + 1), columns * (wide + 1), channels))
    shown = picture[..., 0] if is_grey else picture
    axes.imshow(shown, cmap="gray_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_axis_off()


def _name(label: str) -> str:
    return label if len(label) <= 24 else f"{label[:23]}\N{HORIZONTAL ELLIPSIS}"


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
