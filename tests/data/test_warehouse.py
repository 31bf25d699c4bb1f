"""The contract of a warehouse; each kind of warehouse must pass this class."""

import datetime
import multiprocessing
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from rowmill import settings
from rowmill.data import warehouse
from rowmill.data.sqlite import SqliteWarehouse
from rowmill.errors import IntegrityError, NotFoundError, RowmillError, SettingsError, SourceError
from rowmill.tables import Table

TABLE = Table("things", {"name": "STRING", "count": "INT64", "share": "FLOAT64", "blob": "BYTES", "at": "TIMESTAMP"})
MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)


def rows(*names: str) -> pd.DataFrame:
    """Return one row per name."""
    return pd.DataFrame([{"name": n, "count": i, "share": i / 3, "blob": bytes(range(256)), "at": MOMENT} for i, n in enumerate(names)])


def write_many(path: Path, name: str, barrier) -> None:
    """Append ten times, as one of several processes that start at once."""
    barrier.wait(60)
    for number in range(10):
        SqliteWarehouse(path).append(TABLE, rows(f"{name}{number}", f"{name}{number}"))


class TestSqlite:
    """On SQLite; another kind overrides the fixture."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> warehouse.Warehouse:
        """An empty warehouse."""
        return SqliteWarehouse(tmp_path / "new" / "warehouse.sqlite")

    def test_returns_exactly_what_was_appended(self, store: warehouse.Warehouse) -> None:
        store.append(TABLE, rows("a", "b")[["blob", "at", "share", "count", "name"]])
        store.append(TABLE, rows("c"))
        found = store.read(TABLE)
        assert found["name"].tolist() == ["a", "b", "c"] and found["count"].tolist() == [0, 1, 0]
        assert found["share"].iloc[1] == 1 / 3 and found["blob"].iloc[0] == bytes(range(256))
        assert found["at"].iloc[0].to_pydatetime() == MOMENT

    def test_reads_matching_rows_and_wanted_columns(self, store: warehouse.Warehouse) -> None:
        store.append(TABLE, rows("a", "b' OR 1=1 --"))
        found = store.read(TABLE, {"name": "b' OR 1=1 --"}, ("count",))
        assert found.columns.tolist() == ["count"] and found["count"].tolist() == [1]

    def test_a_table_nobody_wrote_is_empty(self, store: warehouse.Warehouse) -> None:
        found = store.read(TABLE)
        assert found.empty and found.columns.tolist() == list(TABLE.columns)

    def test_an_append_that_fails_leaves_nothing(self, store: warehouse.Warehouse) -> None:
        store.append(TABLE, rows("a"))
        broken = rows("b", "c").astype({"count": object})
        broken.loc[1, "count"] = "many"
        with pytest.raises(SourceError, match="Column count of table things holds INT64 values; found 'many'"):
            store.append(TABLE, broken)
        assert store.read(TABLE)["name"].tolist() == ["a"]

    def test_missing_columns_are_named(self, store: warehouse.Warehouse) -> None:
        with pytest.raises(SourceError, match="found a difference in blob"):
            store.append(TABLE, rows("a").drop(columns="blob"))

    def test_unknown_columns_are_named(self, store: warehouse.Warehouse) -> None:
        with pytest.raises(NotFoundError, match="Table things has no column 'colour'"):
            store.read(TABLE, {"colour": "red"})


def test_several_processes_append_at_once(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.sqlite"
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(6)
    writers = [context.Process(target=write_many, args=(path, name, barrier)) for name in "abcdef"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    counts = SqliteWarehouse(path).read(TABLE)["name"].value_counts()
    assert len(counts) == 60 and (counts == 2).all()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_file_of_another_version_is_named(tmp_path: Path) -> None:
    store = SqliteWarehouse(tmp_path / "warehouse.sqlite")
    store.append(Table("things", {"name": "STRING"}), pd.DataFrame({"name": ["a"]}))
    for use in (lambda: store.read(TABLE), lambda: store.append(TABLE, rows("b"))):
        with pytest.raises(IntegrityError, match="was written by another version of rowmill: .*column"):
            use()


def test_another_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.sqlite"
    path.write_text("no database, but long enough to look at " * 100)
    with pytest.raises(RowmillError, match="is no SQLite database"):
        SqliteWarehouse(path).read(TABLE)


def test_bigquery_answers_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "rowmill.toml").write_text('[warehouse]\nkind = "bigquery"\n')
    with pytest.raises(SettingsError, match="warehouse.kind = 'bigquery' cannot be used"):
        warehouse.connect(settings.load(tmp_path))
