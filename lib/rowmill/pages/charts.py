"""Records and arrays in, matplotlib figures out; drawn as SVG, without pyplot's global state."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rowmill.data.dataset import Dataset
from rowmill.data.sources import Source
from rowmill.records import Verdict

INK, QUIET, ACCENT, GOOD, BAD = "#1f2933", "#9aa5b1", "#2563eb", "#15803d", "#b91c1c"
_COLOURS = {"better": GOOD, "worse": BAD, "cannot tell": QUIET}
_SPLITS = {"train": ACCENT, "validation": "#93b4f5", "holdout": QUIET}
_SAMPLES, _MOST_LABELS, _SHARPEST = 8, 30, 64  # images a label, labels, pixels a side: what a page can show
_GALLERY, _COLUMNS = 48, 8
_ARROW = "\N{RIGHTWARDS ARROW}"


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
    sheet.set_title("the first to train on", loc="left", fontsize=10, color=INK)
    mean.set_title("mean", loc="left", fontsize=10, color=INK)
    return chart


def _rows(labels: Sequence[str], ratio: float) -> tuple[Chart, list[Axes]]:
    """Return axes side by side that share a row per label: bars, a sheet of images of this width to height, one image."""
    row, gap = 0.42, 0.3  # in inches, as all that follows
    left, high = gap + 0.09 * max(len(named(label)) for label in labels), row * len(labels)
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
        bars.text(total + 0.02 * start.max(), place, f"{total:,}", va="center", fontsize=8, color=INK)
    bars.set_xlim(0, 1.2 * start.max())
    bars.set_ylim(len(counts) - 0.5, -0.5)
    bars.set_yticks(range(len(counts)), [named(str(label)) for label in counts.index])
    bars.set_xticks([])
    bars.tick_params(left=False)
    bars.spines[:].set_visible(False)
    shown = "rows per label" if labels == len(counts) else f"rows of the first {len(counts)} of {labels} labels"
    bars.set_title(shown, loc="left", fontsize=10, color=INK)
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


def suspects(data: Dataset, found: pd.DataFrame) -> Chart:
    """Draw the rows whose labels are likely wrong, the likeliest first: given and suggested label above, key below each image.

    Args:
        data: What training may see.
        found: Columns key, given, suggested, confidence, as `doctor.suspects` returns them; at most 48 are drawn.
    """
    shown = found.head(_GALLERY)
    title = f"the {len(shown)} likeliest wrong labels" if len(shown) else "no labels were looked at: give suspects=24 to draw so many"
    images = {key: image for part in (data.train, data.validation) for key, image in zip(part.keys, part.images, strict=True)}
    captions = [
        Caption(
            named(row["given"], 12) + (f" {_ARROW} {named(row['suggested'], 12)}?" if row["suggested"] != row["given"] else ""),
            named(row["key"], 20),
            row["suggested"] == row["given"],
        )
        for row in shown.to_dict("records")
    ]
    return gallery(title, [images[key] for key in shown["key"]], captions, int(data.train.images.max()))


def answered(source: Source, found: pd.DataFrame) -> Chart:
    """Draw the rows of a source that a model was least sure of: its answer and confidence above, the key below each image.

    Args:
        source: The rows.
        found: Columns key, label, confidence, in the source's order, as `batch.table` returns them.
    """
    places = np.argsort(found["confidence"].to_numpy(), kind="stable")[: _GALLERY // 2]
    rows = found.iloc[places].to_dict("records")
    captions = [Caption(f"{named(row['label'], 10)} {row['confidence']:.0%}", named(row["key"], 20)) for row in rows]
    images = source.images[places]
    return gallery(f"the {len(rows)} rows of least confidence", list(images), captions, int(images.max(initial=0)))


class Caption(NamedTuple):
    """What stands above and below an image; what is not good is drawn in red."""

    above: str
    below: str = ""
    is_good: bool = True


def gallery(title: str, images: Sequence[np.ndarray], captions: Sequence[Caption], brightest: int) -> Chart:
    """Draw images side by side, eight in a row.

    Args:
        title: What they are.
        images: uint8, (height, width, channels) each.
        captions: One per image.
        brightest: The pixel that is drawn black in grey; 0 counts as 1.
    """
    chart = Chart(figsize=(9, 0.4 + 1.5 * -(-len(images) // _COLUMNS)), layout="constrained")
    chart.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        axes = chart.add_subplot(-(-len(images) // _COLUMNS), _COLUMNS, place + 1)
        _draw_images(axes, [[image]], brightest or 1)
        axes.set_aspect("equal")
        axes.set_title(caption.above, fontsize=9, color=INK if caption.is_good else BAD)
        axes.text(0.5, -0.06, caption.below, transform=axes.transAxes, ha="center", va="top", fontsize=6, color=INK)
    return chart


def named(label: str, most: int = 24) -> str:
    """Return a label as a chart shows it: cut off where it is long."""
    short = label if len(label) <= most else f"{label[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
    return short.replace("$", r"\$")  # which would begin a formula


def verdict(found: Verdict) -> Chart:
    """Draw a verdict: the difference in accuracy with its 95 % interval against zero."""
    chart = Chart(figsize=(9, 1.3), layout="constrained")
    axes = chart.add_subplot()
    axes.axvline(0, color=INK, linewidth=1)
    if not found.rows:
        axes.text(0.01, 0.5, "no rows were compared", transform=axes.transAxes, va="center", color=INK)
    points = [100 * value for value in (found.low, found.difference, found.high)]
    axes.plot([points[0], points[2]], [0, 0], color=_COLOURS[found.outcome], linewidth=3, solid_capstyle="round")
    axes.plot(points[1], 0, "o", color=_COLOURS[found.outcome], markersize=9)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    against = found.incumbent or ("logistic regression" if found.rule == "first model" else "what serves")
    axes.set_title(
        f"{found.outcome}: points of accuracy {found.candidate} has over {against}, with 95 % interval", loc="left", fontsize=10, color=INK
    )
    return chart
