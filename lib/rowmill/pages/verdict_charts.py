"""What stands behind a verdict, drawn: classes, confusion, calibration, and the examples on which the two sides disagree."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.layout_engine import ConstrainedLayoutEngine

from rowmill.data.dataset import Examples
from rowmill.pages.charts import ACCENT, BAD, GOOD, INK, QUIET, Chart, named
from rowmill.records import Verdict

_COLUMNS, _MOST_LABELS = 8, 30
_WORTH = LinearSegmentedColormap.from_list("worth", [BAD, "#ffffff", GOOD])


def behind(found: Verdict) -> Chart:
    """Draw what each class gained or lost, how the confusion changed, and both sides' calibration; nothing where there is no report."""
    details = found.report.details if found.report else {}
    if not details:
        return _empty("this verdict has no answers to draw")
    labels = details["labels"][:_MOST_LABELS]
    chart = Chart(figsize=(12, max(3.4, 0.6 + 0.27 * len(labels))), layout="constrained")
    classes, confusion, reliability = chart.subplots(1, 3, width_ratios=(1, 1.25, 1))
    _draw_classes(classes, details["classes"][:_MOST_LABELS])
    _draw_confusion(confusion, np.array(details["confusion"], np.int64), labels)
    _draw_reliability(reliability, details["reliability"], _names(found))
    return chart


def gallery(found: Verdict, examples: Examples) -> Chart:
    """Draw the rows on which the two sides disagree: the true label, then the candidate's and the incumbent's answers.

    Args:
        found: The verdict.
        examples: The rows it lists, as `validation.disagreements` returns them.
    """
    listed = found.report.details.get("disagreements", []) if found.report else []
    if not listed:
        return _empty("the two sides answer all rows with the same labels")
    rows = -(-len(listed) // _COLUMNS)
    chart = Chart(figsize=(11, 0.5 + 1.55 * rows), layout=ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.05))
    ours, theirs = _names(found)
    title = f"{len(listed)} of the rows on which they differ: true label, then {ours} (green where right) and {theirs}"
    chart.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    brightest = int(examples.images.max()) or 1
    for place, (entry, image) in enumerate(zip(listed, examples.images, strict=True)):
        _draw_example(chart.add_subplot(rows, _COLUMNS, place + 1), entry, image, brightest)
    return chart


def _names(found: Verdict) -> tuple[str, str]:
    return found.candidate, found.incumbent or "logistic regression"


def _empty(sentence: str) -> Chart:
    chart = Chart(figsize=(9, 0.4))
    chart.text(0.01, 0.5, sentence, fontsize=10, color=INK, va="center")
    return chart


def _draw_classes(axes: Axes, classes: Sequence[Mapping[str, Any]]) -> None:
    colours = [BAD if c["state"] == "fail" else GOOD if c["moved"] and c["points"] > 0 else QUIET for c in classes]
    points = [c["points"] for c in classes]
    axes.barh(range(len(classes)), points, color=colours, height=0.65)
    axes.axvline(0, color=INK, linewidth=0.8)
    # Room for the counts behind the bars.
    low, high = min(0.0, *points), max(0.0, *points)
    axes.set_xlim(low - 0.4 * (high - low or 1), high + 0.4 * (high - low or 1))
    for place, c in enumerate(classes):
        if c["gained"] or c["lost"]:
            side = 1 if c["points"] >= 0 else -1
            axes.annotate(
                f"+{c['gained']} \N{MINUS SIGN}{c['lost']}",
                (c["points"], place),
                (4 * side, 0),
                textcoords="offset points",
                va="center",
                ha="left" if side > 0 else "right",
                fontsize=7,
                color=INK,
            )
    axes.set_yticks(range(len(classes)), [named(c["label"], 14) for c in classes])
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False, labelsize=8)
    axes.set_title("points per class, rows gained and lost", loc="left", fontsize=10, color=INK)


def _draw_confusion(axes: Axes, change: np.ndarray, labels: Sequence[str]) -> None:
    axes.set_title("candidate's answers less the incumbent's", loc="left", fontsize=10, color=INK)
    if not change.size:
        axes.text(0.5, 0.5, "too many labels to draw", ha="center", color=INK)
        axes.set_axis_off()
        return
    change = change[: len(labels), : len(labels)]
    # More right answers are good, more wrong ones are bad.
    worth = np.where(np.eye(len(change), dtype=bool), change, -change)
    most = max(1, int(np.abs(change).max()))
    axes.imshow(worth, cmap=_WORTH, vmin=-2 * most, vmax=2 * most, aspect="auto")
    if len(labels) <= 15:
        for row, column in zip(*np.nonzero(change), strict=True):
            axes.text(column, row, f"{change[row, column]:+d}", ha="center", va="center", fontsize=7, color=INK)
    ticks = [named(label, 8) for label in labels]
    axes.set_xticks(range(len(ticks)), ticks, rotation=90 if max(map(len, ticks)) > 2 else 0)
    axes.set_yticks(range(len(ticks)), ticks)
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("answered", fontsize=8, color=INK)
    axes.set_ylabel("true", fontsize=8, color=INK)


def _draw_reliability(axes: Axes, sides: Sequence[Sequence[Sequence[float]]], names: Sequence[str]) -> None:
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle="--")
    for side, name, colour in zip(sides, names, (ACCENT, QUIET), strict=True):
        table = np.array(side)
        seen = table[table[:, 0] > 0]
        error = np.abs(table[:, 2] - table[:, 1]).sum() / table[:, 0].sum()
        sizes = 8 + 120 * seen[:, 0] / table[:, 0].sum()
        axes.plot(seen[:, 1] / seen[:, 0], seen[:, 2] / seen[:, 0], color=colour, linewidth=1.2)
        axes.scatter(seen[:, 1] / seen[:, 0], seen[:, 2] / seen[:, 0], s=sizes, color=colour, label=f"{named(name)}, error {error:.3f}")
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("confidence", fontsize=8, color=INK)
    axes.set_ylabel("share right", fontsize=8, color=INK)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False, fontsize=7, markerscale=0.6)
    axes.set_title("calibration", loc="left", fontsize=10, color=INK)


def _draw_example(axes: Axes, entry: Mapping[str, Any], image: np.ndarray, brightest: int) -> None:
    if image.shape[2] == 1:
        axes.imshow(image[..., 0] / brightest, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(image, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(named(entry["label"], 12), fontsize=9, color=INK, pad=2)
    for place, side in ((0.0, "ours"), (1.0, "theirs")):
        sure = entry["our confidence" if side == "ours" else "their confidence"]
        colour = GOOD if entry[side] == entry["label"] else BAD
        said = f"{named(entry[side], 8)} {sure:.0%}"
        axes.text(place, -0.05, said, transform=axes.transAxes, ha="right" if place else "left", va="top", fontsize=7, color=colour)
