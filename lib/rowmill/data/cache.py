"""Arrays that were read before, kept in a file where reading them again would be billed again."""

import contextlib
import os
import secrets
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# What NumPy and zipfile raise for a file that is not there or damaged in whatever place.
_DAMAGE = (OSError, EOFError, KeyError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile)

Arrays = Mapping[str, npt.NDArray[Any]]


def kept(path: Path | None, names: Sequence[str], read: Callable[[], Arrays]) -> Arrays:
    """Return the arrays in a file; where it is not there or damaged, read them and write it.

    Args:
        path: The file, an uncompressed `.npz`, whose checksums NumPy compares; None: read, and keep nothing.
        names: The arrays'.
        read: Reads the arrays, none of them of Python objects; where there are none, nothing is kept.
    """
    if path is None:
        return read()
    with contextlib.suppress(*_DAMAGE), path.open("rb") as opened:
        with np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    arrays = read()
    if not arrays:
        return arrays
    # What was read is worth more than its copy: a full disk is told by who cannot go on without it.
    with contextlib.suppress(OSError):
        _keep(path, arrays)
    return arrays


def _keep(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.npz")
    try:
        np.savez(new, allow_pickle=False, **arrays)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
