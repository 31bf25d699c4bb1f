"""A folder of IDX files, as MNIST, Fashion-MNIST and KMNIST come; its t10k part is the declared holdout."""

import gzip
import struct
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from rowmill.data.reading import Reading, Source, reads_file, service_like
from rowmill.errors import SourceError

_PARTS = {"train": False, "t10k": True}


def holds(folder: Path) -> bool:
    """Say whether a folder has IDX files, by their names."""
    return any(folder.glob("*-ubyte")) or any(folder.glob("*-ubyte.gz"))


def load(folder: Path, reading: Reading) -> Source:
    """Read a folder's two parts, plain or .gz; where no labels are asked for, one part is enough, and its images.

    Raises:
        SourceError: A file is missing, broken, or contradicts another.
    """
    keys: list[str] = []
    labels: list[str] = []
    parts: list[npt.NDArray[np.uint8]] = []
    holdout: list[bool] = []
    for part, is_holdout in _parts(folder, reading.labelled).items():
        images, part_labels = _read_part(folder, part) if reading.labelled else _read_images(folder, part)
        keys += [f"{part}/{row:05d}" for row in range(len(images))]
        labels += part_labels
        parts.append(images)
        holdout += [is_holdout] * len(images)
    if parts[0].shape[1:] != parts[-1].shape[1:]:
        raise SourceError(
            f"The two parts in {folder} differ in size",
            found=f"{parts[0].shape[1:3]} and {parts[-1].shape[1:3]} pixels",
            step="give parts of one size",
        )
    origin = f"IDX files in {folder.resolve()}"
    reading.check_shape(origin, parts[0].shape[1:])
    return Source(service_like(folder), origin, keys, np.concatenate(parts), labels, np.array(holdout))


def _parts(folder: Path, labelled: bool) -> dict[str, bool]:
    """Return the parts to read, each with whether it is the holdout; all where none is there, for the one that is missed to be named."""
    there = {part: is_holdout for part, is_holdout in _PARTS.items() if any(folder.glob(f"{part}-images-idx3-ubyte*"))}
    return _PARTS if labelled else there or _PARTS


def _read_images(folder: Path, part: str) -> tuple[npt.NDArray[np.uint8], list[str]]:
    path = _find(folder, f"{part}-images-idx3-ubyte")
    images = _read_idx(path, 3)
    if len(images) == 0:
        raise SourceError(f"{path} holds no images", step="get the file anew, or take it out")
    return images[..., np.newaxis], [""] * len(images)


def _read_part(folder: Path, part: str) -> tuple[npt.NDArray[np.uint8], list[str]]:
    images_path, labels_path = _find(folder, f"{part}-images-idx3-ubyte"), _find(folder, f"{part}-labels-idx1-ubyte")
    images, labels = _read_idx(images_path, 3), _read_idx(labels_path, 1)
    if len(images) != len(labels) or len(images) == 0:
        raise SourceError(
            f"{images_path.name} and {labels_path.name} in {folder} must have the same count of examples, at least one",
            found=f"{len(images)} images and {len(labels)} labels",
            step="get both files anew from one place",
        )
    return images[..., np.newaxis], [str(label) for label in labels]


def _find(folder: Path, stem: str) -> Path:
    for path in (folder / stem, folder / f"{stem}.gz"):
        if path.is_file():
            return path
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise SourceError(f"There is no {stem} or {stem}.gz in {folder}", found=there, step="add the file, or give another folder")


def _read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    The format: two zero bytes, 0x08 for uint8, the count of dimensions, each dimension as big-endian uint32, then the
    values in C order (http://yann.lecun.com/exdb/mnist/).
    """
    shape, values, excess = reads_file(path, lambda: _read_parts(path, dimensions))
    expected = int(np.prod(shape, dtype=object))
    if len(values) != expected or excess:
        raise SourceError(
            f"{path} must hold {expected} bytes of values for its shape {shape}",
            found=f"more than {len(values)}" if excess else f"{len(values)}",
            step="get the file anew",
        )
    return np.frombuffer(values, np.uint8).reshape(shape)


def _read_parts(path: Path, dimensions: int) -> tuple[tuple[int, ...], bytes, bytes]:
    """Return the shape, the values and the first byte after them; never more than the header says, whatever a .gz unpacks to."""
    with cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb") as file:
        magic, wanted = file.read(4), bytes((0, 0, 8, dimensions))
        if magic != wanted:
            raise SourceError(
                f"{path} is no IDX file of {dimensions}-dimensional bytes: its magic number must be 0x{wanted.hex()}",
                found=f"0x{magic.hex()}",
                step="get the file anew",
            )
        header = file.read(4 * dimensions)
        if len(header) < 4 * dimensions:
            raise SourceError(f"{path} is cut short inside its header", found=f"{4 + len(header)} bytes", step="get the file anew")
        shape = struct.unpack(f">{dimensions}I", header)
        return shape, file.read(int(np.prod(shape, dtype=object))), file.read(1)
