"""The contract of a warehouse; each kind of warehouse must pass this class."""

import dataclasses
import datetime
import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rowmill.data import dataset, sources, warehouse
from rowmill.data.sources import Source
from rowmill.data.sqlite import SqliteWarehouse
from rowmill.errors import IntegrityError, NotFoundError, ParameterError, RowmillError, SourceError
from rowmill.records import Deployment, Trial
from rowmill.registry import Registry
from rowmill.settings import Settings
from rowmill.tables import EXAMPLES, Span, Table

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


class Contract:
    """What every kind of warehouse does; a kind gives an empty one by the fixture `store`."""

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

    def test_kinds_come_back_exactly(self, store: warehouse.Warehouse) -> None:
        written = pd.DataFrame(
            {
                "name": ["", "Größe\n'x'", "12"],
                "count": [-(2**63), 2**63 - 1, 0],
                "share": [float("nan"), 1e-300, -0.1],
                "blob": [b"", b"\x00\xff", b"12"],
                "at": [MOMENT, MOMENT.replace(microsecond=0), MOMENT.replace(year=1970)],
            }
        )
        store.append(TABLE, written)
        found = store.read(TABLE)
        assert found.dtypes.astype(str).to_dict() == {
            "name": "object",
            "count": "int64",
            "share": "float64",
            "blob": "object",
            "at": "datetime64[us, UTC]",
        }
        assert found.drop(columns="share").to_numpy().tolist() == written.drop(columns="share").to_numpy().tolist()
        assert [type(value) for value in found.loc[0, ["name", "blob"]]] == [str, bytes]
        assert np.isnan(found["share"][0]) and found["share"][1:].tolist() == [1e-300, -0.1]

    def test_an_empty_append_and_an_empty_answer_keep_the_kinds(self, store: warehouse.Warehouse) -> None:
        store.append(TABLE, rows("a").iloc[:0])
        assert store.read(TABLE).dtypes.equals(store.read(TABLE, {"name": "nobody"}).dtypes)
        store.append(TABLE, rows("a"))
        assert store.read(TABLE, {"name": "nobody"}).dtypes.equals(store.read(TABLE).dtypes)

    def test_numbers_can_be_asked_for(self, store: warehouse.Warehouse) -> None:
        store.append(TABLE, rows("a", "b"))
        assert store.read(TABLE, {"name": "b", "count": 1, "share": 1 / 3}, ("name",))["name"].tolist() == ["b"]
        assert store.read(TABLE, {"count": 2}).empty

    def test_a_scan_gives_what_a_read_gives(self, store: warehouse.Warehouse) -> None:
        assert store.scan(TABLE).num_rows == 0
        texts = ["a", "b' OR 1=1", 'c"\\', "Größe"]
        store.append(TABLE, rows(*texts))
        assert store.scan(TABLE).to_pandas().to_numpy().tolist() == store.read(TABLE).to_numpy().tolist()
        found = store.scan(TABLE, {"name": texts[1:]}, ("blob", "name"))
        assert found.column_names == ["blob", "name"] and found["name"].to_pylist() == texts[1:]
        assert store.scan(TABLE, {"name": ["nobody"]}).schema.types == store.scan(TABLE).schema.types
        with pytest.raises(NotFoundError, match="Table things has no column 'colour'"):
            store.scan(TABLE, {"colour": ["red"]})

    def test_records_come_back_equal(self, store: warehouse.Warehouse) -> None:
        models = Registry(store, Path("nowhere"))
        trial = Trial(
            "kx3v9q2m-t001", "digits", "0" * 12, "completed", {"units": [64, 32], "rate": 0.1}, 0.9, (0.5, 0.9), seed=3, accuracy=0.9
        )
        deployment = Deployment("kx3v9q2m-t001", "digits", "deploy", "local", "", "f" * 64, "serving", "by hand", "me", 1.5)
        for record in (trial, deployment):
            models.add(record)
        assert models.trials("digits") == [trial] and models.deployments("digits") == [deployment]
        assert models.trials("shapes") == [] and models.models("") == []

    def test_images_are_byte_exact_and_in_order(self, store: warehouse.Warehouse) -> None:
        # So many that BigQuery's client reads the train split by the Storage API, and the others by REST.
        pixels = np.random.default_rng(3).integers(0, 256, (55_000, 8, 8, 1), np.uint8)
        labels = [str(number % 3) for number in range(len(pixels))]
        source = Source("noise", "noise", [f"{n:05}" for n in range(len(pixels))], pixels, labels, np.zeros(len(pixels), bool))
        version = dataset.ingest(store, source)
        data = dataset.load(store, version)
        for part in (data.train, data.validation, dataset.load_holdout(store, version)):
            assert part.keys == sorted(part.keys)
            assert np.array_equal(part.images, pixels[[int(key) for key in part.keys]])
        assert dataset.ingest(store, source) == version

    def test_only_a_table_with_an_age_forgets(self, store: warehouse.Warehouse) -> None:
        aging = dataclasses.replace(TABLE, name="aging", age="at")
        assert store.forget(aging, {"name": "a"}) == 0, "A table nobody wrote is empty."
        late = MOMENT.replace(microsecond=0) + datetime.timedelta(seconds=6)
        store.append(aging, rows("a", "b", "a", "c", "b").assign(at=[MOMENT, MOMENT, late, late, MOMENT + datetime.timedelta(days=1)]))
        assert store.forget(aging, {"name": "a", "count": 1}) == 0 and store.forget(aging, {"name": "a"}, before=MOMENT) == 0
        assert store.forget(aging, {"name": "b"}, before=late) == 1 and list(store.read(aging)["name"]) == ["a", "a", "c", "b"]
        assert store.forget(aging, {"name": "a"}) == 2 and list(store.read(aging)["name"]) == ["c", "b"]
        store.append(TABLE, rows("a"))
        for table, where in ((TABLE, {"name": "a"}), (aging, {})):
            with pytest.raises(ParameterError, match=f"Rows of table {table.name} stay"):
                store.forget(table, where)
        with pytest.raises(NotFoundError, match="no column 'colour'"):
            store.forget(aging, {"colour": "red"})
        assert len(store.read(TABLE)) == 1 and len(store.read(aging)) == 2

    def test_rows_are_counted_and_drawn_where_they_lie(self, store: warehouse.Warehouse) -> None:
        aging = dataclasses.replace(TABLE, name="aging", age="at", indexes=(("at", "name"),))
        assert store.count(aging, Span(), ["name", "count"], "hour").empty and store.draw(aging, Span(), [], 0.5).empty
        minute = datetime.timedelta(minutes=1)
        moments = [MOMENT, MOMENT + minute, MOMENT + 60 * minute, MOMENT - minute, MOMENT]
        store.append(aging, rows("a", "b", "a", "a", "x' or 1").assign(at=moments, count=7))
        counted = store.count(aging, Span(since=MOMENT, unlike={"name": "x'"}), ["name", "count"], "hour")
        assert counted.to_numpy().tolist() == [
            [pd.Timestamp("2026-01-02T03:00Z"), "a", 7, 1],
            [pd.Timestamp("2026-01-02T03:00Z"), "b", 7, 1],
            [pd.Timestamp("2026-01-02T04:00Z"), "a", 7, 1],
        ]
        assert list(store.count(aging, Span(until=MOMENT, where={"name": "a"}), [], "minute")["at"]) == [pd.Timestamp("2026-01-02T03:03Z")]
        assert list(store.count(aging, Span(), [], "day")["rows"]) == [5]
        drawn = store.draw(aging, Span(where={"name": "a"}), ["name", "share"], 1.0)
        assert list(drawn["share"]) == [1.0, 0.0, 2 / 3] and drawn.columns.tolist() == ["name", "share"]
        for ask in (lambda: store.count(aging, Span(), ["colour"], "day"), lambda: store.draw(aging, Span(unlike={"colour": "r"}), [], 1)):
            with pytest.raises(NotFoundError, match="no column 'colour'"):
                ask()
        with pytest.raises(ParameterError, match="by minute, hour or day; found 'week'"):
            store.count(aging, Span(), [], "week")

    def test_a_share_is_drawn_evenly_and_the_same_each_time(self, store: warehouse.Warehouse) -> None:
        aging = dataclasses.replace(TABLE, name="aging", age="at")
        store.append(aging, rows(*"ab" * 1000).assign(at=[MOMENT + datetime.timedelta(seconds=n) for n in range(2000)]))
        drawn = store.draw(aging, Span(), ["name", "count"], 0.1)
        assert 150 < len(drawn) < 250 and drawn["count"].is_monotonic_increasing and 70 < (drawn["name"] == "a").sum() < 130
        assert all(50 < part < 150 for part in np.bincount(drawn["count"] // 1000)), "Early and late ones alike."
        assert store.draw(aging, Span(), ["name", "count"], 0.1).equals(drawn)

    def test_several_who_append_at_once_are_all_whole_and_unmixed(self, store: warehouse.Warehouse) -> None:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda name: store.append(TABLE, rows(*[name] * 50)), "abcdef"))
        found = store.read(TABLE)
        assert found["count"].tolist() == list(range(50)) * 6
        assert (
            sorted(found["name"][::50]) == list("abcdef")
            and (found["name"].to_numpy().reshape(6, 50) == found["name"][::50].to_numpy()[:, None]).all()
        )

    def test_an_ingest_that_was_killed_is_invisible(self, store: warehouse.Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
        before = dataset.ingest(store, sources.load(""))
        digits = sources.load("")
        grown = dataclasses.replace(digits, keys=[f"again-{key}" for key in digits.keys])
        append = store.append
        with monkeypatch.context() as killed:
            # The version's row is the second append: the first one is whole when the end comes.
            killed.setattr(store, "append", lambda table, added: append(table, added) if table is EXAMPLES else pytest.fail("killed"))
            with pytest.raises(pytest.fail.Exception, match="killed"):
                dataset.ingest(store, grown)
        assert dataset.versions(store) == [before] and len(store.read(EXAMPLES, None, ("label",))) > sum(before.counts.values())
        after = dataset.ingest(store, grown)
        assert dataset.versions(store) == [before, after]
        assert sum(len(part.keys) for part in (dataset.load(store, after).train, dataset.load(store, after).validation)) > 0
        assert dataset.load(store, before).train.keys[0] in digits.keys


class TestSqlite(Contract):
    """On SQLite."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> warehouse.Warehouse:
        """An empty warehouse."""
        return SqliteWarehouse(tmp_path / "new" / "warehouse.sqlite")


class TestBigquery(Contract):
    """On BigQuery's emulator, by the real clients."""

    @pytest.fixture
    def store(self, on_bigquery: Settings) -> warehouse.Warehouse:
        """An empty data set."""
        return warehouse.connect(on_bigquery)


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
