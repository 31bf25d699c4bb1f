"""Lays the handler and a model's files into one folder ready to serve, and opens it in this process."""

import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import functions_framework
import httpx
import numpy as np
import numpy.typing as npt

from rowmill.errors import IntegrityError
from rowmill.records import Bundle, ModelRecord
from rowmill.registry import CARD_FILE, MODEL_FILE, Registry, file_hash
from rowmill.serving.endpoint import Endpoint
from rowmill.settings import Settings

EXAMPLE_FILE = "example.json"
FUNCTION = "predict"
_HANDLER_FILES = ("main.py", "requirements.txt")


def build(settings: Settings, registry: Registry, model: ModelRecord) -> Bundle:
    """Return the bundle of a model; a folder with this very content is used again, another one is laid anew.

    Raises:
        IntegrityError: The registered file is missing or is another one.
    """
    files = registry.artefact(model)
    parts = [*(settings.root / "cloud_function" / name for name in _HANDLER_FILES), files / CARD_FILE, files / MODEL_FILE]
    content = "".join(file_hash(path) for path in parts)
    folder = settings.state / "bundles" / f"{model.model_id}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    if not all((folder / path.name).is_file() and file_hash(folder / path.name) == file_hash(path) for path in parts):
        shutil.rmtree(folder, ignore_errors=True)
        _lay(folder, parts)
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
    return Endpoint(f"http://{bundle.model_id}", httpx.WSGITransport(app=app))


def _lay(folder: Path, files: list[Path]) -> None:
    new = folder.with_name(f".new-{secrets.token_hex(4)}")
    new.mkdir(parents=True)
    for path in files:
        shutil.copyfile(path, new / path.name)
    first = json.loads((new / CARD_FILE).read_text("utf-8"))["golden"]["instances"][:1]
    (new / EXAMPLE_FILE).write_text(json.dumps({"instances": first}), "utf-8")
    try:
        os.rename(new, folder)
    except OSError:  # Another process laid the same content a moment ago.
        shutil.rmtree(new)
