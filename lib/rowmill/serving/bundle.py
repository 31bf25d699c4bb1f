"""Lays the handler and a model's files into one folder ready to serve, and opens it in this process."""

import hashlib
import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

import functions_framework
import httpx
import numpy as np
import numpy.typing as npt

from rowmill.errors import IntegrityError
from rowmill.records import LIMITS, Bundle, ModelRecord
from rowmill.registry import CARD_FILE, MODEL_FILE, Registry
from rowmill.serving.endpoint import Endpoint
from rowmill.settings import Settings

EXAMPLE_FILE = "example.json"
FUNCTION = "predict"
HANDLER_FILES = ("main.py", "instances.py", "lines.py", "requirements.txt")
_DOCUMENT_FILE, _SETTINGS_FILE = "openapi.json", "settings.json"


def build(settings: Settings, registry: Registry, model: ModelRecord) -> Bundle:
    """Return the bundle of a model; a folder with this very content is used again, another one is laid anew.

    Raises:
        IntegrityError: A registered file is missing or is another one.
    """
    contents = _contents(settings, registry.artefact(model))
    names = "".join(f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in contents.items())
    folder = settings.state / "bundles" / f"{model.model_id}-{hashlib.sha256(names.encode()).hexdigest()[:8]}"
    if not all((folder / name).is_file() and (folder / name).read_bytes() == content for name, content in contents.items()):
        shutil.rmtree(folder, ignore_errors=True)
        _lay(folder, contents)
    return Bundle(model.model_id, model.service, folder, model.sha256)


def card(bundle: Bundle) -> dict[str, Any]:
    """Return what the bundle's `model.json` says."""
    loaded: dict[str, Any] = json.loads((bundle.folder / CARD_FILE).read_text("utf-8"))
    return loaded


def golden(bundle: Bundle) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64], float]:
    """Return golden images, uint8 (examples, *shape), their probabilities (examples, labels), and the tolerance."""
    examples = card(bundle)["golden"]
    return np.array(examples["instances"], np.uint8), np.array(examples["predictions"]), float(examples["tolerance"])


def open_in_process(bundle: Bundle) -> Endpoint:
    """Return an endpoint that asks the bundle's own handler in this process, without a port.

    Raises:
        IntegrityError: The handler refuses to start.
    """
    try:
        app = functions_framework.create_app(FUNCTION, str(bundle.folder / "main.py"))  # type: ignore[no-untyped-call]
    except SystemExit as refusal:
        raise IntegrityError(
            f"The bundle of model {bundle.model_id} does not start: {str(refusal).rstrip('.')}", step="search anew, or restore its files"
        ) from refusal
    # Who judges a model here is no client of it, and a notebook's output no log.
    return Endpoint(
        f"http://{bundle.model_id}", httpx.WSGITransport(app=lambda request, start: app({**request, "rowmill.silent": True}, start))
    )


def _contents(settings: Settings, files: Path) -> dict[str, bytes]:
    """Return the files of a bundle, name to content."""
    handler = settings.root / "cloud_function"
    parts = [*(handler / name for name in HANDLER_FILES), files / CARD_FILE, files / MODEL_FILE]
    try:
        contents = {path.name: path.read_bytes() for path in parts}
        document = (handler / _DOCUMENT_FILE).read_text("utf-8")
    except OSError as error:
        raise IntegrityError(f"{error.filename} cannot be read: {error.strerror}", step="restore it from a copy") from error
    described = json.loads(contents[CARD_FILE])
    contents[_DOCUMENT_FILE] = _document(document, described).encode()
    contents[EXAMPLE_FILE] = json.dumps({"instances": described["golden"]["instances"][:1]}).encode()
    told = {"allow_origin": settings.target_allow_origin, "images": settings.monitor.images}
    if any(told.values()):
        contents[_SETTINGS_FILE] = json.dumps({name: value for name, value in told.items() if value}).encode()
    return contents


def _document(text: str, described: dict[str, Any]) -> str:
    """Return the OpenAPI document with the model's own sizes and paths; in the template they are words in capitals."""
    height, width, channels = described["input"]["shape"]
    sizes = {"SIZE": height * width * channels, "HEIGHT": height, "WIDTH": width, "CHANNELS": channels}
    sizes |= {"LABELS": len(described["labels"]), "INSTANCES": described.get("limits", LIMITS)["instances"]}
    known = re.sub(f'"({"|".join(sizes)})"', lambda found: str(sizes[found[1]]), text)
    return known.replace("SERVICE", described["service"])


def _lay(folder: Path, contents: dict[str, bytes]) -> None:
    new = folder.with_name(f".new-{secrets.token_hex(4)}")
    new.mkdir(parents=True)
    for name, content in contents.items():
        (new / name).write_bytes(content)
    try:
        os.rename(new, folder)
    except OSError:  # Another process laid the same content a moment ago.
        shutil.rmtree(new)
