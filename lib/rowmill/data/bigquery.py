"""The warehouse on Google: tables of one BigQuery data set, written and read by pandas-gbq."""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandas_gbq
import pyarrow as pa
from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from rowmill.data import refusals, spans
from rowmill.data.client import Access
from rowmill.data.rows import BINARY, as_arrow, as_kinds, check_columns, check_forgettable, checked_values, take, wanted_columns
from rowmill.errors import SettingsError, WarehouseError
from rowmill.records import now
from rowmill.tables import EXAMPLES, PREDICTIONS, SCORES, Span, Table

_TYPES = {"JSON": "STRING"}
_LEGACY = {"INTEGER": "INT64", "FLOAT": "FLOAT64"}
# BigQuery keeps no order, and what is read is the rows as they were appended: each append stamps its rows with the writer's
# clock and their number. Machines that append to one table at once are as far apart as their clocks are.
_ORDER = {"appended_at": "TIMESTAMP", "appended_row": "INT64"}
# The day by which a large table is laid apart and the columns it is kept together by: reading an ingest does not scan all.
_LAYOUT = {
    EXAMPLES.name: ("ingested_at", ["ingest_id", "split"]),
    PREDICTIONS.name: ("answered_at", ["service", "log"]),
    SCORES.name: ("scored_at", ["batch_id"]),
}


