"""What rows of a table may hold: the checks before they are written, the kinds when they are read."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rowmill.errors import NotFoundError, SourceError
from rowmill.tables import Table

_PYTHON = {"STRING": str, "JSON": str, "INT64": int, "FLOAT64": float, "BYTES": bytes}


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


def checked_values(table: Table, column: str, rows: pd.DataFrame) -> list[Any]:
    """Return a column's values; timestamps as UTC `pandas.Timestamp`s.

    Raises:
        SourceError: A value is of another kind.
    """
    kind = table.columns[column]
    if kind == "TIMESTAMP":
        return list(pd.to_datetime(rows[column], utc=True))
    values = rows[column].tolist()
    for value in values:
        if not isinstance(value, _PYTHON[kind]):
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


def as_kinds(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with its columns in the dtypes of their kinds: int64, float64, UTC timestamps, else object."""
    return frame.assign(**{str(name): _as_kind(frame[name], table.columns[str(name)]) for name in frame.columns})


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
