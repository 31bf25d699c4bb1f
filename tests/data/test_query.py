"""A table or query of BigQuery as a source: what it costs is said before, and what cannot be read is named with its key."""

import dataclasses
import io
import json
import secrets
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from PIL import Image
from rowmill.data import dataset, sources, warehouse
from rowmill.data.sources import Columns, Reading
from rowmill.errors import ParameterError, RowmillError, SettingsError, SourceError, WarehouseError
from rowmill.settings import Settings

from tests.data.test_refusals import Answer, Google, fixture_google, refusal

__all__ = ["fixture_google"]

PIXELS = np.random.default_rng(5).integers(0, 256, (60, 6, 4, 3), np.uint8)
Put = Callable[[dict[str, Any]], str]


def png(pixels: np.ndarray) -> bytes:
    """Return pixels as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(name="put")
def fixture_put(on_bigquery: Settings) -> Put:
    """Writes columns to a new table of the user's, and returns its name."""
    client = bigquery.Client(on_bigquery.warehouse_project, AnonymousCredentials())
    client.create_dataset("own", exists_ok=True)

    def write(columns: dict[str, Any]) -> str:
        name = f"{on_bigquery.warehouse_project}.own.Shapes_{secrets.token_hex(4)}"
        client.load_table_from_dataframe(pd.DataFrame(columns), name).result()
        return name

    return write


