"""Strokes as a hand would draw them, read off an image of a digit: its ink is thinned to lines, and these are followed."""

import numpy as np
import numpy.typing as npt
from PIL import Image

_SIDE = 64
_AROUND = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]


def strokes(image: npt.NDArray[np.uint8]) -> list[list[tuple[float, float]]]:
    """Return an image's lines as points (x, y), 0 to 1.

    Args:
        image: uint8, (height, width), light ink on a dark ground.
    """
    large = np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
    line = _thinned(np.pad(large > 110, 1))
    left = {(int(y), int(x)) for y, x in np.argwhere(line)}
    found = []
    while left:
        ends = [point for point in left if len(_next(point, left)) == 1]
        point = min(ends or left)
        path = [point]
        left.remove(point)
        while near := _next(point, left):
            point = near[0]
            left.remove(point)
            path.append(point)
        found.append(path)
    kept = [path for path in found if len(path) > 5] or found
    return [[(x / _SIDE, y / _SIDE) for y, x in path[:: max(1, len(path) // 20)]] for path in kept]


def _next(point: tuple[int, int], among: set[tuple[int, int]]) -> list[tuple[int, int]]:
    near = [(point[0] + down, point[1] + across) for down, across in (*_AROUND[::2], *_AROUND[1::2])]
    return [other for other in near if other in among]


def _thinned(ink: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Thin ink to lines of one pixel: Zhang and Suen (1984), Communications of the ACM 27:3."""
    ink, changed = ink.copy(), True
    while changed:
        changed = False
        for step in (0, 1):
            p = [np.roll(ink, (-down, -across), (0, 1)) for down, across in _AROUND]
            count = sum(part.astype(int) for part in p)
            turns = sum((~p[place] & p[(place + 1) % 8]).astype(int) for place in range(8))
            first, second = (p[0] & p[2] & p[4], p[2] & p[4] & p[6]) if step == 0 else (p[0] & p[2] & p[6], p[0] & p[4] & p[6])
            gone = ink & (count >= 2) & (count <= 6) & (turns == 1) & ~first & ~second
            ink &= ~gone
            changed |= bool(gone.any())
    return ink
