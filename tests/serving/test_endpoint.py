"""The client believes only what can be believed."""

import socket
import time

import httpx
import numpy as np
import orjson
import pytest
from rowmill.errors import EndpointError, ParameterError
from rowmill.records import LIMITS
from rowmill.serving import endpoint as endpoints
from rowmill.serving.endpoint import Endpoint

IMAGES = np.zeros((1500, 2, 2, 1), np.uint8)


def answering(*answers: object) -> Endpoint:
    """Return an endpoint that gives these answers in turn, the last one for ever."""
    left = list(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        content = answer(orjson.loads(request.content)) if callable(answer) else answer
        return content if isinstance(content, httpx.Response) else httpx.Response(200, content=orjson.dumps(content))

    return Endpoint("http://model", httpx.MockTransport(handle))


def halves(model: str):
    """Return an answer of one half per label."""
    return lambda body: {"predictions": [[0.5, 0.5]] * len(body["instances"]), "deployedModelId": model}


def test_predicts_in_batches() -> None:
    with answering(halves("a")) as endpoint:
        probabilities, model = endpoint.predict(IMAGES)
    assert probabilities.shape == (1500, 2) and model == "a"


def test_a_batch_keeps_the_functions_limits_however_bright_its_images_are() -> None:
    sent: list[int] = []

    def weigh(request: httpx.Request) -> httpx.Response:
        sent.append(len(request.content))
        return httpx.Response(200, content=orjson.dumps(halves("a")(orjson.loads(request.content))))

    with Endpoint("http://model", httpx.MockTransport(weigh)) as endpoint:
        assert len(endpoint.predict(np.full((600, 64, 64, 1), 255, np.uint8))[0]) == 600
    assert len(sent) == 2 and max(sent) <= LIMITS["bytes"]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        pytest.param([httpx.ConnectError("refused")], r"does not answer \(ConnectError\)", id="down"),
        pytest.param([httpx.ReadTimeout("slow")], r"does not answer \(ReadTimeout\)", id="slow"),
        pytest.param([httpx.Response(500, content=b"<html>")], "does not answer JSON; found code 500", id="html"),
        pytest.param([httpx.Response(500, content=b'{"error": "x"}')], "answers code 500", id="500"),
        pytest.param([{"hello": 1}], "answers no predictions with a model id", id="something-else"),
        pytest.param([{"predictions": [[0.5, 0.5]], "deployedModelId": "a"}], "must answer 1024 rows", id="too-few"),
        pytest.param([lambda b: {"predictions": [0.5] * len(b["instances"]), "deployedModelId": "a"}], "must answer 1024 rows", id="shape"),
        pytest.param([lambda b: {"predictions": [[0.9, 0.9]] * len(b["instances"]), "deployedModelId": "a"}], "no probabilities", id="sum"),
        pytest.param(
            [lambda b: {"predictions": [[1.5, -0.5]] * len(b["instances"]), "deployedModelId": "a"}], "no probabilities", id="negative"
        ),
        pytest.param([lambda b: {"predictions": [[None, 1]] * len(b["instances"]), "deployedModelId": "a"}], "no probabilities", id="nan"),
        pytest.param([halves("a"), halves("b")], "changed its model while it was asked; found a and b", id="changes-model"),
    ],
)
def test_what_cannot_be_believed_is_named(answers: list[object], words: str) -> None:
    with answering(*answers) as endpoint, pytest.raises(EndpointError, match=words):
        endpoint.predict(IMAGES)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No time passes between two tries; returns how long they would have waited."""
    slept: list[float] = []
    monkeypatch.setattr(endpoints.time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize(
    "chance",
    [
        httpx.ConnectError("refused"),
        httpx.RemoteProtocolError("closed"),
        httpx.Response(503, content=b"<html>"),
        httpx.Response(429, json={}),
    ],
    ids=["down", "closed", "503", "429"],
)
def test_what_fails_by_chance_is_asked_again(chance: object, waits: list[float]) -> None:
    with answering(chance, chance, halves("a")) as endpoint:
        assert endpoint.predict(IMAGES[:3])[1] == "a"
    assert len(waits) == 2 and waits[1] > waits[0] > 0


def test_what_is_refused_is_not_asked_again(waits: list[float]) -> None:
    refusal = httpx.Response(400, json={"error": {"message": "A pixel is 300."}})
    with answering(refusal, halves("a")) as endpoint, pytest.raises(EndpointError, match="A pixel is 300"):
        endpoint.predict(IMAGES[:3])
    assert not waits


def test_a_description_is_asked_once(waits: list[float]) -> None:
    with answering(httpx.ConnectError("refused")) as endpoint, pytest.raises(EndpointError):
        endpoint.describe()
    assert not waits


@pytest.mark.parametrize(
    ("images", "words"),
    [
        pytest.param(IMAGES / 255.0, "found float64", id="scaled"),
        pytest.param(IMAGES[0], r"found uint8, \(2, 2, 1\)", id="one"),
        pytest.param(IMAGES[:0], "with at least one", id="none"),
    ],
)
def test_images_of_another_kind_are_refused(images: np.ndarray, words: str) -> None:
    with answering(halves("a")) as endpoint, pytest.raises(ParameterError, match=words):
        endpoint.predict(images)


def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with Endpoint(address, seconds=0.2) as endpoint, pytest.raises(EndpointError, match=r"does not answer \(ReadTimeout\)"):
            endpoint.predict(IMAGES[:1])
        assert time.monotonic() - started < 0.7


def test_something_else_at_the_address_is_named() -> None:
    with answering({"status": "ok"}) as endpoint, pytest.raises(EndpointError, match="does not say which model answers"):
        endpoint.describe()
