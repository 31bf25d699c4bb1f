"""What serves in pictures, for a notebook: traffic over time, requests beside the holdout, and the furthest of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import dates
from matplotlib.axes import Axes

from rowmill.monitoring import traffic as requests
from rowmill.monitoring import watch
from rowmill.monitoring.drift import NUMBERS, Drift
from rowmill.monitoring.watch import Watched
from rowmill.pages.charts import ACCENT, BAD, INK, QUIET, Chart, named
from rowmill.serving.release import Service

_TITLES = {"mean": "mean of the pixels", "deviation": "deviation of the pixels", "confidence": "confidence"}
_MOST_LABELS, _COLUMNS = 12, 8
_DIFFERS = "#a16207"  # not red: drift is no harm
_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 7, "handlelength": 1.2, "columnspacing": 1.0}


def traffic(seen: Watched) -> Chart:
    """Draw requests, latency percentiles and mean confidence over time, of all models together."""
    table = requests.over_time(seen.asked)
    chart = Chart(figsize=(9, 2.6), layout="constrained")
    counts, latency, confidence = chart.subplots(1, 3)
    width = requests.width_of(seen.asked)
    at = table["at"] + width / 2
    counts.bar(at, table["requests"], width=width * 0.9, color=ACCENT, label="requests")
    counts.bar(at, table["refused"] + table["failed"], width=width * 0.9, color=BAD, label="errors")
    for name, colour in zip(requests.PERCENTILES, (QUIET, ACCENT, BAD), strict=True):
        _draw(latency, at, table[name], colour, name)
    _draw(confidence, at, table["confidence"], ACCENT, "")
    if latency.lines:
        latency.set_ylim(0, 1.2 * latency.get_ylim()[1])
    confidence.set_ylim(top=min(1.02, confidence.get_ylim()[1]))
    if table[["refused", "failed"]].to_numpy().any():
        counts.set_ylim(0, 1.2 * counts.get_ylim()[1])
        counts.legend(**_LEGEND, loc="upper left", ncols=2)
    latency.legend(**_LEGEND, loc="upper left", ncols=3)
    for axes in (counts, latency, confidence) if len(table) else ():
        axes.set_xlim(table["at"].iloc[0], table["at"].iloc[-1] + width)
    _finish(counts, f"{seen.asked.total:,} requests")
    _finish(latency, "latency in ms")
    _finish(confidence, "mean confidence")
    return chart


def drift(seen: Watched) -> Chart:
    """Draw each model's requests beside its holdout: labels, and the distributions of mean, deviation and confidence."""
    compared = [found for found in seen.drifts if found.differences]
    if not compared:
        return _said(seen)
    chart = Chart(figsize=(9, 2.8 * len(compared)), layout="constrained")
    places = np.atleast_2d(np.asarray(chart.subplots(len(compared), 4, squeeze=False), object))
    for row, found in zip(places, compared, strict=True):
        _draw_model(list(row), found)
    return chart


def furthest_of(service: Service, seen: Watched) -> Chart:
    """Draw the furthest requests to the model that differs most from its holdout, or of the only one that can be compared."""
    compared = [found for found in seen.drifts if found.differences]
    if not compared:
        return _said(seen)
    worst = max(compared, key=lambda found: max(each.effect for each in found.differences))
    return furthest(worst, watch.pictures(service, worst, _COLUMNS))


def furthest(found: Drift, images: Sequence[npt.NDArray[np.uint8] | None]) -> Chart:
    """Draw the requests of a model that are furthest from its holdout, with their ids; without an image, where it is not kept."""
    rows = found.furthest.head(len(images)).to_dict("records")
    chart = Chart(figsize=(9, 0.4 + 1.9 * -(-len(rows) // _COLUMNS)), layout="constrained")
    title = f"the requests to {found.model_id} that are furthest from its holdout" if rows else found.sentence
    chart.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    for place, (row, image) in enumerate(zip(rows, images, strict=True)):
        axes = chart.add_subplot(-(-len(rows) // _COLUMNS), _COLUMNS, place + 1)
        axes.set_axis_off()
        axes.set_box_aspect(1)
        if image is None:
            axes.text(0.5, 0.5, "image\nnot kept", ha="center", va="center", fontsize=8, color=INK)
        else:
            axes.imshow(image.squeeze(), cmap="gray_r" if image.shape[2] == 1 else None, interpolation="nearest")
        axes.set_title(f"{named(row['label'], 10)} {row['confidence']:.0%}", fontsize=9, color=INK, pad=2)
        figures = f"mean {row['mean']:.1f}, dev. {row['deviation']:.1f}\n{named(row['request_id'], 20)}"
        axes.text(0.5, -0.05, figures, transform=axes.transAxes, ha="center", va="top", fontsize=6, color=INK)
    return chart


def _said(seen: Watched) -> Chart:
    chart = Chart(figsize=(9, 0.5))
    why = seen.drifts[0].sentence if seen.drifts else seen.asked.notes[0]
    chart.text(0.01, 0.5, why, fontsize=10, color=INK, va="center", wrap=True)
    return chart


def _draw_model(row: list[Axes], found: Drift) -> None:
    bars, *curves = row
    shown = {each.name: each for each in found.differences}
    ours, theirs = (frame["label"].value_counts(normalize=True) for frame in (found.furthest, found.reference))
    table = pd.DataFrame({"requests": ours, "holdout": theirs}).fillna(0.0).nlargest(_MOST_LABELS, "holdout").sort_index()
    places = np.arange(len(table))
    bars.barh(places - 0.2, 100 * table["requests"], height=0.4, color=_DIFFERS if shown["label"].differs else ACCENT, label="requests")
    bars.barh(places + 0.2, 100 * table["holdout"], height=0.4, color=QUIET, label="holdout")
    bars.set_yticks(places, [named(str(label), 10) for label in table.index])
    bars.set_ylim(len(table) - 0.5, -0.5)
    bars.tick_params(left=False)
    bars.set_ylabel(found.model_id, fontsize=8, color=INK)
    _finish(bars, f"labels in %, effect {shown['label'].effect:.2f}")
    for axes, name in zip(curves, NUMBERS, strict=True):
        for frame, colour, label in (
            (found.reference, QUIET, "holdout"),
            (found.furthest, _DIFFERS if shown[name].differs else ACCENT, "requests"),
        ):
            axes.ecdf(frame[name], color=colour, label=label)
        _finish(axes, f"{_TITLES[name]}, {shown[name].effect:.2f}")
    curves[0].legend(**_LEGEND, loc="lower right")


def _draw(axes: Axes, at: pd.Series, values: pd.Series, colour: str, label: str) -> None:
    there = values.notna()
    axes.plot(at[there], values[there], color=colour, marker="o", markersize=2.5, linewidth=1.4, label=label)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    if isinstance(axes.xaxis.get_major_locator(), dates.AutoDateLocator):
        locator = dates.AutoDateLocator(maxticks=4)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        axes.xaxis.get_offset_text().set_fontsize(8)
