"""The public text form, plain or .gz: one `key:image:label` per line, its pixels as numbers from 0 to 255 with commas between."""

import gzip
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO, cast

import numpy as np

from rowmill.data.reading import MAX_PIXELS, Reading, Source, reads_file, service_like
from rowmill.errors import SourceError

HEADER = "key:image:label"
_VALUES = {str(value): value for value in range(256)}
_LONGEST_LINE = 3 * 4 * MAX_PIXELS  # three channels, each value at most three digits and a comma


class _Line(NamedTuple):
    number: int
    key: str
    pixels: bytes
    label: str


def load(path: Path, reading: Reading) -> Source:
    """Read a text file; a first line `key:image:label` and empty lines are left out.

    A key may hold colons, a label may not. Images are square and grey; `reading.size` says otherwise, and with the colour
    `rgb` each pixel is three numbers.

    Raises:
        SourceError: A line is not of the form, or a pixel no whole number from 0 to 255; named with line, key and value.
    """
    lines = reads_file(path, lambda: list(_lines(path)))
    if not lines:
        raise SourceError(f"{path} holds no examples", step=f"give a file with one {HEADER} per line")
    shape = _shape(path, lines[0], reading)
    for line in lines:
        if len(line.pixels) != math.prod(shape):
            raise SourceError(
                f"Key {line.key!r} in line {line.number} of {path} must have {math.prod(shape)} pixel values, {_product(shape)}",
                found=f"{len(line.pixels)}",
                step="mend the line, or take it out",
            )
    pixels = np.frombuffer(b"".join(line.pixels for line in lines), np.uint8).reshape(-1, *shape)
    keys, labels = [line.key for line in lines], [line.label for line in lines]
    return Source(service_like(path), f"text in {path.resolve()}", keys, pixels, labels, np.zeros(len(lines), dtype=bool))


def _lines(path: Path) -> Iterator[_Line]:
    with _open(path) as file:
        for number, text in enumerate(iter(lambda: file.readline(_LONGEST_LINE + 1), ""), 1):
            if len(text) > _LONGEST_LINE:
                raise SourceError(f"Line {number} of {path} is longer than {MAX_PIXELS:,} pixels need", step="mend the line")
            line = text.strip()
            if line and not (number == 1 and line == HEADER):
                yield _parsed(path, number, line)


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8-sig"))
    return path.open(encoding="utf-8-sig")


def _parsed(path: Path, number: int, line: str) -> _Line:
    rest, first, label = line.rpartition(":")
    key, second, image = rest.rpartition(":")
    if not (first and second):
        raise SourceError(f"Line {number} of {path} is not of the form {HEADER}", found=repr(_short(line)), step="mend the line")
    values = image.split(",")
    try:
        return _Line(number, key, bytes(map(_VALUES.__getitem__, values)), label)
    except KeyError:
        place, value = next((place, value) for place, value in enumerate(values, 1) if value not in _VALUES)
    raise SourceError(
        f"Pixel {place} of key {key!r} in line {number} of {path} must be a whole number from 0 to 255",
        found=repr(_short(value)) if value else "nothing",
        step="mend the line, or take it out",
    )


def _shape(path: Path, line: _Line, reading: Reading) -> tuple[int, int, int]:
    channels = 3 if reading.colour == "rgb" else 1
    if reading.shape:
        return (*reading.shape, channels)
    side = math.isqrt(len(line.pixels) // channels)
    if side * side * channels != len(line.pixels):
        raise SourceError(
            f"The pixels of key {line.key!r} in line {line.number} of {path} make no square image",
            found=f"{len(line.pixels)} values",
            step="mend the line, or give the size, such as size='28x20'",
        )
    return side, side, channels


def _product(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape if shape[2] > 1 else shape[:2]))


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."