def test_a_table_of_png_files_is_read_exactly(put: Put, on_bigquery: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    order = np.random.default_rng(1).permutation(60)
    name = put({"id": order, "picture": [png(PIXELS[row]) for row in order], "shape": [f"s{row % 3}" for row in order]})
    columns = Columns("id", "picture", "shape")
    source = sources.load(f"bigquery:{name}", Reading(columns=columns), on_bigquery)
    assert np.array_equal(source.images, PIXELS) and source.keys == [str(row) for row in range(60)]
    assert source.labels == [f"s{row % 3}" for row in range(60)] and not source.declared_holdout.any()
    assert source.name == name.rpartition(".")[2].lower().replace("_", "-") == sources.service_name(f"bigquery:{name}")
    assert f"BigQuery reads up to 0 bytes for table {name}; 10 GB are allowed." in capsys.readouterr().out
    resized = sources.load(f"bigquery:{name}", Reading("3x3", "grey", columns), on_bigquery)
    assert resized.images.shape == (60, 3, 3, 1)


def test_a_query_of_raw_pixels_with_its_own_holdout(put: Put, on_bigquery: Settings) -> None:
    name = put(
        {
            "key": [f"k{row:02}" for row in range(60)],
            "image": [image.tobytes() for image in PIXELS],
            "round": [row % 2 == 0 for row in range(60)],
            "test": [row >= 40 for row in range(60)],
        }
    )
    query = f"bigquery: SELECT * FROM `{name}` WHERE key != 'k07'; "
    source = sources.load(query, Reading("6x4", "rgb", Columns(label="round", holdout="test")), on_bigquery)
    assert np.array_equal(source.images, np.delete(PIXELS, 7, axis=0)) and set(source.labels) == {"True", "False"}
    assert source.declared_holdout.sum() == 20
    store = warehouse.connect(on_bigquery)
    version = dataset.ingest(store, source, "shapes")
    assert version.counts["holdout"] == 20 and dataset.load(store, version).train.images.shape[1:] == (6, 4, 3)


def test_a_second_training_asks_bigquery_for_no_image(on_bigquery: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    store = warehouse.connect(on_bigquery)
    version = dataset.ingest(store, sources.load(""))
    first = dataset.load(store, version)
    monkeypatch.setattr(store, "read", lambda *_: pytest.fail("BigQuery was asked"))
    again = dataset.load(store, version)
    assert again.train.keys == first.train.keys and np.array_equal(again.validation.images, first.validation.images)
    assert np.array_equal(again.train.targets, first.train.targets)


def test_a_damaged_cache_is_read_anew(on_bigquery: Settings) -> None:
    store = warehouse.connect(on_bigquery)
    version = dataset.ingest(store, sources.load(""))
    first = dataset.load(store, version)
    (path,) = store.cache.glob(f"{version.version}-*/train-validation.npz")
    whole = path.read_bytes()
    for damaged in (whole[:-50], whole[:5000] + b"\x55\xaa" + whole[5002:], b""):
        path.write_bytes(damaged)
        assert np.array_equal(dataset.load(store, version).train.images, first.train.images)
        assert path.read_bytes() == whole
    shutil.rmtree(store.cache)
    store.cache.write_text("no folder")
    assert np.array_equal(dataset.load(store, version).train.images, first.train.images)


GOOD = {"key": ["a", "b"], "image": [png(PIXELS[0]), png(PIXELS[1])], "label": ["x", "y"]}


@pytest.mark.parametrize(
    ("changed", "reading", "words"),
    [
        pytest.param(
            {}, Reading(columns=Columns("id")), "has no column 'id' for the key; found key, image, label; give key_column", id="key"
        ),
        pytest.param({"image": ["1,2", "3,4"]}, Reading(), "Column 'image' .* must be BYTES to be the image; found STRING", id="kind"),
        pytest.param(
            {"image": [b"", png(PIXELS[1])]}, Reading(), "must have an image in each row; found 1 without one, first 'a'", id="empty"
        ),
        pytest.param({"image": [None, png(PIXELS[1])]}, Reading(), "found 1 without one, first 'a'", id="null"),
        pytest.param(
            {"image": [png(PIXELS[0]), b"GIF89a"]}, Reading(), "image of key 'b' is no PNG or JPEG .*found first bytes 0x474946", id="gif"
        ),
        pytest.param(
            {"image": [b"1" * 784, b"2" * 784]}, Reading(), "raw pixels need their size; found 784 bytes for key 'a'", id="no-size"
        ),
        pytest.param(
            {"image": [b"1" * 784, b"2" * 783]},
            Reading("28x28"),
            "must have 784 bytes.* found 1 that have not, the first 783 for key 'b'",
            id="783",
        ),
        pytest.param(
            {"image": [png(PIXELS[0]), png(PIXELS[1][:5])]}, Reading(), "image of key 'b' differs from .*; found 5x4 and 6x4", id="sizes"
        ),
        pytest.param({"label": [1.5, 2.0]}, Reading(), "Column 'label' .* must be STRING or INTEGER or BOOLEAN .* found FLOAT", id="label"),
        pytest.param({"label": [["x"], ["y"]]}, Reading(), "Column 'label' .* found ARRAY of STRING", id="array"),
        pytest.param(
            {"part": [True, None]}, Reading(columns=Columns(holdout="part")), "holdout column of .* in some; found 1 nulls", id="null-part"
        ),
        pytest.param({"part": [False, False]}, Reading(columns=Columns(holdout="part")), "found no true; mend it", id="no-part"),
        pytest.param({"key": [None, "b"]}, Reading(), "keys of .* 1 that are not, the first null", id="null-key"),
    ],
)
def test_what_cannot_be_used_is_named(put: Put, on_bigquery: Settings, changed: dict[str, Any], reading: Reading, words: str) -> None:
    name = put({**GOOD, **changed})
    with pytest.raises(SourceError, match=words):
        dataset.examine(sources.load(f"bigquery:{name}", reading, on_bigquery))


@pytest.mark.parametrize(
    ("wanted", "kind", "words"),
    [
        pytest.param("nowhere.nothing", WarehouseError, "table rowmill-tests.nowhere.nothing: Not found: .*; look it up", id="no-table"),
        pytest.param("nothing", SourceError, "'nothing' is no table of BigQuery; give project.dataset.table", id="no-name"),
        pytest.param("a.b.`c`", SourceError, "is no table of BigQuery", id="quotes"),
        pytest.param("SELEC key FROM x", WarehouseError, "BigQuery does not take this for the query: ", id="syntax"),
    ],
)
def test_a_wrong_name_is_one_sentence(on_bigquery: Settings, wanted: str, kind: type[RowmillError], words: str) -> None:
    with pytest.raises(kind, match=words) as raised:
        sources.load(f"bigquery:{wanted}", project=on_bigquery)
    assert "\n" not in str(raised.value)


def test_raw_pixels_may_begin_like_a_file(put: Put, on_bigquery: Settings) -> None:
    raw = [b"\xff\xd8\xff" + bytes(13), bytes(16)]
    source = sources.load(f"bigquery:{put({**GOOD, 'image': raw})}", Reading("4x4"), on_bigquery)
    assert [image.tobytes() for image in source.images] == raw


def test_each_needed_column_has_a_name() -> None:
    with pytest.raises(ParameterError, match="needs a column for the image; name it by image_column"):
        Columns(image="")


def test_an_empty_answer_is_no_source(put: Put, on_bigquery: Settings) -> None:
    with pytest.raises(SourceError, match="BigQuery's query has no rows"):
        sources.load(f"bigquery:SELECT * FROM `{put(GOOD)}` WHERE key = 'c'", project=on_bigquery)


def test_a_query_needs_a_payer_and_a_service(on_bigquery: Settings) -> None:
    poor = dataclasses.replace(on_bigquery, warehouse_project="")
    with pytest.raises(SettingsError, match="No project pays for the query 'SELECT 1'; set warehouse.project"):
        sources.load("bigquery:SELECT 1", project=poor)
    with pytest.raises(RowmillError, match="name it, such as service='shapes'"):
        sources.service_name("bigquery:SELECT 1")


def dry(google: Google, count: int, then: Answer) -> list[dict]:
    """Let a dry run say so many bytes, and a real query answer `then`; return the list of jobs that will have been asked for."""
    asked: list[dict] = []
    fields = [{"name": name, "type": kind} for name, kind in (("key", "STRING"), ("image", "BYTES"), ("label", "STRING"))]

    def answer(path: str) -> Answer:
        body = json.loads(google.body) if path.startswith("POST") else {}
        asked.append(body.get("configuration", {"query": body}))
        if not asked[-1].get("dryRun"):
            return then
        query = {"totalBytesProcessed": str(count), "schema": {"fields": fields}}
        reference = {"projectId": "my-project", "jobId": "j", "location": "EU"}
        configuration = {"dryRun": True, "query": {"query": "q"}}
        return 200, {"jobReference": reference, "configuration": configuration, "statistics": {"query": query}, "status": {"state": "DONE"}}

    google.answer = answer
    return asked


@pytest.fixture(name="project")
def fixture_project(google: Google, on_bigquery: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a project whose BigQuery is the server."""
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{google.server_port}")
    return dataclasses.replace(on_bigquery, warehouse_project="my-project", warehouse_emulator="http://x")


def test_what_costs_too_much_is_refused_before_it_runs(google: Google, project: Settings) -> None:
    asked = dry(google, 10_000_000_001, refusal(500, "internalError", "must not be asked"))
    with pytest.raises(WarehouseError, match="found 10,000,000,001 bytes, and at most 10,000,000,000; select less, or raise"):
        sources.load("bigquery:own.shapes", project=project)
    assert len(asked) == 2 and all(job["dryRun"] for job in asked)


def test_the_bytes_are_said_and_capped(google: Google, project: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    limit = refusal(400, "bytesBilledLimitExceeded", "Query exceeded limit for bytes billed: 10000000000")
    asked = dry(google, 54_880_000, limit)
    with pytest.raises(WarehouseError, match="would bill more than is allowed for table my-project.own.shapes; found Query exceeded limit"):
        sources.load("bigquery:own.shapes", project=project)
    assert "BigQuery reads up to 54.9 MB for table my-project.own.shapes; 10 GB are allowed." in capsys.readouterr().out
    assert asked[2]["query"]["maximumBytesBilled"] == "10000000000"
