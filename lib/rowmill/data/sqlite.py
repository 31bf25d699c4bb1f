"""The embedded warehouse: one SQLite file in WAL mode that several processes use at once."""

import contextlib
import datetime
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from rowmill.data import spans
from rowmill.data.rows import as_arrow, as_kinds, check_columns, check_forgettable, checked_values, part_rows, wanted_columns
from rowmill.errors import BusyError, IntegrityError, RowmillError, SourceError
from rowmill.tables import Span, Table

_TYPES = {"STRING": "TEXT", "JSON": "TEXT", "TIMESTAMP": "TEXT", "INT64": "INTEGER", "FLOAT64": "REAL", "BYTES": "BLOB"}
_BUSY_SECONDS = 60.0
_LEAST_FREE = 2**20
_PART_ROWS, _FIRST_ROWS = 1000, 30
# Fibonacci hashing (Knuth, The Art of Computer Programming 3, section 6.4): neighbours are drawn far from each other.
_DRAWN = f"(rowid * 2654435769 & {spans.ALL - 1})"


class SqliteWarehouse:
    """A `Warehouse` in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cache: Path | None = None  # nothing is quicker to read than this file

    def append(self, table: Table, rows: pd.DataFrame) -> None:
        """Add rows in one transaction; see `Warehouse.append`."""
        check_columns(table, rows)
        values = [_encode(table, column, rows) for column in table.columns]
        names = ", ".join(table.columns)
        marks = ", ".join("?" for _ in table.columns)
        # Immediate: a writer waits for its turn at the start, and never fails half-way.
        with self._transaction("IMMEDIATE") as connection:
            _create(connection, table)
            connection.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", zip(*values, strict=True))

    def read(self, table: Table, where: Mapping[str, Any] | None = None, columns: Sequence[str] = ()) -> pd.DataFrame:
        """Return the matching rows; see `Warehouse.read`."""
        wanted = wanted_columns(table, where, columns)
        with self._transaction("DEFERRED") as connection:
            found = _select(connection, table, wanted, {name: [value] for name, value in (where or {}).items()}).fetchall()
        return as_kinds(table, pd.DataFrame(found, columns=wanted, dtype=object))

    def scan(self, table: Table, where: Mapping[str, Sequence[str]] | None = None, columns: Sequence[str] = ()) -> pa.Table:
        """Return the matching rows; see `Warehouse.scan`."""
        wanted = wanted_columns(table, where, columns)
        with self._transaction("DEFERRED") as connection:
            found = _select(connection, table, wanted, where or {})
            return as_arrow(table, wanted, _parts(found))

    def forget(self, table: Table, where: Mapping[str, Any], before: datetime.datetime | None = None) -> int:
        """Remove rows and write zeros over their bytes; see `Warehouse.forget`."""
        check_forgettable(table, where)
        aged = f" AND {table.age} < ?" if before else ""  # texts of moments in UTC sort as the moments do
        values = [*where.values(), *([_text(before)] if before else [])]
        with self._transaction("IMMEDIATE") as connection:
            _create(connection, table)
            connection.execute("PRAGMA secure_delete = ON")
            condition = " AND ".join(f"{name} = ?" for name in where)
            return connection.execute(f"DELETE FROM {table.name} WHERE {condition}{aged}", values).rowcount

    def count(self, table: Table, span: Span, by: Sequence[str], step: str) -> pd.DataFrame:
        """Count rows by their age; see `Warehouse.count`."""
        return spans.counted(self._ask(table, spans.count(table, span, by, step, _dialect(table))), table, by)

    def draw(self, table: Table, span: Span, columns: Sequence[str], share: float) -> pd.DataFrame:
        """Return a share of rows; see `Warehouse.draw`."""
        return spans.drawn(self._ask(table, spans.draw(table, span, columns, share, _dialect(table))), table, columns)

    def _ask(self, table: Table, query: spans.Query) -> pd.DataFrame:
        values = {name: _text(value) if kind == "TIMESTAMP" else value for name, (value, kind) in query.values.items()}
        with self._transaction("DEFERRED") as connection:
            if not _is_there(connection, table):
                return pd.DataFrame()
            found = connection.execute(query.text, values)
            return pd.DataFrame(found.fetchall(), columns=[column[0] for column in found.description], dtype=object)

    @contextlib.contextmanager
    def _transaction(self, mode: str) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
                _use_wal(connection)
                connection.execute(f"BEGIN {mode}")
                yield connection
                connection.execute("COMMIT")
        except (sqlite3.OperationalError, OSError) as error:
            raise self._refusal(error) from error
        except sqlite3.DatabaseError as error:
            raise SourceError(
                f"The file {self.path} is no SQLite database: {error}", step="move it away, or restore it from a copy"
            ) from error

    def _refusal(self, error: Exception) -> RowmillError:
        if "column" in str(error):
            what = f"The warehouse {self.path} was written by another version of rowmill: {error}"
            return IntegrityError(what, step="move the file away and ingest anew")
        if shutil.disk_usage(self.path.parent).free < _LEAST_FREE:  # of which SQLite says "disk I/O error" where it cannot even begin
            return BusyError(f"The warehouse {self.path} cannot be used, for its disk is full: {error}", step="make room, then try again")
        told = getattr(error, "strerror", None) or error
        return BusyError(
            f"The warehouse {self.path} cannot be used: {told}", step="look at its folder's rights and free space, then try again"
        )


def _parts(found: sqlite3.Cursor) -> Iterator[list[tuple[Any, ...]]]:
    """Give the rows in parts, so that they are in memory once; the first part tells how large they are."""
    part = found.fetchmany(_FIRST_ROWS)
    while part:
        yield part
        largest = max((len(value) for row in part for value in row if isinstance(value, bytes)), default=1)
        part = found.fetchmany(part_rows(largest, _PART_ROWS))


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


def _select(connection: sqlite3.Connection, table: Table, wanted: Sequence[str], where: Mapping[str, Sequence[Any]]) -> sqlite3.Cursor:
    """Return the rows that have in each column one of its values; none where the table is not there."""
    if not _is_there(connection, table):
        return connection.execute("SELECT 1 WHERE 0")
    condition = " AND ".join(f"{name} IN ({', '.join('?' * len(values))})" for name, values in where.items()) or "1"
    query = f"SELECT {', '.join(wanted)} FROM {table.name} WHERE {condition} ORDER BY rowid"
    return connection.execute(query, [value for values in where.values() for value in values])


def _is_there(connection: sqlite3.Connection, table: Table) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", [table.name]).fetchone() is not None


def _create(connection: sqlite3.Connection, table: Table) -> None:
    columns = ", ".join(f"{name} {_TYPES[kind]}" for name, kind in table.columns.items())
    connection.execute(f"CREATE TABLE IF NOT EXISTS {table.name} ({columns})")
    for number, index in enumerate(table.indexes):
        connection.execute(f"CREATE INDEX IF NOT EXISTS {table.name}_{number} ON {table.name} ({', '.join(index)})")


def _dialect(table: Table) -> spans.Dialect:
    return spans.Dialect(table.name, moment=str, drawn=_DRAWN)


def _text(moment: datetime.datetime) -> str:
    """Return a moment as it stands in the file: in UTC such texts sort as the moments do."""
    return str(pd.Timestamp(moment).tz_convert("UTC").isoformat())


def _encode(table: Table, column: str, rows: pd.DataFrame) -> list[Any]:
    values = checked_values(table, column, rows)
    if isinstance(values, list):
        return values
    # One moment for many rows is the rule, and its text is dear.
    codes, moments = pd.factorize(values)
    texts = [moment.isoformat() for moment in moments]
    return [texts[code] for code in codes]
