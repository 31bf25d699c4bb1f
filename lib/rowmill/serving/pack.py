"""Packs a model to go: one folder, and a zip of it, that serves on any machine with Python, in a container or on AWS Lambda."""

import shutil
from pathlib import Path

from rowmill.errors import IntegrityError
from rowmill.records import ModelRecord
from rowmill.registry import Registry
from rowmill.serving import bundle as bundles
from rowmill.settings import Settings

_FILES = ("README.md", "Dockerfile", "aws_lambda.py")


def pack(settings: Settings, registry: Registry, model: ModelRecord) -> Path:
    """Write `.rowmill/packs/ID/` and `ID.zip` beside it, in the place of earlier ones; return the folder.

    Raises:
        IntegrityError: A file is missing or is another one than was registered.
    """
    bundle = bundles.build(settings, registry, model)
    folder = settings.state / "packs" / model.model_id
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundle.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    try:
        for name in _FILES:
            text = (settings.root / "cloud_function" / "pack" / name).read_text("utf-8")
            (folder / name).write_text(text.replace("MODEL_ID", model.model_id).replace("SERVICE", model.service), "utf-8")
    except OSError as error:
        raise IntegrityError(f"{error.filename} cannot be read: {error.strerror}", step="restore it from a copy") from error
    shutil.make_archive(str(folder), "zip", folder.parent, folder.name)
    return folder
