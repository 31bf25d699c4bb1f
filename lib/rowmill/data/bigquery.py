"""The warehouse on Google: tables of one BigQuery data set, written and read by pandas-gbq."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import grpc
import pandas as pd
import pandas_gbq
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryReadClient
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

from rowmill.data import refusals
from rowmill.data.rows import as_kinds, check_columns, checked_values, wanted_columns
from rowmill.errors import SettingsError, WarehouseError
from rowmill.records import now
from rowmill.tables import EXAMPLES, Table

_TYPES = {"JSON": "STRING"}
_LEGACY = {"INTEGER": "INT64", "FLOAT": "FLOAT64"}
# BigQuery keeps no order, and what is read is the rows as they were appended: each append stamps its rows with the writer's
# clock and their number. Machines that append to one table at once are as far apart as their clocks are.
_ORDER = {"appended_at": "TIMESTAMP", "appended_row": "INT64"}
# The day by which a large table is laid apart and the columns it is kept together by: reading an ingest does not scan all.
_LAYOUT = {EXAMPLES.name: ("ingested_at", ["ingest_id", "split"])}

# Google's client tries for ten minutes by itself; who has no network is told sooner.
_PATIENCE: dict[str, Any] = {"retry": bigquery.DEFAULT_RETRY.with_timeout(30), "timeout": 30}


class BigqueryWarehouse:
    """A `Warehouse` in one data set, by application-default credentials.

    Attributes:
        project: The project that holds the data set and pays for loads and queries.
        dataset: The data set; made by the first append when it is not there.
        location: Where it lies, such as `EU`.
        emulator: Address of an emulator in Google's place, whose Storage API listens one port further; empty for Google.
    """

    def __init__(self, project: str, dataset: str, location: str, *, emulator: str = "") -> None:
        self.project = project
        self.dataset = dataset
        self.location = location
        self.emulator = emulator
        self._known: set[str] = set()

    def append(self, table: Table, rows: pd.DataFrame) -> None:
        """Add rows by one load job, which is atomic; see `Warehouse.append`."""
        check_columns(table, rows)
        values = {name: checked_values(table, name, rows) for name in table.columns}
        stamped = pd.DataFrame({**values, "appended_at": now(), "appended_row": range(len(rows))})
        with refusals.told(self._name(table), self.location):
            if not self._has(table):
                self._create(table)
            pandas_gbq.to_gbq(
                stamped,
                self._name(table),
                if_exists="append",
                api_method="load_parquet",
                table_schema=[field.to_api_repr() for field in _schema(table)],
                progress_bar=False,
                **self._way,
            )

    def read(self, table: Table, where: Mapping[str, Any] | None = None, columns: Sequence[str] = ()) -> pd.DataFrame:
        """Return the matching rows; see `Warehouse.read`."""
        wanted = wanted_columns(table, where, columns)
        condition = " AND ".join(f"`{name}` = @{name}" for name in where or {}) or "TRUE"
        query = f"SELECT {', '.join(f'`{name}`' for name in (*wanted, *_ORDER))} FROM `{self._name(table)}` WHERE {condition}"
        with refusals.told(self._name(table), self.location):
            if not self._has(table):
                return as_kinds(table, pd.DataFrame(columns=wanted, dtype=object))
            found = pandas_gbq.read_gbq(
                query, configuration=_parameters(table, where or {}), use_bqstorage_api=True, progress_bar_type=None, **self._way
            )
        # Sorted here: sorted by BigQuery, a result comes in one stream instead of several.
        return as_kinds(table, found.sort_values(list(_ORDER), ignore_index=True)[wanted])

    def _name(self, table: Table) -> str:
        return f"{self.project}.{self.dataset}.{table.name}"

    @property
    def _way(self) -> dict[str, Any]:
        return {"project_id": self.project, "location": self.location, "bigquery_client": self._client}

    @functools.cached_property
    def _client(self) -> bigquery.Client:
        if self.emulator:
            return _EmulatorClient(self.project, AnonymousCredentials(), location=self.location)
        return bigquery.Client(self.project, location=self.location)

    def _has(self, table: Table) -> bool:
        """Say whether the table is there, looking once; raise if it is another one than the schema says."""
        if table.name in self._known:
            return True
        if not self._has_dataset():
            return False
        try:
            found = self._client.get_table(self._name(table), **_PATIENCE)
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
        name = f"{self.project}.{self.dataset}"
        try:
            found = self._client.get_dataset(name, **_PATIENCE)
        except NotFound as error:
            # That the project is missing is no answer to this question.
            if "dataset" not in refusals.message(error).lower():
                raise
            return False
        if found.location.lower() != self.location.lower():
            raise SettingsError(
                f"Data set {name} does not lie in warehouse.location = {self.location!r}",
                found=repr(found.location),
                step=f"set location = {found.location!r} in rowmill.toml, or warehouse.dataset to another data set",
            )
        return True

    def _create(self, table: Table) -> None:
        if not self._has_dataset():
            made = bigquery.Dataset(f"{self.project}.{self.dataset}")
            made.location = self.location
            self._client.create_dataset(made, exists_ok=True, **_PATIENCE)
        blank = bigquery.Table(self._name(table), _schema(table))
        if table.name in _LAYOUT:
            day, together = _LAYOUT[table.name]
            blank.time_partitioning = bigquery.TimePartitioning(field=day)
            blank.clustering_fields = together
        self._client.create_table(blank, exists_ok=True, **_PATIENCE)
        self._known.add(table.name)


class _EmulatorClient(bigquery.Client):
    """A client whose Storage API is the emulator's, one port further; the REST address is Google's own variable."""

    def _ensure_bqstorage_client(self, *_: Any, **__: Any) -> BigQueryReadClient:
        # A new channel each time: whoever asks for it closes it.
        address = urlsplit(str(self._connection.API_BASE_URL))
        channel = grpc.insecure_channel(f"{address.hostname}:{(address.port or 0) + 1}")
        return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))


def _schema(table: Table) -> list[bigquery.SchemaField]:
    return [bigquery.SchemaField(name, _TYPES.get(kind, kind)) for name, kind in {**table.columns, **_ORDER}.items()]


def _parameters(table: Table, where: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query's configuration: values go beside the SQL, never into it."""
    parameters = [bigquery.ScalarQueryParameter(n, _TYPES.get(table.columns[n], table.columns[n]), v) for n, v in where.items()]
    return bigquery.QueryJobConfig(query_parameters=parameters, use_legacy_sql=False).to_api_repr()
