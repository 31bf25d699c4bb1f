"""The function's contract, asked through the handler as functions-framework hosts it."""

import io
import json
import subprocess
import sys
from pathlib import Path

import flask.testing
import functions_framework
import numpy as np
import pytest
from rowmill.errors import IntegrityError
from rowmill.records import Bundle
from rowmill.serving import bundle as bundles
from rowmill.serving.release import Service


@pytest.fixture
def bundle(service: Service, good: str) -> Bundle:
    """The good model's bundle."""
    return bundles.build(service.settings, service.registry, service.registry.model(good))


@pytest.fixture
def client(bundle: Bundle) -> flask.testing.FlaskClient:
    """A client of the handler, without a port."""
    return functions_framework.create_app("predict", str(bundle.folder / "main.py")).test_client()


def test_it_answers_its_golden_examples(client: flask.testing.FlaskClient, bundle: Bundle) -> None:
    images, expected, tolerance = bundles.golden(bundle)
    answer = client.post("/", json={"instances": images.tolist()})
    assert answer.status_code == 200 and answer.json["deployedModelId"] == bundle.model_id
    assert np.allclose(answer.json["predictions"], expected, atol=tolerance)


@pytest.mark.parametrize("shape", [(-1, 64), (-1, 8, 8), (-1, 8, 8, 1)], ids=["flat", "8x8", "8x8x1"])
def test_instances_may_be_flat_or_nested(client: flask.testing.FlaskClient, bundle: Bundle, shape: tuple[int, ...]) -> None:
    images, expected, tolerance = bundles.golden(bundle)
    answer = client.post("/predict", json={"instances": images.reshape(shape).tolist()})
    assert np.allclose(answer.json["predictions"], expected, atol=tolerance)


def test_it_says_which_model_answers(client: flask.testing.FlaskClient, bundle: Bundle) -> None:
    card = client.get("/").json
    assert card["model"] == bundle.model_id and card["service"] == "digits" and card["state"] == "AVAILABLE"
    assert card["input"]["shape"] == [8, 8, 1] and len(card["labels"]) == 10


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        pytest.param(b"{", 400, "no JSON object", id="not-json"),
        pytest.param(b"[]", 400, "no JSON object", id="no-object"),
        pytest.param(b'{"instances": []}', 400, "no instances", id="empty"),
        pytest.param(json.dumps({"instances": [[0] * 63]}).encode(), 400, "shape [63]", id="63-values"),
        pytest.param(json.dumps({"instances": [[0] * 64, [0] * 63]}).encode(), 400, "differ in shape", id="ragged"),
        pytest.param(json.dumps({"instances": [[256] * 64]}).encode(), 400, "A pixel is 256", id="256"),
        pytest.param(json.dumps({"instances": [[-1] * 64]}).encode(), 400, "A pixel is -1", id="negative"),
        pytest.param(json.dumps({"instances": [[1.5] * 64]}).encode(), 400, "A pixel is 1.5", id="fraction"),
        pytest.param(json.dumps({"instances": [["5"] * 64]}).encode(), 400, "something else than numbers", id="text"),
        pytest.param(json.dumps({"instances": [[None] * 64]}).encode(), 400, "something else than numbers", id="null"),
        pytest.param(json.dumps({"instances": [[True] * 64]}).encode(), 400, "something else than numbers", id="booleans"),
        pytest.param(b'{"instances": [[' + b"1e999," * 63 + b"0]]}", 400, "no JSON object", id="infinite"),
        pytest.param(b'{"instances": [[' + b"1e30," * 63 + b"0]]}", 400, "A pixel is 1e+30", id="huge"),
        pytest.param(json.dumps({"instances": [[True] + [0] * 63]}).encode(), 400, "something else than numbers", id="one-boolean"),
        pytest.param(
            json.dumps({"instances": ["a" * 7_000_000] + [""] * 1023}).encode(), 400, "something else than numbers", id="long-text"
        ),
        pytest.param(json.dumps({"instances": [[0] * 64, 0]}).encode(), 400, "differ in shape", id="mixed-depth"),
        pytest.param(b'{"instances": ' + b"[" * 200 + b"]" * 200 + b"}", 400, "shape", id="deep"),
        pytest.param(json.dumps({"instances": [[0] * 64] * 1025}).encode(), 413, "1025 instances", id="too-many"),
        pytest.param(b" " * (8 * 1024 * 1024 + 1), 413, "bytes", id="too-long"),
    ],
)
def test_bad_bodies_get_a_sentence(client: flask.testing.FlaskClient, body: bytes, code: int, words: str) -> None:
    answer = client.post("/", data=body, content_type="application/json")
    assert answer.status_code == code and answer.json["error"]["code"] == code
    assert words in answer.json["error"]["message"] and answer.json["error"]["message"].endswith(".")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/nowhere", 404), ("POST", "/v2", 404), ("PUT", "/", 405), ("DELETE", "/", 405), ("OPTIONS", "/x", 404)],
)
def test_other_requests_get_a_sentence(client: flask.testing.FlaskClient, method: str, path: str, code: int) -> None:
    answer = client.open(path, method=method)
    assert answer.status_code == code and answer.json["error"]["message"].endswith(".")


def test_a_body_without_a_length_is_limited_too(client: flask.testing.FlaskClient) -> None:
    endless = io.BytesIO(b" " * (9 * 1024 * 1024))
    answer = client.post(
        "/", input_stream=endless, headers={"Transfer-Encoding": "chunked"}, environ_overrides={"wsgi.input_terminated": True}
    )
    assert answer.status_code == 413 and "more than 8388608 bytes" in answer.json["error"]["message"]


def test_head_is_answered(client: flask.testing.FlaskClient) -> None:
    assert client.head("/").status_code == 200


def test_it_still_answers_after_bad_requests(client: flask.testing.FlaskClient, bundle: Bundle) -> None:
    for rows in (1, 3, 1025, 2):
        client.post("/", json={"instances": [[300] * 64] * rows})
    images, expected, tolerance = bundles.golden(bundle)
    for image, probabilities in zip(images, expected, strict=True):
        answer = client.post("/", json={"instances": [image.tolist()]})
        assert np.allclose(answer.json["predictions"], [probabilities], atol=tolerance)


def change_contract(folder: Path) -> None:
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, "contract": 2}))


def change_model(folder: Path) -> None:
    with (folder / "model.tflite").open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    ("damage", "words"), [(change_contract, "contract 2; this handler knows 1 only"), (change_model, "model.tflite has SHA-256")]
)
def test_it_refuses_to_start_on_another_file_or_contract(bundle: Bundle, damage, words: str) -> None:
    damage(bundle.folder)
    with pytest.raises(IntegrityError, match=words):
        bundles.open_in_process(bundle)


def test_the_bundle_stands_alone(bundle: Bundle) -> None:
    code = f"import sys; sys.path.insert(0, {str(bundle.folder)!r}); import main; print([m for m in sys.modules if m in ('rowmill', 'tensorflow', 'keras')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"


def test_equal_content_is_laid_once(service: Service, bundle: Bundle, good: str) -> None:
    again = bundles.build(service.settings, service.registry, service.registry.model(good))
    assert again == bundle and len(list(bundle.folder.parent.iterdir())) == 1


@pytest.mark.parametrize("damage", [change_model, change_contract])
def test_a_changed_bundle_is_laid_anew(service: Service, bundle: Bundle, good: str, damage) -> None:
    damage(bundle.folder)
    again = bundles.build(service.settings, service.registry, service.registry.model(good))
    with bundles.open_in_process(again) as endpoint:
        assert again == bundle and endpoint.describe()["model"] == good
