"""What was seen of what serves, as markup: figures, pictures over time, a table of models, and each model's requests beside its holdout."""

import base64
import datetime
import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import numpy.typing as npt
import pandas as pd

from rowmill.data import images
from rowmill.monitoring import traffic
from rowmill.monitoring.drift import NUMBERS, Difference, Drift
from rowmill.monitoring.watch import Watched
from rowmill.pages import parts, plots
from rowmill.pages import stand as stands
from rowmill.pages.words import say

Pictures = Sequence[npt.NDArray[np.uint8] | None]

_KINDS = {"silent": "quiet", "no difference": "good", "differs": "unsure"}  # not `bad`: drift is no harm
_UNITS = (("minutes", 60.0, 7200.0), ("hours", 3600.0, 259_200.0), ("days", 86400.0, math.inf))
_MOST_LABELS, _FURTHEST, _POINTS = 12, 8, 60


def nothing(sentence: str) -> str:
    """Return markup of a page that has nothing to show yet."""
    return _card("", f"<p>{escape(sentence)}</p>")


def markup(seen: Watched, pictures: Mapping[str, Pictures]) -> str:
    """Return all that was seen.

    Args:
        seen: What it is.
        pictures: Model id to the images of its furthest requests, where images are kept.
    """
    notes = "".join(f'<p class="rm-quiet">{escape(note)}</p>' for note in seen.asked.notes)
    if not seen.asked.total:
        return _card("", f"{notes}<p>{escape(say('monitor.how'))}</p>")
    drifts = "".join(_drift(found, pictures.get(found.model_id, ())) for found in seen.drifts)
    return _card("", _figures(seen) + notes) + _card("", _times(seen)) + _card(say("monitor.models"), _models(seen)) + drifts


def _card(title: str, inside: str) -> str:
    head = f"<h2>{escape(title)}</h2>" if title else ""
    return f'<section class="rm-card">{head}{inside}</section>'


def _figures(seen: Watched) -> str:
    rows = seen.asked.rows
    slow = rows.loc[rows["code"] == 200, "latency_ms"]
    shares = {name: _number(float(slow.quantile(share)), " ms") for name, share in traffic.PERCENTILES.items()}
    last = f"{stands.moment(rows['answered_at'].max().to_pydatetime())}" if len(rows) else ""
    return parts.facts(
        {
            say("monitor.requests"): f"<b>{seen.asked.total:,}</b>",
            say("monitor.errors"): f"<b>{_percent(traffic.errors(seen.traffic))}</b>",
            **{say(f"monitor.{name}"): f"<b>{value}</b>" for name, value in shares.items()},
            say("monitor.last"): last,
        }
    )


def _times(seen: Watched) -> str:
    table = traffic.over_time(seen.asked)
    unit, seconds = next(
        (name, size) for name, size, most in _UNITS if (seen.asked.until - traffic.start_of(seen.asked)).total_seconds() <= most
    )
    end = pd.Timestamp(seen.asked.until)
    middle = (table["at"] + traffic.width_of(seen.asked) / 2).where(lambda at: (at <= end) | (table["at"] > end), end)
    across = ((middle - end).dt.total_seconds() / seconds).tolist()

    def line(name: str) -> list[plots.Point]:
        return list(zip(across, table[name].tolist(), strict=True))

    errors = list(zip(across, (table["refused"] + table["failed"]).tolist(), strict=True))
    counts = {say("monitor.requests"): line("requests")} | ({say("monitor.errors"): errors} if any(y for _, y in errors) else {})
    words = say(f"monitor.{unit}")
    drawn = [
        plots.lines(counts, words, say("monitor.by_part", width=_told(traffic.width_of(seen.asked)))),
        plots.lines({name: line(name) for name in traffic.PERCENTILES}, words, say("monitor.latency")),
        plots.lines({say("monitor.confidence"): line("confidence")}, words, say("monitor.confidence")),
    ]
    return f'<div class="rm-charts">{"".join(f"<div>{each}</div>" for each in drawn if each)}</div>'


