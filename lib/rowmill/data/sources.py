"""Where labelled examples come from: the bundled digits, IDX files, folders of images, text, or BigQuery."""

import hashlib
import os
from pathlib import Path

import numpy as np

from rowmill import settings
from rowmill.data import folders, idx, text
from rowmill.data.reading import Columns, Reading, Source, service_like, service_of_table
from rowmill.data.reading import is_query as reads_query
from rowmill.errors import ParameterError, SourceError
from rowmill.records import check_service
from rowmill.settings import Settings

__all__ = ["DIGITS", "Columns", "Reading", "Source", "load", "service_name"]

DIGITS = "digits"
_BIGQUERY = "bigquery:"


def load(source: str, reading: Reading | None = None, project: Settings | None = None) -> Source:
    """Read a source.

    Args:
        source: `digits` (or nothing) for scikit-learn's bundled digits; a folder of IDX files; a folder with one sub-folder of
            PNG or JPEG images per label; a text file with one `key:image:label` per line, plain or .gz; or `bigquery:` with
            `project.dataset.table` or a query after it.
        reading: Its images' size and colour, its columns, and whether it has labels; as they are, and labelled, when left out.
        project: The settings; those of the working directory when left out. Only BigQuery asks them.

    Raises:
        SourceError: The source or a part of it is missing, broken, or contradicts another part; the part is named.
    """
    reading = reading or Reading()
    if source in ("", DIGITS):
        return _load_digits(reading)
    if source.startswith(_BIGQUERY):
        # Imported when used: pandas-gbq and Google's client take two seconds.
        from rowmill.data import query  # pylint: disable=import-outside-toplevel

        return query.load(source.removeprefix(_BIGQUERY).strip(), reading, project or settings.load())
    path = _path(source)
    if path.is_file():
        return text.load(path, reading)
    if idx.holds(path):
        return idx.load(path, reading)
    if not reading.labelled or any(entry.is_dir() and not entry.name.startswith(".") for entry in path.iterdir()):
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
    if source.startswith(_BIGQUERY):
        return source
    return DIGITS if source in ("", DIGITS) else str(_path(source).resolve())


def mark(source: str, project: Settings | None = None) -> str:
    """Return what is another text when a source may have other rows; files are told by name, size and time, without being read.

    Args:
        source: As in `load`.
        project: As in `load`.

    Raises:
        SourceError: It is missing.
    """
    if source in ("", DIGITS):
        return DIGITS
    if source.startswith(_BIGQUERY):
        from rowmill.data import query  # pylint: disable=import-outside-toplevel

        return query.mark(source.removeprefix(_BIGQUERY).strip(), project or settings.load())
    path = _path(source)
    files = [path] if path.is_file() else sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    stats = ((file, file.stat()) for file in files)
    told = "\n".join(f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats)
    return f"{len(files)} files, {hashlib.sha256(told.encode(errors='surrogateescape')).hexdigest()}"


def is_query(source: str) -> bool:
    """Return whether a source is a query, of which only a run can tell what it finds."""
    return source.startswith(_BIGQUERY) and reads_query(source.removeprefix(_BIGQUERY))


def service_name(source: str) -> str:
    """Return the service that a source's examples belong to when nothing else is said.

    Raises:
        SourceError: The folder or file is missing.
        ParameterError: No service can be named after it.
    """
    if not source.startswith(_BIGQUERY):
        return DIGITS if source in ("", DIGITS) else check_service(service_like(_path(source)))
    name = service_of_table(source.removeprefix(_BIGQUERY).strip())
    if not name:
        raise ParameterError("The examples of a query belong to no service by themselves", step="name it, such as service='shapes'")
    return check_service(name)


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
            step="give a folder with IDX files or images, a text file or bigquery:project.dataset.table; nothing means the bundled digits",
        )
    return path
