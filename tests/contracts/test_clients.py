"""Requests as the clients of TensorFlow Serving, KServe v1 and Vertex AI send them get the answers that those clients look for."""

import base64
import io
import json

import flask.testing
import numpy as np
import pytest
from PIL import Image
from rowmill.records import Bundle
from rowmill.serving import bundle as bundles

IMAGES = slice(0, 3)


def png(image: np.ndarray) -> bytes:
    """Return an (8, 8, 1) image as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(file, "PNG")
    return file.getvalue()


def b64(image: np.ndarray) -> str:
    """Return an image as a PNG file in base64."""
    return base64.b64encode(png(image)).decode()


# Path, headers and body of each client; MODEL is the service's name.
REQUESTS = {
    # Its REST page: curl -d without a type says that it is a form; and its tutorial on images, as many notebooks have it.
    "tensorflow-serving-curl": (
        "/v1/models/MODEL:predict",
        {"Content-Type": "application/x-www-form-urlencoded"},
        lambda images: {"instances": images.tolist()},
    ),
    "tensorflow-serving-tutorial": (
        "/v1/models/MODEL:predict",
        {"content-type": "application/json"},
        lambda images: {"signature_name": "serving_default", "instances": images.tolist()},
    ),
    # requests.post(url, data=text) says no type at all; three images of height x width, as for a digits model.
    "requests-without-a-type": (
        "/v1/models/MODEL:predict",
        {},
        lambda images: {"signature_name": "serving_default", "instances": images[..., 0].tolist()},
    ),
    "tensorflow-serving-binary": ("/v1/models/MODEL:predict", {}, lambda images: {"instances": [{"b64": b64(image)} for image in images]}),
    # KServe: curl -H "Content-Type: application/json" -d @input.json; its image transformer's form.
    "kserve-flat": (
        "/v1/models/MODEL:predict",
        {"Content-Type": "application/json"},
        lambda images: {"instances": images.reshape(len(images), -1).tolist()},
    ),
    "kserve-image-bytes": (
        "/v1/models/MODEL:predict",
        {"Content-Type": "application/json"},
        lambda images: {"instances": [{"image_bytes": {"b64": b64(image)}, "key": str(row)} for row, image in enumerate(images)]},
    ),
    # Vertex AI sends its container the instances and the parameters, null where there are none.
    "vertex-ai": (
        "/predict",
        {"Content-Type": "application/json; charset=utf-8"},
        lambda images: {"instances": images.tolist(), "parameters": None},
    ),
    "vertex-ai-floats": ("/predict", {"Content-Type": "application/json"}, lambda images: {"instances": images.astype(float).tolist()}),
    "function": ("/", {"Content-Type": "application/json"}, lambda images: {"instances": images.tolist()}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_each_client_gets_its_predictions(client: flask.testing.FlaskClient, bundle: Bundle, name: str) -> None:
    path, headers, body = REQUESTS[name]
    images, expected, tolerance = bundles.golden(bundle)
    answer = client.post(path.replace("MODEL", bundle.service), headers=headers, data=json.dumps(body(images[IMAGES])))
    assert answer.status_code == 200, answer.text
    assert np.allclose(answer.json["predictions"], expected[IMAGES], atol=tolerance)


def test_an_answer_names_the_model_as_vertex_ai_does(client: flask.testing.FlaskClient, bundle: Bundle) -> None:
    images, _, _ = bundles.golden(bundle)
    answer = client.post(f"/v1/models/{bundle.model_id}:predict", json={"instances": images[:1].tolist()}).json
    assert (answer["deployedModelId"], answer["modelDisplayName"]) == (bundle.model_id, "digits")
    assert answer["modelVersionId"] == bundle.sha256[:12]


def test_readiness_is_told_as_kserve_and_tensorflow_serving_do(client: flask.testing.FlaskClient) -> None:
    told = client.get("/v1/models/digits").json
    assert (told["name"], told["ready"]) == ("digits", True)
    (version,) = told["model_version_status"]
    assert version["state"] == "AVAILABLE" and version["status"] == {"error_code": "OK", "error_message": ""}
    assert client.get("/health").json == client.get("/").json == told


def test_a_scaled_image_is_refused_with_the_range(client: flask.testing.FlaskClient, bundle: Bundle) -> None:
    """Many notebooks divide by 255 before they ask; here scaling is the model's own."""
    images, _, _ = bundles.golden(bundle)
    answer = client.post("/v1/models/digits:predict", json={"instances": (images / 255.0).tolist()})
    assert answer.status_code == 400 and "whole numbers from 0 to 255" in answer.json["error"]["message"]
    assert answer.json["error"]["status"] == "INVALID_ARGUMENT"


def test_another_models_name_is_not_found(client: flask.testing.FlaskClient) -> None:
    answer = client.post("/v1/models/half_plus_two:predict", json={"instances": [1.0]})
    assert answer.status_code == 404 and "/v1/models/digits:predict" in answer.json["error"]["message"]
