"""The one narrow interface to where rows live: append and read."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa

from rowmill.data.sqlite import SqliteWarehouse
from rowmill.settings import Settings
from rowmill.tables import Span, Table


class Warehouse(Protocol):
    """Append-only tables; the latest row per id is the truth, and no row is ever changed. Only tables with an age forget rows."""

    @property
    def cache(self) -> Path | None:
        """The folder for images that were read, where reading them again costs more than a file; else None."""

    def append(self, table: Table, rows: pd.DataFrame) -> None:
        """Add rows, all or none; readers see them only when all are there.

        Args:
            table: The table, made when it is not there yet.
            rows: The table's columns, in any order. Values match the column kinds: str, int, float, `bytes`, UTC timestamps.

        Raises:
            SourceError: A column is missing, unknown, or holds a value of another kind.
            WarehouseError: The warehouse refuses, or cannot be reached.
        """

    def read(self, table: Table, where: Mapping[str, Any] | None = None, columns: Sequence[str] = ()) -> pd.DataFrame:
        """Return the matching rows in the order they were appended; a table nobody wrote yet is empty.

        Args:
            table: The table.
            where: Column name to the value it must equal.
            columns: The columns wanted; all when empty.

        Raises:
            NotFoundError: The table has no such column.
            WarehouseError: The warehouse refuses, or cannot be reached; never an empty frame.
        """

    def scan(self, table: Table, where: Mapping[str, Sequence[str]] | None = None, columns: Sequence[str] = ()) -> pa.Table:
        """Return the matching rows as `read` does, yet as an Arrow table and by the shortest way: for images.

        Args:
            table: The table.
            where: Column of texts to the values of which it must have one.
            columns: As in `read`.

        Raises:
            NotFoundError: The table has no such column.
            WarehouseError: The warehouse refuses, or cannot be reached.
        """

    def forget(self, table: Table, where: Mapping[str, Any], before: datetime.datetime | None = None) -> int:
        """Remove rows for good, all or none, and return how many there were.

        Args:
            table: A table with an age.
            where: Column name to the value it must equal; at least one.
            before: The age that they must be beyond, too.

        Raises:
            ParameterError: Rows of this table never leave, or no column is given.
            NotFoundError: The table has no such column.
            WarehouseError: The warehouse refuses, or cannot be reached.
        """

    def count(self, table: Table, span: Span, by: Sequence[str], step: str) -> pd.DataFrame:
        """Count rows by their age and by columns, where they lie.

        Args:
            table: A table with an age.
            span: Which rows.
            by: Columns of texts and whole numbers.
            step: `minute`, `hour` or `day`, of UTC.

        Returns:
            Columns at (the step's start), those of `by`, and rows; by age. Steps without rows are left out.

        Raises:
            NotFoundError: The table has no such column.
            WarehouseError: The warehouse refuses, or cannot be reached.
        """

    def draw(self, table: Table, span: Span, columns: Sequence[str], share: float) -> pd.DataFrame:
        """Return a share of rows that chance has drawn, spread evenly, by age; the same ones each time.

        Args:
            table: A table with an age.
            span: Of which rows.
            columns: The columns wanted; all when empty.
            share: Above 0, to 1 for all.

        Raises:
            NotFoundError: The table has no such column.
            WarehouseError: The warehouse refuses, or cannot be reached.
        """


def connect(settings: Settings) -> Warehouse:
    """Open the project's warehouse; nothing is asked of it yet."""
    if settings.warehouse_kind == "bigquery":
        # Imported when used: pandas-gbq and Google's client take two seconds.
        from rowmill.data.bigquery import BigqueryWarehouse  # pylint: disable=import-outside-toplevel
        from rowmill.data.client import Access  # pylint: disable=import-outside-toplevel

        limit, emulator = settings.warehouse_maximum_bytes_billed, settings.warehouse_emulator
        access = Access(settings.warehouse_project, settings.warehouse_location, limit, emulator)
        return BigqueryWarehouse(access, settings.warehouse_dataset, settings.state / "cache")
    return SqliteWarehouse(settings.state / "warehouse.sqlite")
