"""Whatever is sent, from however many clients: one JSON sentence, no 5xx, and right answers after that."""

import json
import random
from concurrent.futures import ThreadPoolExecutor

import flask.testing
import numpy as np
from rowmill.records import Bundle
from rowmill.serving import bundle as bundles

from benchmarks.abuse import odd


def test_random_bodies_upset_nothing(client: flask.testing.FlaskClient, bundle: Bundle) -> None:
    images, expected, tolerance = bundles.golden(bundle)
    form = ("application/json", json.dumps({"instances": images[:1].tolist()}).encode())
    choice, codes = random.Random(5), set()
    for _ in range(2_000):
        kind, body = odd(form, choice)
        answer = client.post("/", data=body, content_type=kind)
        codes.add(answer.status_code)
        assert answer.content_type == "application/json" and answer.status_code < 500, body
        message = "" if answer.status_code == 200 else answer.json["error"]["message"]
        assert "Traceback" not in message and str(bundle.folder) not in message and "object at 0x" not in message
    assert {400, 415} <= codes <= {200, 400, 415}
    answer = client.post("/", json={"instances": images.tolist()})
    assert np.allclose(answer.json["predictions"], expected, atol=tolerance)


def test_answers_are_right_from_many_clients_at_once(bundle: Bundle) -> None:
    """Of different images, in batches of different sizes: an interpreter is one thread's at a time."""
    images, expected, tolerance = bundles.golden(bundle)

    def ask(seed: int) -> int:
        choice = np.random.default_rng(seed)
        right = 0
        for _ in range(60):
            rows = choice.integers(0, len(images), choice.integers(1, 30))
            answers, _ = endpoint.predict(images[rows])
            right += np.allclose(answers, expected[rows], atol=tolerance)
        return right

    with bundles.open_in_process(bundle) as endpoint, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [60] * 8
