"""Serve one model over HTTP: a Cloud Run function, and the same files under functions-framework anywhere else.

Beside it lie `instances.py`, `lines.py`, `openapi.json`, the model's file, its `model.json`, and `settings.json` if there is one.
"""

import gc
import hashlib
import logging
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
from instances import Images, Wanted, read, read_object, read_one
from lines import Line, Lines
from werkzeug.exceptions import HTTPException, abort

CONTRACT = 1
JSON_TYPES = ("", "application/json", "application/x-www-form-urlencoded")  # the last is what curl -d says of its own accord
IMAGE_TYPES = ("image/png", "image/jpeg")
STATUS = {404: "NOT_FOUND", 405: "UNIMPLEMENTED", 500: "INTERNAL"}


class Model:
    """The model in a folder, checked and warm; `card` is what its `model.json` says."""

    def __init__(self, folder: Path) -> None:
        self.card: dict[str, Any] = orjson.loads((folder / "model.json").read_bytes())
        if (contract := self.card.get("contract")) != CONTRACT:
            raise SystemExit(f"model.json has contract {contract!r}; this handler knows {CONTRACT} only: build the bundle anew.")
        content = (folder / self.card["file"]).read_bytes()
        if (found := hashlib.sha256(content).hexdigest()) != self.card["sha256"]:
            raise SystemExit(f"{self.card['file']} has SHA-256 {found[:12]}..., not {self.card['sha256'][:12]}...: build the bundle anew.")
        self.limits = {"instances": 1024, "bytes": 8 * 2**20, "pixels": 16 * 2**20, **self.card.get("limits", {})}
        height, width, channels = self.card["input"]["shape"]
        resize = self.card["input"].get("resize", False)
        self.wanted = Wanted((height, width, channels), resize, self.limits["instances"], self.limits["pixels"])
        # At a time, or what lies between a network's layers would fill the memory.
        self._most = max(1, 2**18 // (height * width * channels))
        self._lock = threading.Lock()  # an interpreter is not thread-safe, and the host calls from several threads
        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._rows = 0
        self.predict(np.zeros((1, height, width, channels), np.uint8))

    def predict(self, images: Images) -> npt.NDArray[np.float32]:
        """Return the probabilities, (images, labels), of images, (images, *shape)."""
        return np.concatenate([self._answers(images[at : at + self._most]) for at in range(0, len(images), self._most)])

    def _answers(self, images: Images) -> npt.NDArray[np.float32]:
        with self._lock:
            if len(images) != self._rows:
                self._interpreter.resize_tensor_input(self._input, images.shape)
                self._interpreter.allocate_tensors()
                self._rows = len(images)
            self._interpreter.set_tensor(self._input, images)
            self._interpreter.invoke()
            return np.asarray(self._interpreter.get_tensor(self._output), np.float32)


HERE = Path(__file__).resolve().parent
try:
    MODEL, OPENAPI = Model(HERE), orjson.loads((HERE / "openapi.json").read_bytes())
except (OSError, ValueError, KeyError) as broken:
    raise SystemExit(f"The bundle is not whole ({type(broken).__name__}: {broken}): build it anew.") from None
LABELS, SERVICE, MODEL_ID = MODEL.card["labels"], MODEL.card["service"], MODEL.card["model"]
SETTINGS = orjson.loads(path.read_bytes()) if (path := HERE / "settings.json").is_file() else {}
ORIGIN, LINES = SETTINGS.get("allow_origin", ""), Lines(MODEL_ID, SERVICE, LABELS, SETTINGS.get("images", False))
ASK, TELL = ("POST", "OPTIONS"), ("GET", "HEAD", "OPTIONS")
PATHS = {"/": (*TELL, "POST"), "/predict": ASK, "/health": TELL, "/openapi.json": TELL}
PATHS |= {f"/v1/models/{name}": TELL for name in (SERVICE, MODEL_ID)} | {f"/v1/models/{name}:predict": ASK for name in (SERVICE, MODEL_ID)}
# What Vertex AI's clients, TensorFlow Serving's and KServe's look for, beside what model.json says.
NAMES = {"deployedModelId": MODEL_ID, "modelVersionId": MODEL.card["sha256"][:12], "modelDisplayName": SERVICE}
CARD = {key: MODEL.card.get(key) for key in ("contract", "model", "service", "dataset", "input", "labels", "sha256", "exporter")}
VERSION = {"version": NAMES["modelVersionId"], "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
LOADED = {"state": "AVAILABLE", "since": datetime.now(UTC).isoformat(timespec="seconds"), "limits": MODEL.limits}
DESCRIPTION = {**CARD, **LOADED, "name": SERVICE, "ready": True, "model_version_status": [VERSION]}


@functions_framework.http
def predict(request: flask.Request) -> flask.Response:
    """Answer one request, and write its line; whatever is wrong with it is one sentence in JSON."""
    line, code = Line(request), 200
    try:
        if not (methods := PATHS.get(request.path, ())):
            abort(404, f"There is no {request.path[:80]}; found {', '.join(PATHS)}.")
        if request.method not in methods:
            abort(405, f"{request.method[:20]} is not answered at {request.path}; use {', '.join(methods)}.")
        if request.method != "POST":
            return _answer(request, 200, OPENAPI if request.path == "/openapi.json" else DESCRIPTION, line.request_id)
        content = _predictions(request, line)
    except HTTPException as error:
        code, content = error.code or 400, {"message": str(error.description)}
    except Exception:  # pylint: disable=broad-exception-caught  # the outermost place: the log gets the traceback, the client a sentence
        logging.exception("%s %s", request.method, request.path)
        code, content = 500, {"message": "This request cannot be answered; the function's log says why."}
    if code != 200:
        content = {"error": {"code": code, **content, "status": STATUS.get(code, "INVALID_ARGUMENT")}}
    LINES.write(line, code)
    return _answer(request, code, content, line.request_id)


def _answer(request: flask.Request, code: int, content: dict[str, Any], request_id: str) -> flask.Response:
    response = flask.Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), code, content_type="application/json")
    if code == 405 or request.method == "OPTIONS":
        response.headers["Allow"] = ", ".join(PATHS.get(request.path, ()))
    response.headers["X-Request-Id"] = request_id
    if ORIGIN:
        response.headers["Access-Control-Allow-Origin"], response.headers["Vary"] = ORIGIN, "Origin"
        response.headers["Access-Control-Allow-Headers"] = "Content-Type, X-Parameters, X-Request-Id"
        response.headers["Access-Control-Expose-Headers"] = "X-Request-Id"
    return response


