"""Charts of a page as plain SVG and HTML, in the page's own colours, light and dark; matplotlib would cost each viewer 28 MB."""

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDE, _HIGH, _LEFT, _RIGHT, _TOP, _BELOW = 460, 190, 46, 12, 12, 34
_PARTS = 4
_COLOURS = ("accent", "unsure", "good", "bad")


def lines(series: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str) -> str:
    """Return markup of a line chart.

    Args:
        series: Name to points (x, y); points that are not finite are left out. Up to four names get colours and a legend.
        across: What x is, in words.
        up: What y is, in words.
    """
    kept = {name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)] for name, points in series.items()}
    kept = {name: points for name, points in kept.items() if points}
    if not kept:
        return ""
    every = [point for points in kept.values() for point in points]
    xs, ys = ticks(*_ends([x for x, _ in every])), ticks(*_ends([y for _, y in every]))
    x_of, y_of = _scale(xs, _LEFT, _WIDE - _RIGHT), _scale(ys, _HIGH - _BELOW, _TOP)
    drawn = [_curve([(x_of(x), y_of(y)) for x, y in points], _COLOURS[place % 4]) for place, points in enumerate(kept.values())]
    said = "; ".join(f"{name}: {points[0][1]:.4g} to {points[-1][1]:.4g}" for name, points in kept.items())
    label = escape(f"{up} by {across}. {said}")
    inside = "".join((*_grid(xs, ys), *drawn, *_axis_words(across, up)))
    legend = "".join(f'<span class="rm-key rm-of-{_COLOURS[place % 4]}">{escape(name)}</span>' for place, name in enumerate(kept))
    svg = f'<svg class="rm-plot" viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{label}">{inside}</svg>'
    return svg + (f'<p class="rm-legend">{legend}</p>' if len(kept) > 1 else "")


def matrix(counts: Sequence[Sequence[int]], labels: Sequence[str], rows: str, columns: str) -> str:
    """Return markup of a confusion matrix as a table whose cells are coloured by their share of the row.

    Args:
        counts: (true, answered).
        labels: Of both.
        rows: What the rows are, in words.
        columns: What the columns are, in words.
    """
    heads = "".join(f'<th scope="col">{escape(label)}</th>' for label in labels)
    body = []
    for true, (label, line) in enumerate(zip(labels, counts, strict=True)):
        cells = "".join(_matrix_cell(count, sum(line), true == place) for place, count in enumerate(line))
        body.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>')
    caption = f"<caption>{escape(f'{rows} ↓  {columns} →')}</caption>"
    return (
        f'<div class="rm-scroll" tabindex="0" role="region" aria-label="{escape(rows)}, {escape(columns)}"><table class="rm-matrix">'
        f"{caption}<thead><tr><td></td>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def bars(shares: Mapping[str, float]) -> str:
    """Return markup of labelled bars, one below the other, each a share from 0 to 1."""
    return "".join(
        f'<div class="rm-bar"><span>{escape(name)}</span><div><div style="width: {100 * min(1.0, max(0.0, share)):.1f}%"></div></div>'
        f"<span>{100 * share:.1f} %</span></div>"
        for name, share in shares.items()
    )


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers, three to six of them, that enclose what lies between."""
    raw = (high - low) / _PARTS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    return [step * place for place in range(first, math.ceil(high / step - 1e-9) + 1)]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low > 1e-12:
        return low, high
    return low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)


def _scale(marks: Sequence[float], start: float, end: float) -> "_Scale":
    return _Scale(marks[0], marks[-1], start, end)


class _Scale:
    """A linear map from values to places in the drawing."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._slope, self._start = low, (end - start) / (high - low), start

    def __call__(self, value: float) -> float:
        return self._start + (value - self._low) * self._slope


def _curve(points: Sequence[tuple[float, float]], colour: str) -> str:
    if len(points) == 1:
        return f'<circle class="rm-dot rm-of-{colour}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3.5"/>'
    return f'<polyline class="rm-curve rm-of-{colour}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def _grid(xs: Sequence[float], ys: Sequence[float]) -> list[str]:
    x_of, y_of = _scale(xs, _LEFT, _WIDE - _RIGHT), _scale(ys, _HIGH - _BELOW, _TOP)
    drawn = [
        f'<line class="rm-grid" x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{y_of(y):.1f}" y2="{y_of(y):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y_of(y) + 4:.1f}" text-anchor="end">{y:.6g}</text>'
        for y in ys
    ]
    whole = [x for x in xs if x == round(x)] if len(xs) > 2 else xs
    return drawn + [f'<text x="{x_of(x):.1f}" y="{_HIGH - _BELOW + 15}" text-anchor="middle">{x:.6g}</text>' for x in whole]


def _axis_words(across: str, up: str) -> tuple[str, str]:
    below = f'<text x="{_WIDE - _RIGHT}" y="{_HIGH - 3}" text-anchor="end">{escape(across)}</text>'
    return below, f'<text x="2" y="{_HIGH - 3}">{escape(up)}</text>'


def _matrix_cell(count: int, total: int, is_right: bool) -> str:
    if not count:
        return "<td></td>"
    # Never stronger than words can be read on.
    strength = 10 + 24 * math.sqrt(count / total)
    ground = f"color-mix(in srgb, var({'--good' if is_right else '--bad'}) {strength:.0f}%, var(--card))"
    return f'<td style="background: {ground}">{count:,}</td>'
