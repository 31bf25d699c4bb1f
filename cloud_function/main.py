"""Serve one model over HTTP: a Cloud Run function, and the same file under functions-framework anywhere else.

Beside this file lie the model's file and `model.json`, the contract: model id, input, labels, hash, golden examples.
"""

import gc
import hashlib
import io
import itertools
import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import flask
import functions_framework
import numpy as np
import numpy.typing as npt
import orjson
from ai_edge_litert.interpreter import Interpreter

CONTRACT = 1
MAX_BYTES, MAX_INSTANCES = 8 * 1024 * 1024, 1024
PREDICT_PATHS = ("/", "/predict")


class Refusal(Exception):
    """A request that cannot be answered, as an HTTP code and a sentence."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Model:
    """The model in this folder, checked and warm.

    Attributes:
        card: What `model.json` says.
        since: When it was loaded, UTC, ISO 8601.
    """

    def __init__(self, folder: Path) -> None:
        self.card: dict[str, Any] = json.loads((folder / "model.json").read_text("utf-8"))
        if self.card.get("contract") != CONTRACT:
            raise SystemExit(
                f"model.json has contract {self.card.get('contract')!r}; this handler knows {CONTRACT} only: build the bundle anew."
            )
        content = (folder / self.card["file"]).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.card["sha256"]:
            raise SystemExit(f"{self.card['file']} has SHA-256 {found[:12]}..., not {self.card['sha256'][:12]}...: build the bundle anew.")
        self.shape = tuple(self.card["input"]["shape"])
        self.since = datetime.now(UTC).isoformat(timespec="seconds")
        # An interpreter is not thread-safe, and the host calls from several threads.
        self._lock = threading.Lock()
        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._rows = 0
        self.predict(np.zeros((1, *self.shape), np.uint8))

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the probabilities, (images, labels), of uint8 images, (images, *shape)."""
        with self._lock:
            if len(images) != self._rows:
                self._interpreter.resize_tensor_input(self._input, images.shape)
                self._interpreter.allocate_tensors()
                self._rows = len(images)
            self._interpreter.set_tensor(self._input, images)
            self._interpreter.invoke()
            answers: npt.NDArray[np.float32] = self._interpreter.get_tensor(self._output)
            return answers


MODEL = Model(Path(__file__).resolve().parent)
# The loaded model lives as long as the process: collecting it again and again costs 10 ms pauses.
gc.collect()
gc.freeze()


@functions_framework.http
def predict(request: flask.Request) -> flask.Response:
    """Answer one request: POST predicts, GET tells which model answers."""
    try:
        if request.path not in PREDICT_PATHS:
            raise Refusal(404, f"There is no {request.path[:80]}; POST to / predicts, GET / tells which model answers.")
        if request.method in ("GET", "HEAD"):
            return _answer(200, _describe())
        if request.method != "POST":
            raise Refusal(405, f"{request.method} is not answered here; POST to / predicts, GET / tells which model answers.")
        predictions = MODEL.predict(_images(_instances(request)))
        return _answer(200, {"predictions": predictions, "deployedModelId": MODEL.card["model"]})
    except Refusal as refusal:
        return _answer(refusal.code, {"error": {"code": refusal.code, "message": str(refusal)}})


def _answer(code: int, content: dict[str, Any]) -> flask.Response:
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return flask.Response(body, code, content_type="application/json")


def _describe() -> dict[str, Any]:
    card = {name: MODEL.card[name] for name in ("contract", "model", "service", "input", "labels")}
    return {**card, "state": "AVAILABLE", "since": MODEL.since}


def _instances(request: flask.Request) -> list[Any]:
    body = request.stream.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        # The host reads what is left once the function is done; there may be no end to it.
        request.stream = io.BytesIO()
        raise Refusal(413, f"The body has more than {MAX_BYTES} bytes; send fewer instances in one request.")
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(400, 'The body is not JSON; send {"instances": [...]}.') from None
    instances = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(instances, list) or not instances:
        raise Refusal(400, 'The body has no instances; send {"instances": [...]} with at least one.')
    if len(instances) > MAX_INSTANCES:
        raise Refusal(413, f"The body has {len(instances)} instances; send at most {MAX_INSTANCES} in one request.")
    return instances


def _images(instances: list[Any]) -> npt.NDArray[np.uint8]:
    """Return uint8 images, (instances, *shape), of flat or nested lists of pixels."""
    wanted = f"each instance is {int(np.prod(MODEL.shape))} whole numbers from 0 to 255, flat or nested as {list(MODEL.shape)}"
    leaves: list[Any] = instances
    while set(map(type, leaves)) == {list}:
        leaves = list(itertools.chain.from_iterable(leaves))
    # Before numpy sees it: numpy takes "5" and true for numbers, and a long text for a huge array.
    if not set(map(type, leaves)) <= {int, float}:
        raise Refusal(400, f"The instances hold something else than numbers, or differ in shape; {wanted}.")
    try:
        pixels = np.asarray(instances)
    except (ValueError, OverflowError):
        raise Refusal(400, f"The instances differ in shape; {wanted}.") from None
    if pixels.shape[1:] not in (MODEL.shape, MODEL.shape[:-1] if MODEL.shape[-1] == 1 else MODEL.shape, (int(np.prod(MODEL.shape)),)):
        raise Refusal(400, f"An instance has shape {list(pixels.shape[1:])}; {wanted}.")
    bad = ~((pixels >= 0) & (pixels <= 255) & (pixels == np.floor(pixels)))
    if bad.any():
        raise Refusal(400, f"A pixel is {pixels[bad][0]}; {wanted}.")
    return pixels.astype(np.uint8).reshape(-1, *MODEL.shape)