def _predictions(request: flask.Request, line: Line) -> dict[str, Any]:
    kind, encoding, most = request.mimetype, request.headers.get("Content-Encoding", "identity"), MODEL.limits["bytes"]
    if kind not in JSON_TYPES + IMAGE_TYPES or encoding != "identity":
        abort(415, f"The body is {kind[:80]}, encoded as {encoding[:80]}; send application/json, image/png or image/jpeg as they are.")
    if len(body := request.stream.read(most + 1)) > most:
        abort(413, f"The body has more than {most} bytes; send fewer instances in one request.")
    images = read_one(body, MODEL.wanted) if "X-Parameters" not in request.headers and kind in JSON_TYPES else None
    content = {"instances": [body]} if kind in IMAGE_TYPES else {} if images is not None else read_object("The body", body)
    parameters = read_object("The body's parameters", content.get("parameters") or {})
    parameters |= read_object("X-Parameters", request.headers.get("X-Parameters", {}))
    top, invert = parameters.pop("top", 0), parameters.pop("invert", False)
    if parameters or isinstance(top, bool) or not isinstance(top, int) or not 0 <= top <= len(LABELS) or not isinstance(invert, bool):
        abort(400, f"The parameters are top, a whole number from 1 to {len(LABELS)}, and invert, true or false; found others.")
    images = read(content.get("instances"), MODEL.wanted) if images is None else images
    line.images = 255 - images if invert else images
    answers: Any = MODEL.predict(line.images)
    line.answers = answers
    if top:
        best = np.argsort(-answers, axis=1, kind="stable")[:, :top]
        answers = [[{"label": LABELS[k], "score": row[k]} for k in places] for row, places in zip(answers, best, strict=True)]
    return {"predictions": answers, **NAMES}


gc.collect()
gc.freeze()  # what is loaded lives as long as the process: collecting it again and again costs pauses of 10 ms
gc.set_threshold(5_000, 20, 50)  # one request in 500 waits 2 ms for what Flask's requests leave in cycles
if flask.has_app_context():  # in functions-framework: Flask would answer some paths by itself, in HTML, and costs a fifth of a request
    flask.current_app.wsgi_app = flask.Request.application(predict)  # type: ignore[assignment,arg-type,method-assign]
