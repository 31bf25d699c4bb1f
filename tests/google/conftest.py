"""A function to deploy: it answers with its revision's name."""

from collections.abc import Callable
from pathlib import Path

import pytest

SOURCE = """
import os

import flask
import functions_framework

{top}


@functions_framework.http
def predict(request: flask.Request) -> flask.Response:
    return flask.Response(os.environ["K_REVISION"] + os.environ.get("WORD", "") + request.full_path)
"""
Write = Callable[..., Path]


@pytest.fixture
def source(tmp_path: Path) -> Write:
    """Return what writes a function that answers with its revision's name."""

    def write(top: str = "") -> Path:
        folder = tmp_path / "function"
        folder.mkdir(exist_ok=True)
        (folder / "main.py").write_text(SOURCE.format(top=top))
        return folder

    return write
