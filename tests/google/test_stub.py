"""Google on this machine, through the real gcloud: deployments, traffic, failures, who may ask, and what else can happen."""

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.google.stub import REGION, Google
from tests.google.wire import Json

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


def deploy(google: Google, folder: Path, suffix: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Deploy as the README says."""
    fixed = ["--function=predict", "--base-image=python313", f"--region={REGION}", "--no-allow-unauthenticated", "--quiet", "--format=json"]
    return google.gcloud("run", "deploy", "digits", f"--source={folder}", f"--revision-suffix={suffix}", *fixed, *flags)


def describe(google: Google) -> Json:
    """Return the service as gcloud prints it."""
    described = google.gcloud("run", "services", "describe", "digits", f"--region={REGION}", "--format=json")
    assert described.returncode == 0, described.stderr
    shown: Json = json.loads(described.stdout)
    return shown


def update(google: Google, *flags: str) -> subprocess.CompletedProcess[str]:
    """Move traffic or tags."""
    return google.gcloud("run", "services", "update-traffic", "digits", f"--region={REGION}", *flags)


def public(google: Google) -> None:
    """Let everybody ask."""
    google.accounts.grant(google.service("digits").resource, "roles/run.invoker", "allUsers")


def test_dark_then_split_then_all_by_the_real_gcloud(google: Google, source: Write) -> None:
    refused = deploy(google, source(), "first", "--no-traffic")
    assert refused.returncode == 1 and "--no-traffic not supported when creating a new service" in refused.stderr
    first = deploy(google, source(), "first", "--set-env-vars=WORD=!", "--memory=1Gi", "--labels=model=first")
    assert first.returncode == 0, first.stderr
    dark = deploy(google, source(), "second", "--no-traffic", "--tag=second", "--set-env-vars=WORD=?")
    assert dark.returncode == 0, dark.stderr
    assert google.traffic("digits") == {"digits-first": 100}
    public(google)
    shown = describe(google)
    tag = next(target for target in shown["status"]["traffic"] if target.get("tag") == "second")
    assert httpx.get(f"{tag['url']}/a?b=c").text == "digits-second?/a?b=c"
    assert httpx.get(shown["status"]["url"]).text == "digits-first!/?"
    assert update(google, "--to-revisions=digits-first=70,digits-second=30").returncode == 0
    with httpx.Client(base_url=shown["status"]["url"]) as client:
        answers = Counter(client.get("/").text[:-2] for _ in range(200))
    assert set(answers) == {"digits-first!", "digits-second?"} and 25 < answers["digits-second?"] < 100
    assert update(google, "--to-revisions=digits-second=100", "--remove-tags=second").returncode == 0
    assert google.traffic("digits") == {"digits-second": 100} and httpx.get(tag["url"]).status_code == 404
