"""Commands that the tests give gcloud again and again, about the service `digits`."""

import json
import subprocess
from pathlib import Path

from tests.google.stub import REGION, Google
from tests.google.wire import Json


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
