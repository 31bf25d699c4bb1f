"""Google's client as rowmill and pandas-gbq use it: it gives up in time, and its Storage API is the emulator's where one is used."""

import functools
import math
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import grpc
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core.exceptions import RetryError, ServiceUnavailable
from google.api_core.retry import Retry, if_exception_type
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery import _pandas_helpers
from google.cloud.bigquery_storage_v1 import types
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport
from pandas_gbq.gbq_connector import GbqConnector

from rowmill.data import refusals
from rowmill.data.rows import ARROW, part_rows

# pandas-gbq makes a second client for each large answer, only to ask for its size; that one would try for ten minutes.
GbqConnector.get_client = lambda connector: connector.client

# The client looks five times a second whether a download has ended, and so waits for a fifth of a second after each.
_pandas_helpers._PROGRESS_INTERVAL = 0.01  # pylint: disable=protected-access

_STREAMS = 4
_PART_ROWS = 5000
# Of a large answer the first page comes as JSON, which costs more than the rest of it by the Storage API.
_FIRST_PAGE_ROWS = 1000


class PatientClient(bigquery.Client):
    """Google's client, which by itself tries for ten minutes and waits for one answer without an end.

    A query may take as long as it takes, for it is asked after again and again; each question has its end.

    Attributes:
        patience_seconds: How long one request may take, and how long it is tried again.
    """

    def __init__(self, project: str, location: str | None, *, emulator: str, patience_seconds: float) -> None:
        super().__init__(project, AnonymousCredentials() if emulator else None, location=location)
        self.patience_seconds = patience_seconds
        self._storage_address = f"{urlsplit(emulator).hostname}:{(urlsplit(emulator).port or 0) + 1}" if emulator else ""

    def load_table_from_dataframe(self, dataframe: pd.DataFrame, *args: Any, **how: Any) -> bigquery.LoadJob:
        """Upload rows as a Parquet file that is written in parts: the client's own way holds all rows three times more."""
        # Each attempt of an upload waits twice as long as the one before, from a second on.
        attempts = max(1, round(math.log2(self.patience_seconds)))
        schema = pa.schema([(field.name, ARROW[field.field_type]) for field in how["job_config"].schema])
        rows = part_rows(int(dataframe.memory_usage(index=False).sum()) // max(1, len(dataframe)), _PART_ROWS)
        with tempfile.TemporaryFile() as file:
            with pq.ParquetWriter(file, schema, use_dictionary=False) as writer:
                for start in range(0, len(dataframe), rows):
                    writer.write_table(pa.Table.from_pandas(dataframe.iloc[start : start + rows], schema, preserve_index=False))
            how |= {"num_retries": attempts, "timeout": self.patience_seconds, "size": file.tell(), "rewind": True}
            return self.load_table_from_file(file, *args, **how)

    def query_and_wait(self, query: str, **how: Any) -> Any:
        """Run a query; the first page of its answer is kept small."""
        return super().query_and_wait(query, **{**how, "page_size": _FIRST_PAGE_ROWS})

    def download(self, table: str, columns: Sequence[str], restriction: str, announce: Callable[[int], None]) -> pa.Table:
        """Return rows of a table by the Storage API, in no order.

        Args:
            table: `project.dataset.table`.
            columns: Their names.
            restriction: What the rows must fulfil, in GoogleSQL.
            announce: Is told the bytes that will be read before they are.

        Raises:
            GoogleAPIError: Google refuses, or does not answer in time.
        """
        options = types.ReadSession.TableReadOptions(selected_fields=columns, row_restriction=restriction)
        path = bigquery.TableReference.from_string(table).to_bqstorage()
        wanted = types.ReadSession(table=path, data_format=types.DataFormat.ARROW, read_options=options)
        with self._ensure_bqstorage_client() as reader:
            session = reader.create_read_session(
                parent=f"projects/{self.project}",
                read_session=wanted,
                max_stream_count=_STREAMS,
                retry=self._tries(),
                timeout=self.patience_seconds,
            )
            announce(session.estimated_total_bytes_scanned)
            schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
            with ThreadPoolExecutor(_STREAMS) as pool:
                parts = list(pool.map(lambda stream: _batches(reader.read_rows(stream.name), schema), session.streams))
            return pa.Table.from_batches(sum(parts, []), schema)

    def _call_api(self, retry: Retry | None, *args: Any, **how: Any) -> Any:
        """Ask once more where Google's client would, but not for longer than the patience lasts."""
        patient = (retry or bigquery.DEFAULT_RETRY).with_timeout(self.patience_seconds)
        timeout = min(how.get("timeout") or math.inf, self.patience_seconds)
        try:
            return super()._call_api(patient, *args, **{**how, "timeout": timeout})
        except RetryError as error:
            # Its callers take a RetryError for a reason to begin anew.
            raise refusals.GaveUp(f"no answer in {self.patience_seconds:g} seconds") from error

    def _ensure_bqstorage_client(self, *args: Any, **how: Any) -> Any:
        transport = functools.partial(BigQueryReadGrpcTransport, channel=self._channel)
        reader: Any = super()._ensure_bqstorage_client(*args, **{**how, "transport": transport})
        # By itself it tries for a day.
        reader.read_rows = functools.partial(reader.read_rows, retry=self._tries())
        return reader

    def _channel(self, host: str, *, options: Sequence[tuple[str, int]], **how: Any) -> grpc.Channel:
        """Return a new channel each time: whoever asks for one closes it."""
        # A network that is gone without a word is found by gRPC's own pings; Google's Bigtable client sends one in 30 s, too.
        patience = round(1000 * self.patience_seconds)
        times = {"keepalive_time": patience, "keepalive_timeout": patience // 3, "http2.ping_timeout": patience // 3}
        times |= {"min_reconnect_backoff": patience}
        kept_alive = [*options, *((f"grpc.{name}_ms", value) for name, value in times.items())]
        if self._storage_address:
            return grpc.insecure_channel(self._storage_address, kept_alive)
        return BigQueryReadGrpcTransport.create_channel(host, options=kept_alive, **how)

    def _tries(self) -> Retry:
        return Retry(predicate=if_exception_type(ServiceUnavailable), timeout=self.patience_seconds)


def _batches(messages: Any, schema: pa.Schema) -> list[pa.RecordBatch]:
    return [pa.ipc.read_record_batch(pa.py_buffer(message.arrow_record_batch.serialized_record_batch), schema) for message in messages]
