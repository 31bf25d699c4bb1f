"""Batches: rows are answered as the endpoint would, once each, whatever cuts them off."""

import dataclasses
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from rowmill.data import images, sources, warehouse
from rowmill.data.sources import Reading, Source
from rowmill.errors import IntegrityError, RowmillError, SourceError
from rowmill.monitoring import batch
from rowmill.registry import Registry
from rowmill.serving import bundle as bundles
from rowmill.serving import release
from rowmill.serving.release import Service
from rowmill.settings import Settings
from rowmill.tables import SCORES

from tests.conftest import ROOT

UNLABELLED = Reading(labelled=False)
_SCRIPT = """
import sys
from rowmill import settings
from rowmill.data import sources
from rowmill.monitoring import batch
from rowmill.serving import release

batch.score(release.open_service(settings.load(), "digits"), sources.load(""), sys.argv[1], chunk=16)
"""


@pytest.fixture(name="digits")
def fixture_digits() -> Source:
    """The bundled digits."""
    return sources.load("")


def probabilities(table: pd.DataFrame) -> np.ndarray:
    """Return the probabilities of a table as an array."""
    return np.array(table["probabilities"].tolist())


def test_answers_are_the_endpoints_to_the_bit(service: Service, good: str, weak: str, digits: Source) -> None:
    release.deploy(service, good, "for the test", force=True)
    store = service.registry.warehouse
    scored = batch.score(service, digits)
    assert scored.model_id == good and scored.rows == 1797
    table = batch.table(store, scored)
    with service.target.open() as endpoint:
        together, _ = endpoint.predict(digits.images)
        alone = np.concatenate([endpoint.predict(digits.images[row : row + 1])[0] for row in range(60)])
    assert np.array_equal(probabilities(table), together) and np.array_equal(probabilities(table)[:60], alone)
    assert list(table["key"]) == digits.keys and np.array_equal(table["confidence"], together.max(axis=1))
    right = (table["label"] == pd.Series(digits.labels)).mean()
    assert right > 0.9, "The labels are those of the model, in its order."
    assert batch.score(service, digits) == scored and len(store.read(SCORES)) == 1797, "The same rows are scored once."
    other = batch.score(service, digits, weak)
    assert other.batch_id != scored.batch_id and len(store.read(SCORES)) == 2 * 1797
    assert other.model_id == weak and set(store.read(SCORES)["rows"]) == {1797}
    mixed = batch.mix(table)
    assert mixed["rows"].sum() == 1797 and mixed["rows"].is_monotonic_decreasing and mixed["share"].sum() == pytest.approx(1)


def test_what_was_killed_goes_on_without_doubles_or_gaps(service: Service, good: str, digits: Source) -> None:
    store, chance, counts = service.registry.warehouse, np.random.default_rng(4), [0]
    command, environment = [sys.executable, "-c", _SCRIPT, good], {**os.environ, "ROWMILL_STATE": str(service.settings.state)}
    for _ in range(3):
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and len(store.read(SCORES, None, ("row",))) == counts[-1]:
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 0.12))
            os.kill(process.pid, signal.SIGKILL)
        counts.append(len(store.read(SCORES, None, ("row",))))
    assert 0 < counts[1] < counts[2] < counts[3] < 1797
    with pytest.raises(IntegrityError, match=f"lists 1797 rows; found {counts[3]}"):
        batch.table(store, batch.Batch(store.read(SCORES)["batch_id"][0], "digits", good, "", 1797))
    scored = batch.score(service, digits, good)
    assert sorted(store.read(SCORES)["row"]) == list(range(1797))
    with bundles.open_in_process(bundles.build(service.settings, service.registry, service.registry.model(good))) as endpoint:
        assert np.array_equal(probabilities(batch.table(store, scored)), endpoint.predict(digits.images)[0])


def few(digits: Source, **changed: Any) -> Source:
    """Return the first rows of the digits."""
    short = dataclasses.replace(
        digits, keys=digits.keys[:9], images=digits.images[:9], labels=[""] * 9, declared_holdout=digits.declared_holdout[:9]
    )
    return dataclasses.replace(short, **changed)


@pytest.mark.parametrize(
    ("change", "model_id", "words"),
    [
        pytest.param({}, "", "Nothing serves digits yet; deploy a model, or name one by model_id", id="nothing-serves"),
        pytest.param({}, "aaaaaaaa-t009", "There is no model 'aaaaaaaa-t009'", id="no-model"),
        pytest.param(
            {"images": np.zeros((9, 28, 28, 3), np.uint8)},
            "good",
            "takes images of 8x8 pixels in grey; found 28x28 pixels in rgb in scikit-learn's bundled digits; give size='8x8' and colour='grey'",
            id="shape",
        ),
        pytest.param({"keys": ["a"] * 9}, "good", "must be unique; found 8 repeated, first 'a'", id="keys"),
        pytest.param({"keys": ["a", None, *"bcdefgh"]}, "good", "1 that are not, the first null", id="no-key"),
        pytest.param({"keys": [], "labels": [], "images": np.zeros((0, 8, 8, 1), np.uint8)}, "good", "at least one", id="empty"),
    ],
)
def test_what_cannot_be_scored_is_a_sentence_and_nothing_is_written(
    service: Service, good: str, digits: Source, change: dict[str, Any], model_id: str, words: str
) -> None:
    with pytest.raises(RowmillError, match=words):
        batch.score(service, few(digits, **change), good if model_id == "good" else model_id)
    assert service.registry.warehouse.read(SCORES).empty


