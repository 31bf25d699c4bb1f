"""The embedded warehouse: one SQLite file in WAL mode that several processes use at once."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rowmill.errors import BusyError, IntegrityError, NotFoundError, SourceError
from rowmill.tables import Table

_TYPES = {"STRING": "TEXT", "JSON": "TEXT", "TIMESTAMP": "TEXT", "INT64": "INTEGER", "FLOAT64": "REAL", "BYTES": "BLOB"}
_PYTHON = {"STRING": str, "JSON": str, "INT64": int, "FLOAT64": float, "BYTES": bytes}
_BUSY_SECONDS = 60.0


class SqliteWarehouse:
    """A `Warehouse` in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, table: Table, rows: pd.DataFrame) -> None:
        """Add rows in one transaction; see `Warehouse.append`."""
        values = [_encode(table, column, rows) for column in table.columns] if _columns_match(table, rows) else []
        names = ", ".join(table.columns)
        marks = ", ".join("?" for _ in table.columns)
        # Immediate: a writer waits for its turn at the start, and never fails half-way.
        with self._transaction("IMMEDIATE") as connection:
            connection.execute(_create(table))
            connection.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", zip(*values, strict=True))

    def read(self, table: Table, where: Mapping[str, Any] | None = None, columns: Sequence[str] = ()) -> pd.DataFrame:
        """Return the matching rows; see `Warehouse.read`."""
        wanted = list(columns or table.columns)
        for name in (*wanted, *(where or {})):
            if name not in table.columns:
                raise NotFoundError(f"Table {table.name} has no column {name!r}", step=f"use one of {', '.join(table.columns)}")
        condition = " AND ".join(f"{name} = ?" for name in where or {}) or "1"
        query = f"SELECT {', '.join(wanted)} FROM {table.name} WHERE {condition} ORDER BY rowid"
        with self._transaction("DEFERRED") as connection:
            there = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", [table.name]).fetchone()
            found = connection.execute(query, list((where or {}).values())).fetchall() if there else []
        frame = pd.DataFrame(found, columns=wanted, dtype=object)
        return frame.assign(**{name: _decode(frame[name], table.columns[name]) for name in wanted})

    @contextlib.contextmanager
    def _transaction(self, mode: str) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            try:
                _use_wal(connection)
                connection.execute(f"BEGIN {mode}")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                if "column" in str(error):
                    raise IntegrityError(
                        f"The warehouse {self.path} was written by another version of rowmill: {error}",
                        step="move the file away and ingest anew",
                    ) from error
                raise BusyError(
                    f"The warehouse {self.path} cannot be used: {error}", step="look at its folder's rights and free space, then try again"
                ) from error
            except sqlite3.DatabaseError as error:
                raise SourceError(
                    f"The file {self.path} is no SQLite database: {error}", step="move it away, or restore it from a copy"
                ) from error


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch a new file to WAL, whose readers never wait; SQLite itself does not wait for another who switches at this moment."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _create(table: Table) -> str:
    columns = ", ".join(f"{name} {_TYPES[kind]}" for name, kind in table.columns.items())
    return f"CREATE TABLE IF NOT EXISTS {table.name} ({columns})"


def _columns_match(table: Table, rows: pd.DataFrame) -> bool:
    differing = set(rows.columns) ^ set(table.columns)
    if differing:
        raise SourceError(
            f"Rows for table {table.name} do not have its columns",
            found=f"a difference in {', '.join(sorted(map(str, differing)))}",
            step=f"give exactly {', '.join(table.columns)}",
        )
    return True


def _encode(table: Table, column: str, rows: pd.DataFrame) -> list[Any]:
    kind = table.columns[column]
    if kind == "TIMESTAMP":
        return [moment.isoformat() for moment in pd.to_datetime(rows[column], utc=True)]
    values = rows[column].tolist()
    for value in values:
        if not isinstance(value, _PYTHON[kind]):
            raise SourceError(f"Column {column} of table {table.name} holds {kind} values", found=f"{value!r}", step="convert it first")
    return values


def _decode(values: pd.Series, kind: str) -> pd.Series:
    if kind == "TIMESTAMP":
        return pd.to_datetime(values, utc=True, format="ISO8601")
    match kind:
        case "INT64":
            return values.astype("int64")
        case "FLOAT64":
            return values.astype("float64")
        case _:
            return values
