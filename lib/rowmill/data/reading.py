"""How a source is read, and what comes of it: labelled examples as they came."""

import gzip
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rowmill.errors import ParameterError, SourceError

COLOURS = ("as is", "grey", "rgb")
# 4096 x 4096: more than any classifier takes, and 50 MB in colour; a small file that unpacks to more is a bomb.
MAX_PIXELS = 2**24

Result = TypeVar("Result")


@dataclass(frozen=True)
class Source:
    """Labelled examples as they came.

    Attributes:
        name: The service's name when nothing else is said.
        origin: Where they came from, in words.
        keys: One unique key per example.
        images: uint8, (examples, height, width, channels).
        labels: One text per example; empty where it has none.
        declared_holdout: bool, (examples,): the source's own test part; all False when it declares none.
    """

    name: str
    origin: str
    keys: list[str]
    images: npt.NDArray[np.uint8]
    labels: list[str]
    declared_holdout: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Columns:
    """The columns of a source in BigQuery.

    Attributes:
        key: STRING or INT64, unique.
        image: BYTES.
        label: STRING, INT64 or BOOL.
        holdout: BOOL, true for the source's own test part; empty for none.

    Raises:
        ParameterError: One that is needed has no name.
    """

    key: str = "key"
    image: str = "image"
    label: str = "label"
    holdout: str = ""

    def __post_init__(self) -> None:
        for role in ("key", "image", "label"):
            if not getattr(self, role):
                raise ParameterError(f"A source in BigQuery needs a column for the {role}", step=f"name it by {role}_column")


@dataclass(frozen=True)
class Reading:
    """How examples are to be read.

    Attributes:
        size: Height x width in pixels, such as `28x28`: image files are resized to it, and text is laid out by it. Empty: as they are.
        colour: `grey` for one channel, `rgb` for three, `as is` for what the images have.
        columns: Of a source in BigQuery.
        labelled: Whether each example must have a label; where it need not, one that has none has an empty text.

    Raises:
        ParameterError: A value cannot be used.
    """

    size: str = ""
    colour: str = "as is"
    columns: Columns = Columns()
    labelled: bool = True

    def __post_init__(self) -> None:
        if self.colour not in COLOURS:
            raise ParameterError(f"Images cannot be read in colour {self.colour!r}", step=f"give one of {', '.join(map(repr, COLOURS))}")
        if self.size and not re.fullmatch(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", self.size):
            raise ParameterError(f"The size {self.size!r} is no size of an image", step="give height x width in pixels, such as '28x28'")
        if self.shape and self.shape[0] * self.shape[1] > MAX_PIXELS:
            raise ParameterError(f"The size {self.size!r} is more than {MAX_PIXELS:,} pixels", step="give a smaller one")

    @property
    def shape(self) -> tuple[int, int] | None:
        """(height, width) in pixels, or None for the images' own."""
        if not self.size:
            return None
        height, width = self.size.split("x")
        return int(height), int(width)

    def check_shape(self, origin: str, shape: tuple[int, ...]) -> None:
        """Refuse a size or colour that a source which is read as it is does not have.

        Args:
            origin: The source, in words.
            shape: (height, width, channels) of its images.

        Raises:
            SourceError: It has another size or colour.
        """
        channels = {"grey": 1, "rgb": 3}.get(self.colour, shape[2])
        if (*(self.shape or shape[:2]), channels) != shape:
            wanted = ", ".join(filter(None, (self.size, self.colour)))
            raise SourceError(
                f"{origin} is read as it is and cannot be given as {wanted!r}",
                found=f"{shape[0]}x{shape[1]} pixels in {'grey' if shape[2] == 1 else 'rgb'}",
                step="leave size and colour as they are by default",
            )


def service_like(path: Path) -> str:
    """Return a file's or folder's name in the letters that a service may have."""
    name = path.resolve().name
    return _in_service_letters(name if path.is_dir() else name.removesuffix(".gz").rpartition(".")[0] or name.removesuffix(".gz"))


def service_of_table(wanted: str) -> str:
    """Return a BigQuery table's name in the letters that a service may have; empty for a query."""
    return "" if is_query(wanted) else _in_service_letters(wanted.rpartition(".")[2])


def is_query(wanted: str) -> bool:
    """Whether it is a query: no table's name has a blank."""
    return len(wanted.split()) > 1


def _in_service_letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def same_shape(names: Sequence[str], pixels: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Return images as one array, (examples, height, width, channels).

    Args:
        names: What each is called in a sentence.
        pixels: uint8, (height, width, channels).

    Raises:
        SourceError: They differ in size or colour.
    """
    first = pixels[0]
    for name, image in zip(names, pixels, strict=True):
        if image.shape[2] != first.shape[2]:
            raise SourceError(
                f"{name} is {_channels(image)} and {names[0]} is {_channels(first)}", step="give colour='grey' or colour='rgb'"
            )
        if image.shape != first.shape:
            raise SourceError(
                f"Images must have one size, and {name} differs from {names[0]}",
                found=f"{image.shape[0]}x{image.shape[1]} and {first.shape[0]}x{first.shape[1]} pixels",
                step=f"give size='{first.shape[0]}x{first.shape[1]}' or another to resize all to it",
            )
    return np.stack(pixels)


def _channels(image: npt.NDArray[np.uint8]) -> str:
    return "grey" if image.shape[2] == 1 else "in colour"


def reads_file(path: Path, read: Callable[[], Result]) -> Result:
    """Return what `read` makes of a file, plain or .gz, and name the file where that fails.

    Raises:
        SourceError: The file cannot be opened, unzipped or decoded.
    """
    try:
        return read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{path} cannot be unzipped: {error}", step="get the file anew") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is no UTF-8 text: {error}", step="save it as UTF-8") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}", step="look at its rights") from error
