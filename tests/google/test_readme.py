"""The README's way from an empty project to a served model and back: each line, as printed, by the real gcloud over the stub."""

import re
import subprocess
from pathlib import Path

from rowmill import settings

from tests.conftest import ROOT
from tests.google.stub import Google

FUNCTION = """
import flask
import functions_framework


@functions_framework.http
def predict(request: flask.Request) -> flask.Response:
    return flask.jsonify(method=request.method, size=len(request.get_data()))
"""
DEPLOY = ["run", "deploy", "digits", "--function=predict", "--base-image=python313", "--region=europe-west1", "--no-allow-unauthenticated"]
BY_HAND = "gcloud auth login"  # opens a browser


def blocks() -> list[str]:
    """Return what is set as code in the README's section."""
    section = (ROOT / "README.md").read_text("utf-8").partition("\n### Google Cloud\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def test_from_an_empty_project_to_an_asked_function_and_back(google: Google, tmp_path: Path) -> None:
    (tmp_path / "digit.png").write_bytes(b"a picture")
    (tmp_path / "function").mkdir()
    (tmp_path / "function" / "main.py").write_text(FUNCTION)
    printed = [line for block in blocks() for line in block.splitlines() if line.startswith(("gcloud ", "curl "))]
    answers = []
    for line in printed:
        if line.startswith("curl ") and not google.run.services:
            assert google.gcloud(*DEPLOY, f"--source={tmp_path / 'function'}").returncode == 0
        if line != BY_HAND:
            answer = shell(google, line, tmp_path)
            answers += [answer] if line.startswith("curl ") else []
    assert BY_HAND in printed and answers == ['{"method":"GET","size":0}\n', '{"method":"POST","size":9}\n']
    roles = re.findall(r"projects add-iam-policy-binding .*--role=(\S+)", "\n".join(printed))
    assert roles and all(google.accounts.members(f"projects/{google.project}", [role]) for role in roles)
    assert [budget["displayName"] for budget in google.projects.things("budgets")] == ["rowmill"]
    assert not google.run.services and not google.projects.things("repositories") and not google.projects.things("serviceAccounts")


def shell(google: Google, line: str, folder: Path) -> str:
    """Run a line as it is pasted, for the stub's project, and return what it prints."""
    command = ["bash", "-c", line.replace("my-project-1234", google.project)]
    done = subprocess.run(command, env=google.environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (line, done.stderr)
    return done.stdout


def test_its_settings_are_read(tmp_path: Path) -> None:
    (tmp_path / "rowmill.toml").write_text(next(block for block in blocks() if block.startswith("[")))
    read = settings.load(tmp_path)
    assert read.target_kind == "gcloud" and read.cloud.service_account == f"rowmill-function@{read.cloud.project}.iam.gserviceaccount.com"
