"""The client believes only what can be believed."""

import httpx
import numpy as np
import orjson
import pytest
from rowmill.errors import EndpointError
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


def test_something_else_at_the_address_is_named() -> None:
    with answering({"status": "ok"}) as endpoint, pytest.raises(EndpointError, match="does not say which model answers"):
        endpoint.describe()