class BigqueryWarehouse:
    """A `Warehouse` in one data set.

    Attributes:
        access: The way there; its project holds the data set, which lies in its location.
        dataset: The data set; made by the first append when it is not there.
        cache: The folder of images that were read before: reading them again would be billed again.
    """

    def __init__(self, access: Access, dataset: str, cache: Path) -> None:
        self.access = access
        self.dataset = dataset
        self.cache: Path | None = cache
        self._known: set[str] = set()

    def append(self, table: Table, rows: pd.DataFrame) -> None:
        """Add rows by one load job, which is atomic; see `Warehouse.append`."""
        check_columns(table, rows)
        values = {name: _column(table, name, rows) for name in table.columns}
        stamped = pd.DataFrame({**values, "appended_at": now(), "appended_row": range(len(rows))})
        with refusals.told(self._asked(table)):
            if not self._has(table):
                self._create(table)
            pandas_gbq.to_gbq(
                stamped,
                self._name(table),
                if_exists="append",
                api_method="load_parquet",
                table_schema=[field.to_api_repr() for field in _schema(table)],
                progress_bar=False,
                **self.access.way,
            )

    def read(self, table: Table, where: Mapping[str, Any] | None = None, columns: Sequence[str] = ()) -> pd.DataFrame:
        """Return the matching rows; see `Warehouse.read`."""
        wanted = wanted_columns(table, where, columns)
        condition = " AND ".join(f"`{name}` = @{name}" for name in where or {}) or "TRUE"
        query = f"SELECT {', '.join(f'`{name}`' for name in (*wanted, *_ORDER))} FROM `{self._name(table)}` WHERE {condition}"
        with refusals.told(self._asked(table)):
            if not self._has(table):
                return as_kinds(table, pd.DataFrame(columns=wanted, dtype=object))
            parameters = _parameters(table, where or {})
            if "BYTES" in map(table.columns.get, wanted):
                which = f"{split} images" if (split := (where or {}).get("split")) else "images"
                self.access.announce(
                    f"the {which} in {self._name(table)}", self.access.dry_run(query, parameters).total_bytes_processed or 0
                )
            found = self.access.read(query, parameters)
        # Sorted here: sorted by BigQuery, a result comes in one stream instead of several.
        return as_kinds(table, found.sort_values(list(_ORDER), ignore_index=True)[wanted])

    def scan(self, table: Table, where: Mapping[str, Sequence[str]] | None = None, columns: Sequence[str] = ()) -> pa.Table:
        """Return the matching rows by the Storage API, without a query; see `Warehouse.scan`."""
        wanted = wanted_columns(table, where, columns)
        restriction = " AND ".join(f"`{name}` IN ({_literals(values)})" for name, values in (where or {}).items())
        which = f"the {' and '.join((where or {}).get('split', ()))} images in {self._name(table)}".replace("  ", " ")
        with refusals.told(self._asked(table)):
            if not self._has(table):
                return as_arrow(table, wanted)
            found = self.access.download(which, self._name(table), (*wanted, *_ORDER), restriction)
        order = np.lexsort([found[name].to_numpy() for name in reversed(_ORDER)])
        # Most answers are in order already; to sort images is to copy them.
        return (take(found, order) if (np.diff(order) < 0).any() else found).select(wanted)

    def forget(self, table: Table, where: Mapping[str, Any], before: datetime.datetime | None = None) -> int:
        """Remove rows by one statement; see `Warehouse.forget`. BigQuery's time travel has them for up to a week more."""
        check_forgettable(table, where)
        aged = [bigquery.ScalarQueryParameter("before", "TIMESTAMP", before)] if before else []
        conditions = [*(f"`{name}` = @{name}" for name in where), *([f"`{table.age}` < @before"] if aged else [])]
        with refusals.told(self._asked(table)):
            if not self._has(table):
                return 0
            command = f"DELETE FROM `{self._name(table)}` WHERE {' AND '.join(conditions)}"
            return self.access.change(command, [*_parameters(table, where), *aged])

    def count(self, table: Table, span: Span, by: Sequence[str], step: str) -> pd.DataFrame:
        """Count rows by their age; see `Warehouse.count`."""
        return spans.counted(self._ask(table, spans.count(table, span, by, step, self._dialect(table))), table, by)

    def draw(self, table: Table, span: Span, columns: Sequence[str], share: float) -> pd.DataFrame:
        """Return a share of rows; see `Warehouse.draw`."""
        return spans.drawn(self._ask(table, spans.draw(table, span, columns, share, self._dialect(table))), table, columns)

    def _ask(self, table: Table, query: spans.Query) -> pd.DataFrame:
        with refusals.told(self._asked(table)):
            return self.access.ask(query) if self._has(table) else pd.DataFrame()

    def _dialect(self, table: Table) -> spans.Dialect:
        return spans.google(f"`{self._name(table)}`", "CONCAT(CAST(appended_at AS STRING), ' ', CAST(appended_row AS STRING))")

    def _asked(self, table: Table) -> refusals.Asked:
        role = f"BigQuery Data Editor on data set {self.dataset}"
        return refusals.Asked(self._name(table), self.access.project, self.access.location, role)

    def _name(self, table: Table) -> str:
        return f"{self.access.project}.{self.dataset}.{table.name}"

    def _has(self, table: Table) -> bool:
        """Say whether the table is there, looking once; raise if it is another one than the schema says."""
        if table.name in self._known:
            return True
        if not self._has_dataset():
            return False
        try:
            found = self.access.client.get_table(self._name(table))
        except NotFound:
            return False
        kinds = {field.name: _LEGACY.get(field.field_type, field.field_type) for field in found.schema}
        expected = {field.name: field.field_type for field in _schema(table)}
        if kinds != expected:
            differing = sorted({name for name, _ in kinds.items() ^ expected.items()})
            raise WarehouseError(
                f"BigQuery's table {self._name(table)} has other columns than rowmill's",
                found=f"a difference in {', '.join(differing)}",
                step="set warehouse.dataset in rowmill.toml to one for rowmill alone",
            )
        self._known.add(table.name)
        return True

    def _has_dataset(self) -> bool:
        name = f"{self.access.project}.{self.dataset}"
        try:
            found = self.access.client.get_dataset(name)
        except NotFound as error:
            # That the project is missing is no answer to this question.
            if "dataset" not in refusals.message(error).lower():
                raise
            return False
        if found.location.lower() != self.access.location.lower():
            raise SettingsError(
                f"Data set {name} does not lie in warehouse.location = {self.access.location!r}",
                found=repr(found.location),
                step=f"set location = {found.location!r} in rowmill.toml, or warehouse.dataset to another data set",
            )
        return True

    def _create(self, table: Table) -> None:
        if not self._has_dataset():
            made = bigquery.Dataset(f"{self.access.project}.{self.dataset}")
            made.location = self.access.location
            self.access.client.create_dataset(made, exists_ok=True)
        blank = bigquery.Table(self._name(table), _schema(table))
        if table.name in _LAYOUT:
            day, together = _LAYOUT[table.name]
            blank.time_partitioning = bigquery.TimePartitioning(field=day)
            blank.clustering_fields = together
        self.access.client.create_table(blank, exists_ok=True)
        self._known.add(table.name)


def _schema(table: Table) -> list[bigquery.SchemaField]:
    return [bigquery.SchemaField(name, _TYPES.get(kind, kind)) for name, kind in {**table.columns, **_ORDER}.items()]


def _column(table: Table, name: str, rows: pd.DataFrame) -> Any:
    """Return a column that was checked, without a copy: as lists of objects, images are in memory twice more."""
    if rows[name].dtype == BINARY:
        return rows[name].array
    values = checked_values(table, name, rows)
    return rows[name].array if isinstance(values, list) else values.array


def _literals(values: Sequence[str]) -> str:
    """Return texts as GoogleSQL writes them, which is as JSON does; a read session takes no parameters."""
    return ", ".join(json.dumps(value, ensure_ascii=False) for value in values)


def _parameters(table: Table, where: Mapping[str, Any]) -> list[bigquery.ScalarQueryParameter]:
    return [bigquery.ScalarQueryParameter(n, _TYPES.get(table.columns[n], table.columns[n]), v) for n, v in where.items()]
