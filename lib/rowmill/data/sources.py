"""Where labelled examples come from: the bundled digits, or a folder of IDX files."""

import gzip
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rowmill.errors import SourceError
from rowmill.records import check_service

DIGITS = "digits"
_PARTS = {"train": False, "t10k": True}


@dataclass(frozen=True)
class Source:
    """Labelled examples as they came.

    Attributes:
        name: The service's name when nothing else is said.
        origin: Where they came from, in words.
        keys: One unique key per example.
        images: uint8, (examples, height, width, channels).
        labels: One text per example.
        declared_holdout: bool, (examples,): the source's own test part; all False when it declares none.
    """

    name: str
    origin: str
    keys: list[str]
    images: npt.NDArray[np.uint8]
    labels: list[str]
    declared_holdout: npt.NDArray[np.bool_]


def load(source: str) -> Source:
    """Read a source: `digits` (or nothing) for scikit-learn's bundled digits, else a folder of IDX files.

    Raises:
        SourceError: The folder or one of its files is missing, broken, or contradicts another.
    """
    return _load_digits() if source in ("", DIGITS) else _load_idx_folder(_folder(source))


def locate(source: str) -> str:
    """Return the source as it can be given from any folder.

    Raises:
        SourceError: The folder is missing.
    """
    return DIGITS if source in ("", DIGITS) else str(_folder(source).resolve())


def service_name(source: str) -> str:
    """Return the service that a source's examples belong to when nothing else is said.

    Raises:
        SourceError: The folder is missing.
        ParameterError: No service can be named after it.
    """
    return DIGITS if source in ("", DIGITS) else check_service(_name(_folder(source)))


def _load_digits() -> Source:
    from sklearn.datasets import load_digits  # pylint: disable=import-outside-toplevel  # half a second that no other source needs

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[..., np.newaxis]
    keys = [f"digits/{row:05d}" for row in range(len(images))]
    labels = [str(label) for label in bunch.target]
    return Source(DIGITS, "scikit-learn's bundled digits", keys, images, labels, np.zeros(len(images), dtype=bool))


def _folder(source: str) -> Path:
    try:
        folder = Path(source).expanduser()
        there = folder.is_dir()
    except (OSError, RuntimeError) as error:
        raise SourceError(
            f"The source {source!r} cannot be looked at: {error}", step="look at its rights, or give another folder"
        ) from error
    if not there:
        raise SourceError(
            f"The source {source!r} is not a folder", step="give a folder with IDX files, or leave SOURCE out for the bundled digits"
        )
    return folder


def _load_idx_folder(folder: Path) -> Source:
    keys: list[str] = []
    labels: list[str] = []
    parts: list[npt.NDArray[np.uint8]] = []
    holdout: list[bool] = []
    for part, is_holdout in _PARTS.items():
        images, part_labels = _read_part(folder, part)
        keys += [f"{part}/{row:05d}" for row in range(len(images))]
        labels += [str(label) for label in part_labels]
        parts.append(images)
        holdout += [is_holdout] * len(images)
    if parts[0].shape[1:] != parts[1].shape[1:]:
        raise SourceError(
            f"The two parts in {folder} differ in size",
            found=f"{parts[0].shape[1:3]} and {parts[1].shape[1:3]} pixels",
            step="give parts of one size",
        )
    return Source(_name(folder), f"IDX files in {folder.resolve()}", keys, np.concatenate(parts), labels, np.array(holdout))


def _read_part(folder: Path, part: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    images_path, labels_path = _find(folder, f"{part}-images-idx3-ubyte"), _find(folder, f"{part}-labels-idx1-ubyte")
    images, labels = _read_idx(images_path, 3), _read_idx(labels_path, 1)
    if len(images) != len(labels) or len(images) == 0:
        raise SourceError(
            f"{images_path.name} and {labels_path.name} in {folder} must have the same count of examples, at least one",
            found=f"{len(images)} images and {len(labels)} labels",
            step="get both files anew from one place",
        )
    return images[..., np.newaxis], labels


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
    data = _bytes(path)
    magic, header = bytes((0, 0, 8, dimensions)), 4 + 4 * dimensions
    if data[:4] != magic:
        raise SourceError(
            f"{path} is no IDX file of {dimensions}-dimensional bytes: its magic number must be 0x{magic.hex()}",
            found=f"0x{data[:4].hex()}",
            step="get the file anew",
        )
    if len(data) < header:
        raise SourceError(f"{path} is cut short inside its header", found=f"{len(data)} bytes", step="get the file anew")
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    expected = int(np.prod(shape, dtype=object))
    if len(data) - header != expected:
        raise SourceError(
            f"{path} must hold {expected} bytes of values for its shape {shape}", found=f"{len(data) - header}", step="get the file anew"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _bytes(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{path} cannot be unzipped: {error}", step="get the file anew") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}", step="look at its rights") from error


def _name(folder: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
