"""Where labelled examples come from: the bundled digits, IDX files, folders of images, or text."""

from pathlib import Path

import numpy as np

from rowmill.data import folders, idx, text
from rowmill.data.reading import Reading, Source, service_like
from rowmill.errors import SourceError
from rowmill.records import check_service

__all__ = ["DIGITS", "Reading", "Source", "load", "service_name"]

DIGITS = "digits"


def load(source: str, reading: Reading | None = None) -> Source:
    """Read a source.

    Args:
        source: `digits` (or nothing) for scikit-learn's bundled digits; a folder of IDX files; a folder with one sub-folder of
            PNG or JPEG images per label; or a text file with one `key:image:label` per line, plain or .gz.
        reading: Its images' size and colour; as they are when left out.

    Raises:
        SourceError: The source or a part of it is missing, broken, or contradicts another part; the part is named.
    """
    reading = reading or Reading()
    if source in ("", DIGITS):
        return _load_digits(reading)
    path = _path(source)
    if path.is_file():
        return text.load(path, reading)
    if idx.holds(path):
        return idx.load(path, reading)
    if any(entry.is_dir() and not entry.name.startswith(".") for entry in path.iterdir()):
        return folders.load(path, reading)
    there = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
    raise SourceError(
        f"The folder {path} has no examples",
        found=there,
        step="give one with IDX files, or with a sub-folder of PNG or JPEG images per label",
    )


def locate(source: str) -> str:
    """Return the source as it can be given from any folder.

    Raises:
        SourceError: It is missing.
    """
    return DIGITS if source in ("", DIGITS) else str(_path(source).resolve())


def service_name(source: str) -> str:
    """Return the service that a source's examples belong to when nothing else is said.

    Raises:
        SourceError: The folder or file is missing.
        ParameterError: No service can be named after it.
    """
    return DIGITS if source in ("", DIGITS) else check_service(service_like(_path(source)))


def _load_digits(reading: Reading) -> Source:
    from sklearn.datasets import load_digits  # pylint: disable=import-outside-toplevel  # half a second that no other source needs

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[..., np.newaxis]
    reading.check_shape("The source 'digits'", images.shape[1:])
    keys = [f"digits/{row:05d}" for row in range(len(images))]
    labels = [str(label) for label in bunch.target]
    return Source(DIGITS, "scikit-learn's bundled digits", keys, images, labels, np.zeros(len(images), dtype=bool))


def _path(source: str) -> Path:
    try:
        path = Path(source).expanduser()
        there = path.is_dir() or path.is_file()
    except (OSError, RuntimeError) as error:
        raise SourceError(f"The source {source!r} cannot be looked at: {error}", step="look at its rights, or give another one") from error
    if not there:
        raise SourceError(
            f"The source {source!r} is not a folder or a file",
            step="give a folder with IDX files or images, or a text file, or leave SOURCE out for the bundled digits",
        )
    return path
