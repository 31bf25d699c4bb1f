"""A plan's lines are what a deployment would run, and can be pasted into a shell."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

from rowmill.records import Deployment
from rowmill.sections import Cloud
from rowmill.serving import release
from rowmill.serving.target import model_of

from tests.conftest import project_in
from tests.google.stub import Google


def test_a_plans_lines_can_be_pasted(google: Google, digits_state: Path, tmp_path: Path) -> None:
    state = Path(shutil.copytree(digits_state, tmp_path / "state"))
    place = Cloud(project=google.project, region="europe-west1", hash_key="rowmill-hash-key:3")
    project = dataclasses.replace(project_in(state), target_kind="gcloud", cloud=place)
    cloud = release.open_service(project, "digits")
    for model_id in [model.model_id for model in cloud.registry.models("digits")]:
        before = len(google.requests)
        plan = release.plan(cloud, model_id)
        assert len(google.requests) == before
        for line in plan.commands:
            done = subprocess.run(["bash", "-c", line], env=google.environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (line, done.stderr)
            answer = done.stdout if "curl" in line else ""
            assert not answer or json.loads(answer)["deployedModelId"] == model_id
        (revision,) = google.traffic("digits")
        assert model_of(revision) == model_id
        variables = {each["name"]: each for each in google.service("digits").revisions[revision].container["env"]}
        assert variables["ROWMILL_HASH_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "rowmill-hash-key", "key": "3"}
        cloud.registry.add(record(model_id, revision))


def record(model_id: str, revision: str) -> Deployment:
    """Return a record of what was done by hand."""
    return Deployment(model_id, "digits", "deploy", "gcloud", "", "", "serving", "", "me", 0.0, revision=revision)
