"""The files into which a host's function writes its lines: each by one worker alone, bounded together, and read while they grow."""

import fcntl
import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rowmill import jobs

FILE_BYTES = 16 * 2**20
FOLDER_BYTES = 8 * FILE_BYTES
_STDOUT = 1


def folder(state: Path, service: str) -> Path:
    """Return where the lines of a service's host lie on this machine."""
    return state / "serving" / service / "lines"


def files(where: Path) -> list[Path]:
    """Return the files of a folder, the oldest first; the last one may still be written."""
    return sorted(where.glob("*.jsonl"))


class Writer:
    """Leads stdout of this process into files of a folder, one after the other; the oldest go when nobody takes them in.

    As long as a process may write a file it holds a lock of it, which the kernel frees when it dies.

    Args:
        where: The folder; a disk that takes no file leaves stdout as it was.
        file_bytes: From which size on the next file is begun.
        folder_bytes: How large all files together may be.
    """

    def __init__(self, where: Path, file_bytes: int = FILE_BYTES, folder_bytes: int = FOLDER_BYTES) -> None:
        self._where, self._file_bytes, self._folder_bytes = where, file_bytes, folder_bytes
        self._lock = threading.Lock()
        self._begin()

    def turn(self) -> None:
        """Begin the next file where this one is full; to be called before each request."""
        if os.fstat(_STDOUT).st_size < self._file_bytes:
            return
        with self._lock:
            if os.fstat(_STDOUT).st_size >= self._file_bytes:
                self._begin()

    def _begin(self) -> None:
        try:
            self._where.mkdir(parents=True, exist_ok=True)
            # By number, for clocks go backwards; and a name that no other machine or folder gives.
            number = max((int(path.name[:8]) for path in files(self._where)), default=0) + 1
            file = os.open(self._where / f"{number:08d}-{secrets.token_hex(6)}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except (OSError, ValueError):
            return
        fcntl.flock(file, fcntl.LOCK_SH)
        os.dup2(file, _STDOUT)
        os.close(file)
        self._prune()

    def _prune(self) -> None:
        *older, _ = files(self._where)
        spare = self._folder_bytes - self._file_bytes
        for path in reversed(older):
            spare -= path.stat().st_size if path.exists() else 0
            if spare < 0:
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Piece:
    """A line of a file: its text without the line's end, where it starts and ends, and whether it is whole."""

    text: bytes
    start: int
    end: int
    whole: bool


def read(path: Path) -> Iterator[Piece]:
    """Give the lines of a file; a last one that has no end yet is not whole."""
    start = 0
    with path.open("rb") as file:
        for line in file:
            yield Piece(line.rstrip(b"\n"), start, start + len(line), line.endswith(b"\n"))
            start += len(line)


def erase(path: Path, piece: Piece) -> None:
    """Write spaces over a line; others may write at the file's end meanwhile."""
    with path.open("r+b") as file:
        file.seek(piece.start)
        file.write(b" " * len(piece.text))


def is_finished(path: Path) -> bool:
    """Say whether nobody will write a file any more."""
    with path.open("rb") as file:
        return jobs.try_lock(file)