def test_a_folder_needs_no_labels_and_names_what_is_no_image(tmp_path: Path, digits: Source) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for number, name in enumerate(("b.png", "deep/a.png", "deep/er/c.png")):
        (tmp_path / name).write_bytes(images.encode(digits.images[number]))
    found = sources.load(str(tmp_path), UNLABELLED)
    assert found.keys == ["b.png", "deep/a.png", "deep/er/c.png"] and np.array_equal(found.images, digits.images[:3])
    (tmp_path / "deep" / "broken.png").write_bytes(images.encode(digits.images[0])[:50])
    with pytest.raises(SourceError, match=r"deep/broken\.png is a broken image"):
        sources.load(str(tmp_path), UNLABELLED)
    (tmp_path / "deep" / "broken.png").unlink()
    (tmp_path / "deep" / "round").symlink_to(tmp_path)
    with pytest.raises(SourceError, match=r"deep/round cannot be read: Is a directory"):
        sources.load(str(tmp_path), UNLABELLED)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="empty has no images"):
        sources.load(str(tmp_path / "empty"), UNLABELLED)


def test_idx_files_and_text_need_no_labels(tmp_path: Path, digits: Source) -> None:
    header = b"\x00\x00\x08\x03" + b"".join(size.to_bytes(4, "big") for size in (5, 8, 8))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(header + digits.images[:5].tobytes())
    found = sources.load(str(tmp_path), UNLABELLED)
    assert found.keys[0] == "t10k/00000" and np.array_equal(found.images, digits.images[:5]) and found.labels == [""] * 5
    with pytest.raises(SourceError, match="There is no train-images"):
        sources.load(str(tmp_path))
    text = tmp_path / "rows.txt"
    text.write_text("".join(f"k{row}:{','.join(map(str, image.ravel()))}:\n" for row, image in enumerate(digits.images[:4])))
    assert np.array_equal(sources.load(str(text), UNLABELLED).images, digits.images[:4])


@pytest.fixture(name="on_google")
def fixture_on_google(service: Service, good: str, on_bigquery: Settings) -> Service:
    """The service with its warehouse on BigQuery, and the good model in it."""
    there = Registry(warehouse.connect(on_bigquery), service.registry.artefacts)
    there.add(service.registry.model(good))
    settings = dataclasses.replace(on_bigquery, state=service.settings.state, artefacts_root=service.settings.artefacts_root)
    return dataclasses.replace(service, registry=there, settings=settings)


@pytest.fixture(name="put")
def fixture_put(on_bigquery: Settings) -> Callable[[str, dict[str, Any]], str]:
    """Writes columns to a table of the user's, and returns it as a source."""
    client = bigquery.Client(on_bigquery.warehouse_project, AnonymousCredentials())
    client.create_dataset("scored", exists_ok=True)

    def write(name: str, columns: dict[str, Any]) -> str:
        client.load_table_from_dataframe(pd.DataFrame(columns), f"{on_bigquery.warehouse_project}.scored.{name}").result()
        return f"bigquery:{on_bigquery.warehouse_project}.scored.{name}"

    return write


def test_a_table_of_bigquery_is_scored_into_bigquery(
    on_google: Service, good: str, digits: Source, put: Callable[[str, dict[str, Any]], str]
) -> None:
    where = put("rows", {"key": digits.keys[:300], "image": [images.encode(image) for image in digits.images[:300]]})
    found = sources.load(where, UNLABELLED, on_google.settings)
    scored = batch.score(on_google, found, good, chunk=128)
    store = on_google.registry.warehouse
    table = batch.table(store, scored)
    with bundles.open_in_process(bundles.build(on_google.settings, on_google.registry, on_google.registry.model(good))) as endpoint:
        assert np.array_equal(probabilities(table), endpoint.predict(digits.images[:300])[0])
    assert list(table["key"]) == digits.keys[:300] and batch.score(on_google, found, good).batch_id == scored.batch_id
    store.append(SCORES, store.read(SCORES).head(100))
    assert batch.table(store, scored).equals(table), "What a killed process's load job wrote late counts once."
    without = put("blind", {"key": ["a"], "photo": [images.encode(digits.images[0])]})
    with pytest.raises(SourceError, match=r"has no column 'image' for the image; found key, photo; give image_column"):
        sources.load(without, UNLABELLED, on_google.settings)
    broken = put("broken", {"key": ["a", "b"], "image": [images.encode(digits.images[0]), images.encode(digits.images[0])[:50]]})
    with pytest.raises(SourceError, match="the image of key 'b' is a broken image"):
        sources.load(broken, UNLABELLED, on_google.settings)


def test_a_csv_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    table = pd.DataFrame({"key": ["a,b"], "label": ["7"], "confidence": [0.75], "probabilities": [[0.25, 0.75]]})
    file = tmp_path / "out.csv"
    assert batch.write(table, str(file)).startswith("1 rows are in")
    assert pd.read_csv(io.BytesIO(file.read_bytes())).to_dict("records")[0]["probabilities"] == "[0.25,0.75]"
    with pytest.raises(SourceError, match="cannot be written"):
        batch.write(table, str(tmp_path / "no" / "out.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
