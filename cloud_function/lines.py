"""One line of JSON on stdout for each request that was answered: what came in, in numbers, and what the model said to it.

The images are in it only where a setting says so; else a keyed hash of them, where the variable ROWMILL_HASH_KEY has a key.
"""

import base64
import contextlib
import hmac
import itertools
import math
import os
import secrets
import threading
import time
import zlib
from datetime import UTC, datetime
from typing import Any

import flask
import numpy as np
import numpy.typing as npt
import orjson

SILENT = "rowmill.silent"  # who asks a model in its own process, to judge it, says so in the request's environment; no header can
_IMAGES_BYTES = 200_000  # Cloud Logging cuts an entry at 256 kB
_LOW, _HIGH = bytes(value * value % 256 for value in range(256)), bytes(value * value // 256 for value in range(256))
_PIPE_BYTES, _STDOUT = 512, 1
_PROCESS, _NUMBERS = secrets.token_hex(8), itertools.count(1)  # a random number for each request would cost as much as its line
_FREE = contextlib.nullcontext()


class Line:
    """One request's line, from its arrival on."""

    def __init__(self, request: flask.Request) -> None:
        given = request.headers.get("X-Request-Id", "")
        self.request_id = given if given and given.isascii() and len(given) <= 200 else f"{_PROCESS}-{next(_NUMBERS)}"
        self.silent = SILENT in request.environ
        self.started = time.perf_counter()
        self.images: npt.NDArray[np.uint8] | None = None
        self.answers: npt.NDArray[np.float32] | None = None


class Lines:
    """Writes the lines of one model's requests, each by one `write`, so that threads do not mix theirs."""

    def __init__(self, model: str, service: str, labels: list[str], keep_images: bool) -> None:
        self._named = {"kind": "prediction", "service": service, "model": model}
        self._labels, self._keep_images = labels, keep_images
        self._key = os.environ.get("ROWMILL_HASH_KEY", "").encode()
        self._lock = threading.Lock()
        self._torn = False

    def write(self, line: Line, code: int) -> None:
        """Write what became of a request; what cannot be written, as on a full disk, is lost, and the answer is not."""
        if line.silent:
            return
        took = (time.perf_counter() - line.started) * 1000
        # Not `time`, which Cloud Logging takes out of the line.
        told = {**self._named, "answered_at": datetime.now(UTC), "request_id": line.request_id, "code": code, "latency_ms": round(took, 3)}
        content = orjson.dumps({**told, **self._seen(line)}, option=orjson.OPT_APPEND_NEWLINE)
        content = b"\n" + content if self._torn else content
        # A file takes a line as a whole, a pipe a short one. Threads that wait for each other here would cost a fifth of all requests.
        with self._lock if len(content) > _PIPE_BYTES else _FREE:
            self._put(content)

    def _put(self, content: bytes) -> None:
        written = 0
        try:
            while written < len(content):
                written += os.write(_STDOUT, content[written:])
            self._torn = False
        except OSError:
            self._torn = self._torn or written > 0

    def _seen(self, line: Line) -> dict[str, Any]:
        """Return label, confidence, and mean and deviation of the pixels, 0 to 255, of each instance; nothing of what was refused."""
        if line.images is None or line.answers is None:
            return {"instances": 0}
        images = [image.tobytes() for image in line.images]
        moments = [_moments(image) for image in images]
        best = line.answers.argmax(axis=1).tolist()
        return {
            "instances": len(images),
            "labels": [self._labels[place] for place in best],
            "confidences": [round(float(line.answers[row, place]), 6) for row, place in enumerate(best)],
            "means": [mean for mean, _ in moments],
            "deviations": [deviation for _, deviation in moments],
            **({"hash": hmac.digest(self._key, b"".join(images), "sha256").hex()} if self._key else {}),
            **self._images(images),
        }

    def _images(self, images: list[bytes]) -> dict[str, list[str]]:
        """Return the pixels of each instance in base64, where they are wanted and fit into one line."""
        if not self._keep_images or len(images) * len(images[0]) * 4 // 3 > _IMAGES_BYTES:
            return {}
        return {"images": [base64.b64encode(image).decode() for image in images]}


def _moments(pixels: bytes) -> tuple[float, float]:
    """Return mean and deviation of pixels, from whole numbers: a square is 256 times one byte and another one."""
    size = len(pixels)
    mean = _sum(pixels) / size
    square = (256 * _sum(pixels.translate(_HIGH)) + _sum(pixels.translate(_LOW))) / size
    return round(mean, 3), round(math.sqrt(max(0.0, square - mean * mean)), 3)


def _sum(values: bytes) -> int:
    """Return the sum of bytes, by the half of zlib's checksum that is one where there are 256 of them at most.

    numpy would give way to other threads at each step, which costs more than the sum.
    """
    return sum((zlib.adler32(values[at : at + 256]) & 0xFFFF) - 1 for at in range(0, len(values), 256))
