"""Strokes become an image that looks like a data set's own: as large, as thick, as bright, at the same place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Strokes = Sequence[Sequence[Sequence[float]]]
Line = npt.NDArray[np.float64]  # points (x, y)
_FINE = 96  # pixels a side on which strokes are drawn before they are averaged into the image's own
_LARGEST = 5.0  # how many times a small drawing is enlarged; a dot stays a dot


@dataclass(frozen=True)
class Style:
    """How a data set's images are drawn; measured by `measure`.

    Attributes:
        height, width: How much of the image the ink takes, 0 to 1.
        brush: Width of its strokes as a share of the image's longer side.
        ink, ground: Pixel values, 0 to 255.
    """

    height: float = 0.72
    width: float = 0.72
    brush: float = 0.09
    ink: int = 255
    ground: int = 0


def measure(images: npt.NDArray[np.uint8]) -> Style:
    """Return how images are drawn.

    Args:
        images: A few of one data set, (examples, height, width, channels).
    """
    grey = images.mean(axis=3)
    ground = 255 if np.median(np.concatenate([grey[:, 0], grey[:, -1]])) > 127 else 0
    inked = np.abs(grey - ground)
    ink = np.percentile(inked.max(axis=(1, 2)), 50) or 255.0
    shares = inked / ink
    rows, columns = (shares > 0.25).any(axis=2), (shares > 0.25).any(axis=1)
    brush = np.median([_thickness(share) for share in shares]) / max(grey.shape[1:])
    return Style(
        height=float(np.percentile([_span(row) for row in rows], 75)),
        width=float(np.percentile([_span(column) for column in columns], 75)),
        brush=float(np.clip(brush, 0.03, 0.3)),
        ink=int(abs(ground - ink)),
        ground=ground,
    )


def image(strokes: Strokes, style: Style, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Return strokes as an image of a shape, (height, width, channels).

    The drawing is enlarged or reduced to the size of the data set's ink, its sides' ratio kept, and its centre of mass brought to
    the image's centre as far as the ink stays inside: as MNIST's images were made (LeCun et al., 1998, yann.lecun.com/exdb/mnist).

    Args:
        strokes: Lines, each of points (x, y) in one unit for both directions, y downwards. The unit does not matter, up to `_LARGEST`.
        style: Of the data set.
        shape: Of the result.
    """
    lines = [np.asarray(stroke, np.float64) for stroke in strokes if len(stroke)]
    if not lines:
        return np.full(shape, style.ground, np.uint8)
    side = max(shape[:2])
    fine, brush = max(1, round(_FINE / side)), style.brush * side
    placed = _scaled(lines, style, shape, brush)
    covered = _coverage(_centred(placed, _coverage(placed, shape, brush, fine), shape, brush), shape, brush, fine)
    share = covered.reshape(shape[0], fine, shape[1], fine).mean(axis=(1, 3))
    pixels = style.ground + share * (style.ink - style.ground)
    return np.repeat(np.round(pixels).astype(np.uint8)[:, :, None], shape[2], axis=2)


def _scaled(lines: Sequence[Line], style: Style, shape: Sequence[int], brush: float) -> list[Line]:
    """Return lines in the image's pixels, as large as the data set's ink, in the image's middle; `brush` is in pixels."""
    points = np.concatenate(lines)
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.array([style.width * shape[1], style.height * shape[0]]) - brush
    scale = min(_LARGEST * max(shape[:2]), *(room / np.maximum(high - low, 1e-9)))
    return [(line - (low + high) / 2) * scale + np.array([shape[1], shape[0]]) / 2 for line in lines]


def _centred(lines: Sequence[Line], covered: npt.NDArray[np.bool_], shape: Sequence[int], brush: float) -> list[Line]:
    """Return lines with the ink's centre of mass in the image's middle, as far as no ink leaves the image."""
    points, size = np.concatenate(lines), np.array([shape[1], shape[0]])
    mass = (np.argwhere(covered).mean(axis=0)[::-1] + 0.5) * shape[1] / covered.shape[1]
    least, most = brush / 2 - points.min(axis=0), size - brush / 2 - points.max(axis=0)
    move = np.clip(size / 2 - mass, np.minimum(least, 0), np.maximum(most, 0))
    return [line + move for line in lines]


def _coverage(lines: Sequence[Line], shape: Sequence[int], brush: float, fine: int) -> npt.NDArray[np.bool_]:
    """Return which points of a grid, `fine` of them to a pixel's side, are under the brush."""
    y, x = (np.mgrid[: shape[0] * fine, : shape[1] * fine] + 0.5) / fine
    inside = np.zeros(x.shape, np.bool_)
    for line in lines:
        for (ax, ay), (bx, by) in zip(line, np.concatenate([line[1:], line[-1:]]), strict=True):
            square = (bx - ax) ** 2 + (by - ay) ** 2
            along = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / (square or 1.0), 0, 1)
            inside |= (x - ax - along * (bx - ax)) ** 2 + (y - ay - along * (by - ay)) ** 2 <= (brush / 2) ** 2
    return inside


def _span(inked: npt.NDArray[np.bool_]) -> float:
    """Return the share of a side from the first to the last inked place."""
    places = np.flatnonzero(inked)
    return float((places[-1] - places[0] + 1) / len(inked)) if len(places) else 0.0


def _thickness(share: npt.NDArray[np.float64]) -> float:
    """Return the width of strokes in pixels: twice their area by their outline's length, which is their total variation."""
    padded = np.pad(np.minimum(share, 1.0), 1)
    across, down = np.diff(padded, axis=1)[:-1], np.diff(padded, axis=0)[:, :-1]
    return float(2 * padded.sum() / (np.hypot(across, down).sum() or 1.0))
