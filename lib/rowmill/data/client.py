"""Google's client for BigQuery: who asks, what a query would read, how much it may read, and its rows."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pandas_gbq
import pyarrow as pa
from google.cloud import bigquery

from rowmill.data import refusals
from rowmill.data.patience import PatientClient
from rowmill.data.spans import Query


@dataclass(frozen=True)
class Access:
    """The way to BigQuery, by application-default credentials.

    Attributes:
        project: Pays for loads and queries.
        location: Where queries run, such as `EU`; where their tables lie when empty.
        maximum_bytes: The most that one query may be billed.
        emulator: Address of an emulator in Google's place, whose Storage API listens one port further; empty for Google.
        patience_seconds: How long one request may take with all its repetitions.
    """

    project: str
    location: str
    maximum_bytes: int
    emulator: str = ""
    patience_seconds: float = 30.0

    @functools.cached_property
    def client(self) -> PatientClient:
        """Google's client; nothing is asked of it yet."""
        return PatientClient(self.project, self.location or None, emulator=self.emulator, patience_seconds=self.patience_seconds)

    @property
    def way(self) -> dict[str, Any]:
        """The arguments by which pandas-gbq goes this way."""
        return {"project_id": self.project, "location": self.location or None, "bigquery_client": self.client}

    def read(self, query: str, parameters: Sequence[bigquery.ScalarQueryParameter] = ()) -> pd.DataFrame:
        """Return a query's rows, in no order.

        Args:
            query: In GoogleSQL.
            parameters: Values go beside the query, never into it.
        """
        config = bigquery.QueryJobConfig(query_parameters=parameters, use_legacy_sql=False, maximum_bytes_billed=self.maximum_bytes)
        rows: pd.DataFrame = pandas_gbq.read_gbq(
            query, configuration=config.to_api_repr(), use_bqstorage_api=True, progress_bar_type=None, **self.way
        )
        return rows

    def ask(self, query: Query) -> pd.DataFrame:
        """Return the rows of a query that brings its values."""
        return self.read(query.text, [bigquery.ScalarQueryParameter(name, kind, value) for name, (value, kind) in query.values.items()])

    def change(self, command: str, parameters: Sequence[bigquery.ScalarQueryParameter]) -> int:
        """Run a statement that changes rows, and return how many."""
        config = bigquery.QueryJobConfig(query_parameters=parameters, use_legacy_sql=False, maximum_bytes_billed=self.maximum_bytes)
        job = self.client.query(command, config)
        job.result()
        return job.num_dml_affected_rows or 0

    def dry_run(self, query: str, parameters: Sequence[bigquery.ScalarQueryParameter] = ()) -> bigquery.QueryJob:
        """Return what BigQuery knows of a query without running it, its columns (`schema`) and bytes; this costs nothing."""
        config = bigquery.QueryJobConfig(query_parameters=parameters, use_legacy_sql=False, use_query_cache=False, dry_run=True)
        return self.client.query(query, config)

    def download(self, what: str, table: str, columns: Sequence[str], restriction: str) -> pa.Table:
        """Return rows of a table by the Storage API, without a query, in no order; what that reads is announced as a query's bytes are.

        Args:
            what: What is read, in words.
            table: `project.dataset.table`.
            columns: Their names.
            restriction: What the rows must fulfil, in GoogleSQL.
        """
        return self.client.download(table, columns, restriction, lambda wanted: self.announce(what, wanted))

    def announce(self, what: str, wanted: int) -> None:
        """Print how many bytes will be read.

        Args:
            what: What is read, in words.
            wanted: The bytes, as BigQuery says beforehand.

        Raises:
            WarehouseError: They are more than one query may be billed.
        """
        allowed = self.maximum_bytes
        if wanted > allowed:
            raise refusals.too_much(what, found=f"{wanted:,} bytes, and at most {allowed:,}")
        print(f"BigQuery reads up to {in_units(wanted)} for {what}; {in_units(allowed)} are allowed.", flush=True)


def in_units(count: int) -> str:
    """Return a number of bytes as BigQuery counts them, such as `54.9 MB`: 1 MB is 1,000,000 bytes."""
    value, names = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(names) > 1:
        value, names = value / 1000, names[1:]
    return f"{value:.3g} {names[0]}" if value < 1000 else f"{value:,.0f} {names[0]}"