def _models(seen: Watched) -> str:
    names = ("model", "requests", "refused", "failed", "p50", "p95", "p99", "confidence", "labels")
    heads = "".join(f'<th scope="col">{escape(say(f"monitor.{name}"))}</th>' for name in names)
    rows = []
    for each in seen.traffic:
        frequent = ", ".join(f"{label} {share:.0%}" for label, share in list(each.labels.items())[:5])
        values = (
            f'<span class="rm-id">{escape(each.model_id)}</span>',
            *(f"{count:,}" for count in (each.requests, each.refused, each.failed)),
            *(_number(value, " ms") for value in (each.p50, each.p95, each.p99)),
            _number(each.confidence),
            escape(frequent),
        )
        cells = "".join(
            f'<td data-label="{escape(say(f"monitor.{name}"))}"{" class=rm-broken" if name == "labels" else ""}>{value}</td>'
            for name, value in zip(names, values, strict=True)
        )
        rows.append(f"<tr>{cells}</tr>")
    return (
        f'<div class="rm-scroll rm-cards" tabindex="0" role="region" aria-label="{escape(say("monitor.models"))}"><table><thead><tr>{heads}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _drift(found: Drift, pictures: Pictures) -> str:
    badge = parts.badge(say(f"monitor.{found.state.replace(' ', '_')}"), _KINDS[found.state])
    head = f'<h2><span class="rm-id">{escape(found.model_id)}</span> {badge}</h2><p>{escape(found.sentence)}</p>'
    if not found.differences:
        return _card("", head)
    shown = {each.name: each for each in found.differences}
    drawn = [_labels(found, shown["label"]), *(_curves(found, shown[name]) for name in NUMBERS)]
    charts = f'<div class="rm-charts rm-four">{"".join(f"<div>{each}</div>" for each in drawn)}</div>'
    return _card("", f"{head}{charts}{_furthest(found, pictures)}")


def _told_effect(each: Difference) -> str:
    badge = parts.badge(say("monitor.differs"), "unsure") if each.differs else ""
    figures = escape(say("monitor.effect", effect=each.effect, test=each.test, p=each.p_value))
    return f'<h3>{escape(say(f"monitor.of_{each.name}"))} {badge}</h3><p class="rm-quiet">{figures}</p>'


def _labels(found: Drift, each: Difference) -> str:
    ours, theirs = (frame["label"].value_counts(normalize=True) for frame in (found.furthest, found.reference))
    table = pd.DataFrame({"ours": ours, "theirs": theirs}).fillna(0.0)
    table = table.loc[table.max(axis=1).nlargest(_MOST_LABELS).index].sort_index()
    most = float(table.to_numpy().max()) or 1.0
    rows = [
        f'<div class="rm-bar rm-beside" title="{say("monitor.beside", ours=ours, theirs=theirs)}"><span>{escape(str(label))}</span><div>'
        f'<div style="width: {100 * ours / most:.1f}%"></div><i style="left: {100 * theirs / most:.1f}%"></i></div>'
        f"<span>{100 * ours:.1f} %</span></div>"
        for label, ours, theirs in table.itertuples()
    ]
    return f'{_told_effect(each)}{"".join(rows)}<p class="rm-quiet">{escape(say("monitor.mark"))}</p>'


def _curves(found: Drift, each: Difference) -> str:
    shares = np.linspace(0, 1, _POINTS)
    lines = {
        say("monitor.requests"): list(zip(np.quantile(found.furthest[each.name], shares), 100 * shares, strict=True)),
        say("monitor.holdout"): list(zip(np.quantile(found.reference[each.name], shares), 100 * shares, strict=True)),
    }
    return _told_effect(each) + plots.lines(lines, say(f"monitor.of_{each.name}"), say("monitor.at_most"))


def _furthest(found: Drift, pictures: Pictures) -> str:
    cells = []
    for place, row in enumerate(found.furthest.head(_FURTHEST).to_dict("records")):
        image = pictures[place] if place < len(pictures) else None
        source = f"data:image/png;base64,{base64.b64encode(images.encode(_stretched(image))).decode()}" if image is not None else ""
        picture = f'<img src="{source}" alt="{escape(say("monitor.image"))}">' if source else ""
        figures = say("monitor.figures", mean=row["mean"], deviation=row["deviation"])
        cells.append(
            f"<figure>{picture}<figcaption><b>{escape(row['label'])}</b> {row['confidence']:.0%}<br>{escape(figures)}<br>"
            f'<span class="rm-id">{escape(row["request_id"])}</span></figcaption></figure>'
        )
    kept = "" if any(image is not None for image in pictures) else f'<p class="rm-quiet">{escape(say("monitor.not_kept"))}</p>'
    return f'<details><summary>{escape(say("monitor.furthest"))}</summary>{kept}<div class="rm-furthest">{"".join(cells)}</div></details>'


def _stretched(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return an image for eyes, from black to white: digits whose brightest pixel is 16 look black as they are."""
    return (image * (255.0 / max(1, int(image.max())))).astype(np.uint8)


def _number(value: float, unit: str = "") -> str:
    return f"{value:.3g}{unit}" if math.isfinite(value) else "–"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if math.isfinite(share) else "–"


def _told(width: datetime.timedelta) -> str:
    minutes = int(width.total_seconds() // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h" if minutes < 1440 else f"{minutes // 1440} d"
