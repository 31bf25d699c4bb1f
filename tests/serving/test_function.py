"""The function's contract, asked through the handler as functions-framework hosts it."""

import dataclasses
import io
import json
import re
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


def test_head_and_options_are_answered(client: flask.testing.FlaskClient) -> None:
    assert client.head("/").status_code == 200 and not client.head("/").data
    answer = client.options("/predict")
    assert answer.status_code == 200 and answer.headers["Allow"] == "POST, OPTIONS"
    assert client.put("/").headers["Allow"] == "GET, HEAD, OPTIONS, POST"


@pytest.mark.parametrize("path", ["/robots.txt", "/favicon.ico", "//predict/x", "/%ff", "/v1/models/", "/predict/"])
def test_no_path_is_answered_in_html(client: flask.testing.FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and answer.json["error"]["status"] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("headers", "code", "words"),
    [
        pytest.param({"Content-Type": "text/html"}, 415, "The body is text/html", id="html"),
        pytest.param({"Content-Type": "multipart/form-data; boundary=x"}, 415, "multipart/form-data", id="form"),
        pytest.param({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415, "encoded as gzip", id="gzip"),
        pytest.param({"Content-Type": "image/gif"}, 415, "image/png", id="gif"),
        pytest.param({"X-Parameters": "{"}, 400, "X-Parameters is no JSON object", id="parameters-no-json"),
        pytest.param({"X-Parameters": "3"}, 400, "X-Parameters is no JSON object", id="parameters-no-object"),
        pytest.param({"X-Parameters": '{"top": 11}'}, 400, "from 1 to 10", id="top-too-large"),
        pytest.param({"X-Parameters": '{"top": true}'}, 400, "from 1 to 10", id="top-boolean"),
        pytest.param({"X-Parameters": '{"top": 1.0}'}, 400, "from 1 to 10", id="top-float"),
        pytest.param({"X-Parameters": '{"invert": 1}'}, 400, "true or false", id="invert-number"),
        pytest.param({"X-Parameters": '{"scale": 255}'}, 400, "found others", id="unknown"),
    ],
)
def test_bad_headers_get_a_sentence(client: flask.testing.FlaskClient, headers: dict[str, str], code: int, words: str) -> None:
    answer = client.post("/", data=json.dumps({"instances": [[0] * 64]}), headers=headers)
    assert answer.status_code == code and words in answer.json["error"]["message"]
    assert answer.json["error"]["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("by_header", [True, False], ids=["header", "body"])
def test_labels_with_scores_are_answered_when_asked(client: flask.testing.FlaskClient, bundle: Bundle, by_header: bool) -> None:
    images, expected, tolerance = bundles.golden(bundle)
    body, wish = {"instances": images.tolist()}, {"top": 3}
    headers = {"X-Parameters": json.dumps(wish)} if by_header else {}
    answer = client.post("/", json=body if by_header else {**body, "parameters": wish}, headers=headers)
    for found, probabilities in zip(answer.json["predictions"], expected, strict=True):
        best = np.argsort(-probabilities)[:3]
        assert [entry["label"] for entry in found] == [str(place) for place in best]
        assert np.allclose([entry["score"] for entry in found], probabilities[best], atol=tolerance)


def test_a_client_that_hangs_up_is_no_failure(client: flask.testing.FlaskClient) -> None:
    answer = client.post("/", data='{"instances":', environ_overrides={"CONTENT_LENGTH": "7000"})
    assert answer.status_code == 400 and answer.json["error"]["status"] == "INVALID_ARGUMENT"


def test_a_request_id_comes_back(client: flask.testing.FlaskClient) -> None:
    for answer in (client.get("/", headers={"X-Request-Id": "a-1"}), client.post("/", data="{", headers={"X-Request-Id": "a-1"})):
        assert answer.headers["X-Request-Id"] == "a-1"
    made = {client.post("/", data="{", headers=given).headers["X-Request-Id"] for given in ({}, {"X-Request-Id": "x" * 300})}
    assert len(made) == 2 and all(0 < len(name) <= 200 for name in made)


def test_other_sites_pages_may_ask_only_where_the_settings_say_so(client: flask.testing.FlaskClient, service: Service, good: str) -> None:
    assert not [name for name in client.options("/predict").headers.keys() if name.startswith("Access-Control")]
    settings = dataclasses.replace(service.settings, target_allow_origin="https://example.org")
    other = bundles.build(settings, service.registry, service.registry.model(good))
    open_to_one = functions_framework.create_app("predict", str(other.folder / "main.py")).test_client()
    preflight = open_to_one.options("/predict", headers={"Origin": "https://example.org", "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 200 and preflight.headers["Access-Control-Allow-Origin"] == "https://example.org"
    assert "Content-Type" in preflight.headers["Access-Control-Allow-Headers"]
    assert open_to_one.post("/", data="{").headers["Access-Control-Allow-Origin"] == "https://example.org"


def test_the_document_of_the_function_knows_its_paths_and_sizes(client: flask.testing.FlaskClient, bundle: Bundle) -> None:
    document = client.get("/openapi.json").json
    for path, operations in document["paths"].items():
        assert set(client.options(path).headers["Allow"].lower().split(", ")) - {"head", "options"} == set(operations)
    instance = document["components"]["schemas"]["Instance"]["anyOf"]
    assert instance[0]["minItems"] == instance[0]["maxItems"] == 64 and instance[1]["minItems"] == 8
    assert "/v1/models/digits:predict" in document["paths"]
    assert set(re.findall(r'"[A-Z]+"|SERVICE', (bundle.folder / "openapi.json").read_text())) == {'"AVAILABLE"'}


def test_a_short_cut_never_reads_otherwise(client: flask.testing.FlaskClient, bundle: Bundle) -> None:
    """One image in the usual notation is read another way than the rest: whatever is done to a body, both say the same."""
    random = np.random.default_rng(8)
    image = bundles.golden(bundle)[0][0]
    forms = [json.dumps({"instances": [image.reshape(shape).tolist()]}) for shape in ((64,), (8, 8), (8, 8, 1))]
    forms += [form.replace(" ", "") for form in forms]
    answered = 0
    for _ in range(1500):
        body = forms[random.integers(len(forms))]
        for _ in range(random.integers(0, 3)):
            place = int(random.integers(len(body)))
            body = body[:place] + str(random.choice(list('0159 ,[]{}:".-eE+') + [""])) + body[place + int(random.integers(0, 3)) :]
        short = client.post("/", data=body)
        whole = client.post("/", data=body, headers={"X-Parameters": "{}"})  # which the short cut leaves alone
        assert (short.status_code, short.json) == (whole.status_code, whole.json), body
        answered += short.status_code == 200
    assert answered > 300


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


def remove_model(folder: Path) -> None:
    (folder / "model.tflite").unlink()


def change_model(folder: Path) -> None:
    with (folder / "model.tflite").open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change_contract, "contract 2; this handler knows 1 only"),
        (change_model, "model.tflite has SHA-256"),
        (remove_model, "model.tflite"),
    ],
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


@pytest.mark.parametrize("damage", [change_model, change_contract, remove_model])
def test_a_changed_bundle_is_laid_anew(service: Service, bundle: Bundle, good: str, damage) -> None:
    damage(bundle.folder)
    again = bundles.build(service.settings, service.registry, service.registry.model(good))
    with bundles.open_in_process(again) as endpoint:
        assert again == bundle and endpoint.describe()["model"] == good
