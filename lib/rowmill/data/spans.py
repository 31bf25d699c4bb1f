"""Questions about rows in time, in the SQL that SQLite and BigQuery share; what differs is in a dialect."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rowmill.data.rows import as_kinds, wanted_columns
from rowmill.errors import ParameterError
from rowmill.tables import Span, Table

ALL = 2**32  # a draw's numbers lie below
_DIGITS = {"minute": 16, "hour": 13, "day": 10}  # of 2026-11-21T18:00


@dataclass(frozen=True)
class Dialect:
    """How one place says it.

    Attributes:
        name: The table as the query names it.
        moment: Returns the text, to the minute, of the age's column.
        drawn: A whole number from 0 to `ALL`, chance's own and always the same, of a row.
        counted: How rows are counted.
        column: Returns how a column is read.
        age: The column that rows are chosen by, where it is not the table's own.
    """

    name: str
    moment: Callable[[str], str]
    drawn: str
    counted: str = "COUNT(*)"
    column: Callable[[str], str] = "`{}`".format
    age: str = ""


def google(name: str, row: str) -> Dialect:
    """Return GoogleSQL's dialect.

    Args:
        name: The table.
        row: A text that no other row has, in GoogleSQL.
    """
    return Dialect(name, lambda column: f"FORMAT_TIMESTAMP('%Y-%m-%dT%H:%M', {column})", f"(FARM_FINGERPRINT({row}) & {ALL - 1})")


@dataclass(frozen=True)
class Query:
    """A query with its values, name to value and kind."""

    text: str
    values: Mapping[str, tuple[Any, str]]


def count(table: Table, span: Span, by: Sequence[str], step: str, dialect: Dialect) -> Query:
    """Return the query of `Warehouse.count`."""
    if step not in _DIGITS:
        raise ParameterError("Rows are counted by minute, hour or day", found=repr(step), step="give one of them")
    wanted_columns(table, dict.fromkeys(by, ""), ())
    moment = f"SUBSTR({dialect.moment(dialect.column(table.age))}, 1, {_DIGITS[step]})"
    groups = [f"{moment} AS step_", *(f"{dialect.column(name)} AS `{name}`" for name in by)]
    places = ", ".join(str(place) for place in range(1, len(groups) + 1))
    condition, values = _condition(table, span, dialect)
    return Query(f"SELECT {', '.join(groups)}, {dialect.counted} AS rows_ FROM {dialect.name} WHERE {condition} GROUP BY {places}", values)


def draw(table: Table, span: Span, columns: Sequence[str], share: float, dialect: Dialect) -> Query:
    """Return the query of `Warehouse.draw`, whose rows have no order."""
    condition, values = _condition(table, span, dialect)
    picked = ", ".join(f"{dialect.column(name)} AS `{name}`" for name in dict.fromkeys((*wanted_columns(table, None, columns), table.age)))
    if share < 1:
        condition += f" AND {dialect.drawn} < @span_share"
        values |= {"span_share": (round(share * ALL), "INT64")}
    return Query(f"SELECT {picked} FROM {dialect.name} WHERE {condition}", values)


def counted(found: pd.DataFrame, table: Table, by: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a query of `count` as `Warehouse.count` does."""
    if found.empty:
        found = pd.DataFrame(columns=["step_", *by, "rows_"], dtype=object)
    kinds = {name: "int64" if table.columns[name] == "INT64" else object for name in by}
    # A day alone, an hour without minutes: what is left out is midnight's.
    moments = pd.to_datetime([str(text) + "T00:00"[len(str(text)) - 10 :] for text in found["step_"]], utc=True, format="%Y-%m-%dT%H:%M")
    ordered = found.assign(at=moments.as_unit("us")).rename(columns={"rows_": "rows"}).astype({**kinds, "rows": "int64"})
    return ordered.sort_values(["at", *by], kind="stable", ignore_index=True)[["at", *by, "rows"]]


def drawn(found: pd.DataFrame, table: Table, columns: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a query of `draw` as `Warehouse.draw` does."""
    wanted = wanted_columns(table, None, columns)
    if found.empty:
        found = pd.DataFrame(columns=list(dict.fromkeys((*wanted, table.age))), dtype=object)
    return as_kinds(table, found).sort_values(table.age, kind="stable", ignore_index=True)[wanted]


def _condition(table: Table, span: Span, dialect: Dialect) -> tuple[str, dict[str, tuple[Any, str]]]:
    wanted_columns(table, dict(span.where) | dict(span.unlike), ())
    age = dialect.age or dialect.column(table.age)
    ends: dict[str, datetime.datetime | None] = {">=": span.since, "<": span.until}
    values: dict[str, tuple[Any, str]] = {}
    parts = []
    for number, (sign, moment) in enumerate(ends.items()):
        if moment is not None:
            parts.append(f"{age} {sign} @span_end{number}")
            values[f"span_end{number}"] = (moment, "TIMESTAMP")
    for name, value in span.where.items():
        parts.append(f"{dialect.column(name)} = @span_{name}")
        values[f"span_{name}"] = (value, table.columns[name])
    for name, start in span.unlike.items():
        parts.append(f"SUBSTR({dialect.column(name)}, 1, {len(start)}) <> @span_no_{name}")
        values[f"span_no_{name}"] = (start, "STRING")
    return " AND ".join(parts) or "1 = 1", values
