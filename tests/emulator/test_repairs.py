"""Real pandas-gbq meets what each repair mends: `EMULATOR_WITHOUT=NAME pytest tests/emulator` fails in the test of that name."""

import io
from collections.abc import Iterator

import pandas as pd
import pandas_gbq
import psutil
import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from rowmill.data import warehouse
from rowmill.data.bigquery import BigqueryWarehouse
from rowmill.settings import Settings

from tests.emulator import repairs
from tests.emulator.process import Emulator

KINDS = {"name": "STRING", "town": "STRING"}
ROWS = pd.DataFrame({"name": ["a", "b"], "town": ["A", "B"]})
MANY = 40_000  # a first answer holds 10,000 rows; of so many the client reads the rest by the Storage API


class Store:
    """One table, by pandas-gbq."""

    def __init__(self, settings: Settings) -> None:
        opened = warehouse.connect(settings)
        assert isinstance(opened, BigqueryWarehouse)
        self.client, self.way = opened.access.client, opened.access.way
        # Rowmill's own client would hide what plain pandas-gbq meets when it writes.
        self.plain = {**self.way, "bigquery_client": bigquery.Client(self.client.project, AnonymousCredentials())}
        self.name = f"{settings.warehouse_dataset}.people"
        self.client.create_dataset(settings.warehouse_dataset)

    def write(self, rows: pd.DataFrame, kinds: dict[str, str], **how: str) -> None:
        """Make the table if it is not there, and write rows."""
        schema = [bigquery.SchemaField(name, kind) for name, kind in kinds.items()]
        self.client.create_table(bigquery.Table(f"{self.client.project}.{self.name}", schema), exists_ok=True)
        fields = [field.to_api_repr() for field in schema]
        pandas_gbq.to_gbq(rows, self.name, table_schema=fields, progress_bar=False, **{"if_exists": "append", **how}, **self.plain)

    def read(self, query: str = "", **how: bool) -> pd.DataFrame:
        """Return a query's answer, or the table's rows."""
        query = query or f"SELECT * FROM `{self.name}` ORDER BY 1"
        return pandas_gbq.read_gbq(query, progress_bar_type=None, **how, **self.way)


@pytest.fixture(name="store")
def fixture_store(on_bigquery: Settings) -> Iterator[Store]:
    """A data set of its own."""
    store = Store(on_bigquery)
    yield store
    store.client.close()
    store.plain["bigquery_client"].close()


def test_every_repair_has_its_test() -> None:
    assert all(f"test_{repair.__name__}" in globals() for repair in repairs.ALL)


def test_no_download_at_start(emulator: Emulator) -> None:
    # Its way out is closed, see launch.py.
    assert emulator.process.poll() is None


def test_small_uploads(store: Store) -> None:
    store.write(ROWS, KINDS)
    assert store.read().equals(ROWS)


def test_parquet_by_name(store: Store) -> None:
    store.write(ROWS[["town", "name"]], KINDS)
    assert store.read()["name"].tolist() == ["a", "b"]


def test_csv_without_header(store: Store) -> None:
    store.write(ROWS, KINDS, api_method="load_csv")
    assert store.read()["name"].tolist() == ["a", "b"]


def test_replace_takes_the_new_schema(store: Store) -> None:
    store.write(ROWS, KINDS)
    store.write(pd.DataFrame({"name": [3], "size": [0.5]}), {"name": "INT64", "size": "FLOAT64"}, if_exists="replace")
    found = store.read()
    assert found.columns.tolist() == ["name", "size"] and found.to_numpy().tolist() == [[3, 0.5]]


def test_replace_is_atomic(store: Store) -> None:
    store.write(ROWS, KINDS)
    how = bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_TRUNCATE")
    with pytest.raises(GoogleAPICallError):
        store.client.load_table_from_file(io.BytesIO(b"no Parquet"), store.name, job_config=how).result()
    assert store.read()["name"].tolist() == ["a", "b"]


def test_failed_queries_fail(store: Store) -> None:
    with pytest.raises(pandas_gbq.exceptions.GenericGBQException, match="404"):
        store.read()


def test_storage_reads_results(store: Store) -> None:
    found = store.read(f"SELECT number FROM UNNEST(GENERATE_ARRAY(1, {MANY})) AS number", use_bqstorage_api=True)
    assert sorted(found["number"]) == list(range(1, MANY + 1))


def test_wide_rows_in_small_messages(store: Store) -> None:
    found = store.read(f"SELECT REPEAT(b'{'x' * 15}', 100) AS image FROM UNNEST(GENERATE_ARRAY(1, {MANY}))", use_bqstorage_api=True)
    assert len(found) == MANY and (found["image"].str.len() == 1500).all()


def test_results_are_forgotten(store: Store, emulator: Emulator) -> None:
    process = psutil.Process(emulator.process.pid)

    def grown_by(queries: int) -> int:
        before = process.memory_info().rss
        for number in range(queries):
            store.read(
                f"SELECT TO_BASE64(REPEAT(b'{number:02}', 150)) AS text FROM UNNEST(GENERATE_ARRAY(1, {MANY}))", use_bqstorage_api=True
            )
        return process.memory_info().rss - before

    grown_by(repairs.KEPT_RESULTS)
    assert grown_by(6) < 100 * 2**20
