"""The line that each answered request leaves on stdout."""

import base64
import contextlib
import dataclasses
import datetime
import hashlib
import hmac
import json
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flask.testing
import functions_framework
import numpy as np
import pytest
from rowmill.records import Bundle
from rowmill.sections import Monitor
from rowmill.serving import bundle as bundles
from rowmill.serving.release import Service

KEY = "a key of the test"


@pytest.fixture
def bundle(service: Service, good: str) -> Bundle:
    """The good model's bundle."""
    return bundles.build(service.settings, service.registry, service.registry.model(good))


def opened(bundle: Bundle) -> flask.testing.FlaskClient:
    """Return a client of the bundle's handler, without a port."""
    return functions_framework.create_app("predict", str(bundle.folder / "main.py")).test_client()


def told(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the lines that were written since the last time."""
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


@contextlib.contextmanager
def stdout_to(path: Path) -> Iterator[None]:
    """Let stdout go to a file's end, as a host's does; inside a test, for pytest turns it anew before."""
    kept, file = os.dup(1), os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(file)
        os.close(kept)


def test_a_prediction_leaves_what_was_asked_and_answered(
    bundle: Bundle, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWMILL_HASH_KEY", KEY)
    client, (images, expected, _) = opened(bundle), bundles.golden(bundle)
    labels = np.array(bundles.card(bundle)["labels"])
    before = datetime.datetime.now(datetime.UTC)
    client.post("/", json={"instances": images.tolist()}, headers={"X-Request-Id": "a-1"})
    (line,) = told(capfd)
    assert line["request_id"] == "a-1" and line["model"] == bundle.model_id and line["service"] == "digits" and line["code"] == 200
    assert before <= datetime.datetime.fromisoformat(line["answered_at"]) <= datetime.datetime.now(datetime.UTC)
    assert line["instances"] == len(images) and 0 < line["latency_ms"] < 60_000
    assert line["labels"] == labels[expected.argmax(axis=1)].tolist()
    pixels = images.reshape(len(images), -1)
    for name, values in (("confidences", expected.max(axis=1)), ("means", pixels.mean(axis=1)), ("deviations", pixels.std(axis=1))):
        assert np.allclose(line[name], values, atol=2e-3), name
    assert line["hash"] == hmac.new(KEY.encode(), images.tobytes(), hashlib.sha256).hexdigest() and "images" not in line

    client.post("/", json={"instances": images.tolist(), "parameters": {"invert": True}})
    (inverted,) = told(capfd)
    assert np.allclose(inverted["means"], 255 - pixels.mean(axis=1), atol=2e-3), "What the model saw counts."
    assert inverted["hash"] != line["hash"]


def test_the_line_of_a_refusal_has_nothing_of_the_input(bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    client = opened(bundle)
    refused = client.post("/", json={"instances": [[77] * 63]}, headers={"X-Request-Id": "a-2"})
    wrong = [client.get("/secret"), client.put("/"), client.post("/", data="secret", content_type="text/plain")]
    lines = told(capfd)
    assert [line["code"] for line in lines] == [refused.status_code, *(answer.status_code for answer in wrong)] == [400, 404, 405, 415]
    assert lines[0]["request_id"] == "a-2" and lines[1]["request_id"] == wrong[0].headers["X-Request-Id"]
    expected = {"kind", "service", "model", "answered_at", "request_id", "code", "latency_ms", "instances"}
    assert all(set(line) == expected and line["instances"] == 0 for line in lines) and "secret" not in str(lines)
    assert client.get("/").status_code == client.options("/predict").status_code == 200 and not told(capfd)


def test_without_a_key_there_is_no_hash_and_with_the_setting_the_image(
    service: Service, good: str, bundle: Bundle, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROWMILL_HASH_KEY", raising=False)
    keeping = dataclasses.replace(service.settings, monitor=Monitor(images=True))
    client = opened(bundles.build(keeping, service.registry, service.registry.model(good)))
    image = bundles.golden(bundle)[0][:1]
    for number in (1, 1000):
        client.post("/", json={"instances": image.repeat(number, axis=0).tolist()})
    kept = told(capfd)
    assert "hash" not in kept[0] and [base64.b64decode(each) for each in kept[0]["images"]] == [image.tobytes()]
    assert len(kept[1]["images"]) == 1000 and len(json.dumps(kept[1])) < 256_000


def test_a_model_that_is_judged_in_this_process_writes_nothing(bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    with bundles.open_in_process(bundle) as endpoint:
        endpoint.predict(bundles.golden(bundle)[0])
    assert not capfd.readouterr().out
    assert opened(bundle).post("/", data="{", headers={"Rowmill-Silent": "1", "rowmill.silent": "1"}).status_code == 400
    assert len(told(capfd)) == 1, "A stranger's header silences nothing."


def test_lines_of_threads_are_whole(bundle: Bundle, tmp_path: Path) -> None:
    client, images = opened(bundle), bundles.golden(bundle)[0]
    many = json.dumps({"instances": images[:1].repeat(200, axis=0).tolist()})

    def ask(name: str) -> None:
        for number in range(20):
            headers = {"X-Request-Id": f"{name}-{number}"}
            client.application.test_client().post("/", data=many, content_type="application/json", headers=headers)

    with stdout_to(tmp_path / "stdout"), ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, "abcd"))
    lines = [json.loads(line) for line in (tmp_path / "stdout").read_text("utf-8").splitlines()]
    assert sorted(line["request_id"] for line in lines) == sorted(f"{name}-{number}" for name in "abcd" for number in range(20))


def test_a_full_disk_costs_lines_and_no_answers(bundle: Bundle, tmp_path: Path) -> None:
    client, path = opened(bundle), tmp_path / "stdout"
    body = {"instances": bundles.golden(bundle)[0][:1].tolist()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with stdout_to(path):
        assert client.post("/", json=body).status_code == 200
        one = path.stat().st_size
        # Python ignores SIGXFSZ: a write beyond the limit is cut, and the next one refused, as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (one + one // 2, limits[1]))
        try:
            assert [client.post("/", json=body).status_code for _ in range(3)] == [200] * 3
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert client.post("/", json=body, headers={"X-Request-Id": "after"}).status_code == 200
    first, torn, last = path.read_text("utf-8").splitlines()
    assert json.loads(first)["code"] == 200 and json.loads(last)["request_id"] == "after"
    with pytest.raises(json.JSONDecodeError):
        json.loads(torn)
