"""What rows of a table may hold: the checks before they are written, the kinds when they are read."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from rowmill.errors import IntegrityError, NotFoundError, ParameterError, SourceError
from rowmill.tables import Table

_PYTHON = {"STRING": str, "JSON": str, "INT64": int, "FLOAT64": float, "BYTES": bytes}
ARROW = {
    "STRING": pa.string(),
    "JSON": pa.string(),
    "INT64": pa.int64(),
    "FLOAT64": pa.float64(),
    "BYTES": pa.binary(),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
}
BINARY = pd.ArrowDtype(pa.binary())


def as_binary(pixels: npt.NDArray[np.uint8]) -> pd.arrays.ArrowExtensionArray:
    """Return the bytes of each row as a column of kind BYTES that shares the array's memory.

    Args:
        pixels: (rows, bytes), contiguous.
    """
    rows = part_rows(pixels.shape[1], 5000)
    parts = [pixels[start : start + rows] for start in range(0, len(pixels), rows)]
    starts = [pa.py_buffer(np.arange(len(part) + 1, dtype=np.int32) * np.int32(pixels.shape[1])) for part in parts]
    arrays = [pa.Array.from_buffers(pa.binary(), len(p), [None, s, pa.py_buffer(p)]) for p, s in zip(parts, starts, strict=True)]
    return pd.arrays.ArrowExtensionArray(pa.chunked_array(arrays, pa.binary()))


def part_rows(row_bytes: int, most: int) -> int:
    """Return how many rows of so many bytes to handle at a time: Arrow's columns of bytes end at 2 GiB."""
    return max(1, min(most, 2**30 // max(1, row_bytes)))


def take(found: pa.Table, places: Sequence[int] | npt.NDArray[np.int64]) -> pa.Table:
    """Return rows by their places; Arrow's own `take` fails where a column of bytes has more than 2 GiB."""
    wide = [field.with_type(pa.large_binary()) if pa.types.is_binary(field.type) else field for field in found.schema]
    return found.cast(pa.schema(wide)).take(pa.array(places))


def bytes_of(chunk: pa.Array, size: int) -> npt.NDArray[np.uint8]:
    """Return a chunk of a column of kind BYTES as an array that shares its memory, (rows, size).

    Raises:
        IntegrityError: A value has not that size.
    """
    _, starts, data = chunk.buffers()
    kind = np.int64 if pa.types.is_large_binary(chunk.type) else np.int32
    places = np.frombuffer(starts, kind)[chunk.offset : chunk.offset + len(chunk) + 1] if len(chunk) else np.zeros(1, kind)
    if chunk.null_count or (np.diff(places) != size).any():
        found = chunk.null_count or int((np.diff(places) != size).sum())
        raise IntegrityError(f"Each stored image must have {size} bytes", found=f"{found} that have not", step="ingest their source again")
    return np.frombuffer(data or b"", np.uint8)[places[0] : places[-1]].reshape(len(chunk), size)


def check_columns(table: Table, rows: pd.DataFrame) -> None:
    """Raise unless the rows have the table's columns, in any order.

    Raises:
        SourceError: They do not.
    """
    differing = set(rows.columns) ^ set(table.columns)
    if differing:
        raise SourceError(
            f"Rows for table {table.name} do not have its columns",
            found=f"a difference in {', '.join(sorted(map(str, differing)))}",
            step=f"give exactly {', '.join(table.columns)}",
        )


def checked_values(table: Table, column: str, rows: pd.DataFrame) -> list[Any] | pd.Series:
    """Return a column's values as a list; timestamps as a series in UTC.

    Raises:
        SourceError: A value is of another kind.
    """
    kind = table.columns[column]
    if kind == "TIMESTAMP":
        return pd.to_datetime(rows[column], utc=True)
    values = rows[column].tolist()
    wrong = {found for found in set(map(type, values)) if not issubclass(found, _PYTHON[kind])}
    if wrong:
        value = next(value for value in values if type(value) in wrong)
        raise SourceError(f"Column {column} of table {table.name} holds {kind} values", found=f"{value!r}", step="convert it first")
    return values


def wanted_columns(table: Table, where: Mapping[str, Any] | None, columns: Sequence[str]) -> list[str]:
    """Return the columns to read, all when none is named.

    Raises:
        NotFoundError: The table has no such column.
    """
    wanted = list(columns or table.columns)
    for name in (*wanted, *(where or {})):
        if name not in table.columns:
            raise NotFoundError(f"Table {table.name} has no column {name!r}", step=f"use one of {', '.join(table.columns)}")
    return wanted


def check_forgettable(table: Table, where: Mapping[str, Any]) -> None:
    """Raise unless rows of the table may leave it and it is said which.

    Raises:
        ParameterError: They may not, or it is not said.
        NotFoundError: The table has no such column.
    """
    if not table.age or not where:
        raise ParameterError(f"Rows of table {table.name} stay", step="append rows that are true from now on")
    wanted_columns(table, where, ())


def as_kinds(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with its columns in the dtypes of their kinds: int64, float64, UTC timestamps, else object."""
    return frame.assign(**{str(name): _as_kind(frame[name], table.columns[str(name)]) for name in frame.columns})


def as_arrow(table: Table, columns: Sequence[str], rows: Iterable[Sequence[Sequence[Any]]] = ()) -> pa.Table:
    """Return rows as an Arrow table.

    Args:
        table: The rows' table.
        columns: Which of its columns they have, in this order.
        rows: The rows in parts, each a sequence of rows.
    """
    schema = pa.schema([(name, ARROW[table.columns[name]]) for name in columns])
    batches = [
        pa.record_batch([pa.array(v).cast(f.type) for v, f in zip(zip(*part, strict=True), schema, strict=True)], schema) for part in rows
    ]
    return pa.Table.from_batches(batches, schema)


def _as_kind(values: pd.Series, kind: str) -> pd.Series:
    match kind:
        case "TIMESTAMP":
            return pd.to_datetime(values, utc=True, format="ISO8601").dt.as_unit("us")
        case "INT64":
            return values.astype("int64")
        case "FLOAT64":
            return values.astype("float64")
        case _:
            return values.astype(object)
