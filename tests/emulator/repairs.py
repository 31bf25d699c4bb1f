"""What bqemulator 1.4.0 does otherwise than BigQuery and real pandas-gbq meets, each mended by one function.

Each name in `ALL` has its test in `test_repairs.py`. To see whether a newer emulator still needs one, leave it out:
`EMULATOR_WITHOUT=NAME pytest tests/emulator`.
"""

import re
import sys
from collections.abc import Callable
from typing import Any

import bqemulator.server  # noqa: F401  # pylint: disable=unused-import  # loads all modules that are mended here
import pyarrow as pa
from bqemulator.api.routes import jobs as routes
from bqemulator.api.routes import upload
from bqemulator.grpc_api import read_servicer
from bqemulator.jobs import executor
from bqemulator.storage.engine import DuckDBEngine
from bqemulator.streaming import read_session

KEPT_RESULTS = 4
MESSAGE_BYTES = 2 * 2**20


class Bounded(dict):
    """A dict that forgets its oldest entries."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        while len(self) > KEPT_RESULTS:
            del self[next(iter(self))]


def no_download_at_start() -> None:
    """The start downloads DuckDB's extension for geography, and fails without a network."""
    DuckDBEngine._load_spatial = lambda _: None


def small_uploads() -> None:
    """Google's client sends files under 5 MB as `*/*`, which is answered 400."""
    upload._PERMITTED_MEDIA_CONTENT_TYPES += ("*/*",)


def parquet_by_name() -> None:
    """Parquet is loaded by the columns' places: columns in another order are swapped without a word."""

    def load(path: str, target: str, context: Any) -> None:
        context.engine.execute(f"INSERT INTO {target} BY NAME SELECT * FROM read_parquet(?)", [path])

    executor._LOAD_FORMAT_HANDLERS["PARQUET"] = load


def csv_without_header() -> None:
    """CSV loses its first row, taken for a header whatever `skipLeadingRows` says; pandas-gbq writes none."""

    def load(path: str, target: str, context: Any) -> None:
        context.engine.execute(f"COPY {target} FROM ? (FORMAT CSV, HEADER false)", [path])

    executor._LOAD_FORMAT_HANDLERS["CSV"] = load


def replace_takes_the_new_schema() -> None:
    """Replacing a table's rows keeps its old columns."""
    apply = executor._apply_load_write_disposition

    def renew(job: Any, context: Any) -> None:
        fields = (job.raw_config.get("schema") or {}).get("fields")
        known = context.catalog.get_table(job.project_id, job.dataset_id, job.table_id)
        if job.write_disposition != "WRITE_TRUNCATE" or not fields or known is None:
            apply(job, context)
            return
        context.engine.execute(f"DROP TABLE {job.target_ref}")
        schema = executor._build_explicit_schema(context, job.target_ref, fields)
        context.catalog.update_table(known.model_copy(update={"schema_": schema}))

    executor._apply_load_write_disposition = renew


def replace_is_atomic() -> None:
    """Replacing deletes first and loads then: a file that cannot be loaded costs the old rows."""
    apply, load = executor._apply_load_write_disposition, executor._load_path_into_target

    def apply_unless_replaced(job: Any, context: Any) -> None:
        if job.write_disposition != "WRITE_TRUNCATE":
            apply(job, context)

    def load_at_once(path: str, job: Any, context: Any) -> None:
        if job.write_disposition != "WRITE_TRUNCATE":
            load(path, job, context)
            return
        context.engine.execute("BEGIN TRANSACTION")
        try:
            apply(job, context)
            load(path, job, context)
            context.engine.execute("COMMIT")
        except BaseException:
            context.engine.execute("ROLLBACK")
            raise

    executor._apply_load_write_disposition = apply_unless_replaced
    executor._load_path_into_target = load_at_once


def failed_queries_fail() -> None:
    """A failed query answers 200 with no rows, and `read_gbq` makes an empty frame of it."""
    describe = routes._failed_job_meta

    def describe_or_raise(**facts: Any) -> Any:
        # Such an id is minted for the synchronous call alone; jobs that are polled are right to answer 200.
        if facts["job_id"].startswith("bqemu_") and (error := sys.exc_info()[1]):
            raise error
        return describe(**facts)

    routes._failed_job_meta = describe_or_raise


def wide_rows_in_small_messages() -> None:
    """The Storage API sends up to 65,536 rows as one message, above what gRPC takes when rows are images."""
    whole = read_session.get_stream_data

    def in_small_batches(session: str, stream: str) -> pa.Table | None:
        table = whole(session, stream)
        if not table:
            return table
        rows = max(1, MESSAGE_BYTES * len(table) // max(1, table.nbytes))
        return pa.Table.from_batches(table.to_batches(max_chunksize=rows), schema=table.schema)

    read_session.get_stream_data = read_servicer.get_stream_data = in_small_batches


def storage_reads_results() -> None:
    """The Storage API does not find a query's result, which lies in no table."""
    fetch = DuckDBEngine.fetch_arrow

    def fetch_or_find(engine: DuckDBEngine, sql: str, parameters: list[Any] | None = None) -> pa.Table:
        named = re.search(r'"[^"]+"\."anon(\w+)"', sql)
        found = next((table for job, table in executor.JOB_RESULTS.items() if named and job.replace("-", "") == named[1]), None)
        if named is None or found is None:
            return fetch(engine, sql, parameters)
        engine.connection.register(f"result_{named[1]}", found)
        try:
            return fetch(engine, sql.replace(named[0], f"result_{named[1]}"), parameters)
        finally:
            engine.connection.unregister(f"result_{named[1]}")

    DuckDBEngine.fetch_arrow = fetch_or_find


def results_are_forgotten() -> None:
    """Each query's result is kept in memory for ever, and so is each Storage session's."""
    executor.JOB_RESULTS = routes.JOB_RESULTS = Bounded()
    read_session._SESSIONS = Bounded()


# In this order: the atomic replacement wraps the one that takes the new schema.
ALL: tuple[Callable[[], None], ...] = (
    no_download_at_start,
    small_uploads,
    parquet_by_name,
    csv_without_header,
    replace_takes_the_new_schema,
    replace_is_atomic,
    failed_queries_fail,
    wide_rows_in_small_messages,
    storage_reads_results,
    results_are_forgotten,
)
