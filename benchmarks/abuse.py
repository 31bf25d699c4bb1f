"""What a served function must bear in a benchmark: many clients at once, many requests, and bodies that no client should send."""

import base64
import http.client
import io
import json
import random
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import servers
from benchmarks.figures import Figure
from benchmarks.servers import Form, Peer, Running

CLIENTS = (1, 8, 64)
_file = io.BytesIO()
Image.fromarray(np.arange(784, dtype=np.uint8).reshape(28, 28)).save(_file, "PNG")
_PNG = _file.getvalue()
_SLOW = 1.0  # second, for one answer
_CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
Digits = np.ndarray[Any, Any]


def wrong(server: Running, forms: list[Form], expected: Digits, count: int) -> list[Figure]:
    """Ask different images from several clients at once; each answer is checked."""
    return [none(f"wrong of {count:,} at {clients} clients", _wrong(server, forms, expected, (count, clients))) for clients in CLIENTS]


def _wrong(server: Running, forms: list[Form], expected: Digits, amount: tuple[int, int]) -> int:
    count, clients = amount
    found: list[int] = []

    def ask(seed: int) -> None:
        connection, choice, bad = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60), random.Random(seed), 0
        for _ in range(count // clients):
            row = choice.randrange(len(forms))
            code, answer = server.ask(forms[row], connection)
            bad += code != 200 or not np.allclose(servers.probabilities(answer), expected[row], atol=1e-4)
        found.append(bad)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(found) + (clients - len(found))


def growth(server: Running, form: Form, folder: Path, count: int) -> list[Figure]:
    """Compare the memory after some requests with that after many."""
    servers.load(server, form, 8, 2.0, folder)
    before, asked = server.megabytes(), 0.0
    while asked < count:
        asked += 10 * servers.load(server, form, 8, 10.0, folder).rate
    after = server.megabytes()
    size = Figure("memory of the process", after, "MB", 110.0, after / 110, [after], "<= 1", after <= 110)
    return [
        Figure(f"memory after {int(asked):,} requests", after, "MB", before, after / before, [after], "<= 1.05", after <= 1.05 * before),
        size,
    ]


def none(name: str, count: int) -> Figure:
    """Return a figure that must be nought."""
    return Figure(name, count, "", 0.0, float(count), [float(count)], "<= 0", count == 0)


def fuzz(server: Running, form: Form, expected: Digits, count: int) -> list[Figure]:
    """Send random bodies of our own and of schemathesis; then ask something sensible."""
    failed, slowest = 0, 0.0
    choice = random.Random(3)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for _ in range(count):
        started = time.perf_counter()
        code, answer = server.ask(odd(form, choice), connection)
        slowest = max(slowest, time.perf_counter() - started)
        failed += code >= 500 or not _in_order(code, answer)
    broken = _schemathesis(server, count)
    code, answer = server.ask(form)
    right = code == 200 and np.allclose(servers.probabilities(answer), expected, atol=1e-4)
    return [
        none(f"{count:,} random bodies: answers that are no JSON sentence, or 5xx", failed),
        Figure("slowest answer to them", slowest, "s", _SLOW, slowest / _SLOW, [slowest], "<= 1", slowest <= _SLOW),
        none(f"{count:,} by schemathesis: failures", broken),
        none("wrong after that", int(not right)),
    ]


def _in_order(code: int, answer: bytes) -> bool:
    content = json.loads(answer)
    return "predictions" in content if code == 200 else content["error"]["code"] == code and content["error"]["message"].endswith(".")


def odd(form: Form, choice: random.Random) -> Form:
    """Return a body that is a sensible one with changes, a random JSON value, an image with changes, or random bytes."""
    match choice.randrange(5):
        case 0:
            return form[0], _changed(form[1], choice)
        case 1:
            return form[0], json.dumps({"instances": _value(choice, 6), "parameters": _value(choice, 2)}).encode()
        case 2:
            return "image/png", _changed(_PNG, choice)
        case 3:
            return form[0], json.dumps({"instances": [{"b64": base64.b64encode(_changed(_PNG, choice)).decode()}]}).encode()
    kinds = [form[0], "", "image/jpeg", "text/html", "application/octet-stream"]
    return choice.choice(kinds), choice.randbytes(choice.randrange(2000))


def _changed(body: bytes, choice: random.Random) -> bytes:
    for _ in range(choice.randrange(1, 8)):
        place = choice.randrange(len(body))
        body = body[:place] + choice.randbytes(choice.randrange(4)) + body[place + choice.randrange(20) :] or b"\0"
    return body


def _value(choice: random.Random, depth: int) -> Any:
    many = choice.randrange(5)
    kinds = [None, True, choice.randrange(-9, 300), choice.random() * 1e300, 2**70, "5", "ÃĪ", float(choice.randrange(256))]
    match choice.randrange(4) if depth else 3:
        case 0:
            return [_value(choice, depth - 1) for _ in range(many)]
        case 1:
            return [choice.randrange(-1, 257) for _ in range(choice.choice([783, 784, 785]))]
        case 2:
            return {choice.choice(["b64", "image_bytes", "top", "invert", "x"]): _value(choice, depth - 1) for _ in range(many)}
    return choice.choice(kinds)


def _schemathesis(server: Running, count: int) -> int:
    """Return how many checks of schemathesis failed; its whole word is printed then."""
    packages = ("schemathesis>=4",)
    python = Peer("schemathesis", "schemathesis", packages, ()).python()
    address = f"http://127.0.0.1:{server.port}/openapi.json"
    # Its examples are for each of six operations.
    options = [
        "--checks",
        _CHECKS,
        "--max-examples",
        str(count // 6),
        "--seed",
        "1",
        "--no-color",
        "--workers",
        "1",
        "--max-response-time",
        str(_SLOW),
    ]
    command: list[str | Path] = [python.with_name("schemathesis"), "run", address, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=python.parent)
    if done.returncode:
        print(done.stdout[-6000:], done.stderr[-2000:])
    else:
        print(done.stdout[-700:])
    return done.returncode
