"""PNG and JPEG files: what is taken, what is refused, and what nobody guesses."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable

import flask.testing
import numpy as np
import pytest
from PIL import Image
from rowmill.records import Bundle
from rowmill.serving import bundle as bundles

Post = Callable[[bytes], "flask.testing.TestResponse"]


@pytest.fixture
def digit(bundle: Bundle) -> np.ndarray:
    """A golden image, uint8, (8, 8)."""
    return bundles.golden(bundle)[0][0, :, :, 0]


@pytest.fixture
def expected(client: flask.testing.FlaskClient, digit: np.ndarray) -> list[float]:  # pylint: disable=redefined-outer-name
    """Its probabilities, asked as numbers."""
    return client.post("/", json={"instances": [digit.tolist()]}).json["predictions"][0]


def file(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return an image as a file."""
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def bomb(side: int) -> bytes:
    """Return a small PNG that claims to be square and large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10_000)) + chunk(b"IEND", b"")


GREY = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: image, id="grey"),
        pytest.param(lambda image: image.convert("RGB"), id="rgb"),
        pytest.param(lambda image: image.convert("RGBA"), id="opaque"),
        pytest.param(lambda image: image.convert("P"), id="palette"),
    ],
)
def test_a_png_is_answered_as_its_pixels_are(
    client: flask.testing.FlaskClient, digit: np.ndarray, expected: list[float], change: Callable[[Image.Image], Image.Image]
) -> None:
    body = file(change(Image.fromarray(digit)))
    raw = client.post("/", data=body, content_type="image/png")
    assert raw.status_code == 200 and np.allclose(raw.json["predictions"], [expected], atol=1e-6)
    inside = client.post("/", json={"instances": [{"b64": base64.b64encode(body).decode()}] * 3})
    assert np.allclose(inside.json["predictions"], [expected] * 3, atol=1e-6)


def test_a_jpeg_is_answered_as_its_pixels_are(client: flask.testing.FlaskClient, digit: np.ndarray) -> None:
    body = file(Image.fromarray(digit), "JPEG", quality=95)
    pixels = np.asarray(Image.open(io.BytesIO(body)))
    expected_here = client.post("/", json={"instances": [pixels.tolist()]}).json["predictions"]
    answer = client.post("/predict", data=body, content_type="image/jpeg")
    assert np.allclose(answer.json["predictions"], expected_here, atol=1e-6)


def test_a_picture_is_turned_upright_as_training_does(client: flask.testing.FlaskClient, digit: np.ndarray, expected: list[float]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # it lies upside down
    body = file(Image.fromarray(np.rot90(digit, 2).copy()), exif=exif)
    assert np.allclose(client.post("/", data=body, content_type="image/png").json["predictions"], [expected], atol=1e-6)


def test_dark_on_light_is_inverted_only_when_asked(client: flask.testing.FlaskClient, digit: np.ndarray, expected: list[float]) -> None:
    body = file(Image.fromarray(255 - digit))
    plain = client.post("/", data=body, content_type="image/png").json["predictions"][0]
    header = {"X-Parameters": '{"invert": true}'}
    inverted = client.post("/", data=body, content_type="image/png", headers=header).json["predictions"][0]
    assert np.allclose(inverted, expected, atol=1e-6) and not np.allclose(plain, expected, atol=1e-3)


def test_another_size_is_resized_only_where_the_model_says_so(
    client: flask.testing.FlaskClient, bundle: Bundle, digit: np.ndarray, expected: list[float]
) -> None:
    body = file(Image.fromarray(digit).resize((64, 64), Image.Resampling.NEAREST))
    answer = client.post("/", data=body, content_type="image/png")
    assert answer.status_code == 400 and "64 x 64 pixels; this model takes 8 x 8 and resizes nothing" in answer.json["error"]["message"]
    card = json.loads((bundle.folder / "model.json").read_text())
    card["input"]["resize"] = True
    (bundle.folder / "model.json").write_text(json.dumps(card))
    with bundles.open_in_process(bundle) as endpoint:
        assert endpoint.describe()["input"]["resize"]
        again = endpoint._client.post("/", content=body, headers={"Content-Type": "image/png"})  # pylint: disable=protected-access
    assert again.status_code == 200 and np.argmax(again.json()["predictions"][0]) == np.argmax(expected)


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        pytest.param(b"", 400, "broken, cut short", id="empty"),
        pytest.param(file(GREY)[:60], 400, "broken, cut short", id="png-cut-short"),
        pytest.param(file(GREY, "JPEG")[:200], 400, "broken, cut short", id="jpeg-cut-short"),
        pytest.param(file(GREY, "GIF"), 400, "no PNG or JPEG", id="gif"),
        pytest.param(file(GREY, "BMP"), 400, "no PNG or JPEG", id="bmp"),
        pytest.param(bomb(60_000), 400, "too large", id="bomb"),
        pytest.param(bomb(9_000), 413, "9000 x 9000 pixels", id="large"),
        pytest.param(file(Image.fromarray(np.zeros((8, 8), np.uint16))), 400, "not 8 bits a channel", id="16-bit"),
        pytest.param(file(GREY.convert("CMYK"), "JPEG"), 200, "", id="cmyk"),
        pytest.param(file(GREY.convert("RGBA").rotate(45)), 400, "transparent in places", id="transparent"),
        pytest.param(file(GREY, save_all=True, append_images=[GREY.rotate(90)]), 400, "2 frames", id="animated"),
        pytest.param(file(GREY.resize((9, 8))), 400, "8 x 9 pixels", id="size"),
    ],
)
def test_a_bad_image_gets_a_sentence(client: flask.testing.FlaskClient, body: bytes, code: int, words: str) -> None:
    raw = client.post("/", data=body, content_type="image/png")
    inside = client.post("/", json={"instances": [{"image_bytes": {"b64": base64.b64encode(body).decode()}}]})
    assert raw.status_code == inside.status_code == code, raw.text
    if code != 200:
        assert words in raw.json["error"]["message"] and raw.json == inside.json


@pytest.mark.parametrize(
    ("instances", "words"),
    [
        pytest.param([{"b64": "%%%"}], "not base64", id="no-base64"),
        pytest.param([{"b64": "iVBORw0KGg"}], "not base64", id="no-padding"),
        pytest.param([{"b64": "ÃĪ"}], "not base64", id="no-ascii"),
        pytest.param([{"b64": 5}], "is no file", id="number"),
        pytest.param([{}], "is no file", id="nothing"),
        pytest.param([{"image_bytes": "abc"}], "is no file", id="text"),
        pytest.param([{"b64": base64.b64encode(file(GREY)).decode()}, [0] * 64], "is no file", id="mixed"),
        pytest.param([[0] * 64, {"b64": ""}], "differ in shape", id="mixed-otherwise"),
    ],
)
def test_a_bad_file_in_json_gets_a_sentence(client: flask.testing.FlaskClient, instances: list[object], words: str) -> None:
    answer = client.post("/", json={"instances": instances})
    assert answer.status_code == 400 and words in answer.json["error"]["message"]
