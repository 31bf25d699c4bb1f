"""Deploys and rolls back on Cloud Run functions by the real gcloud, over a stub of Google's APIs that runs what is deployed to it."""

import dataclasses
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rowmill.errors import IntegrityError, RowmillError, TargetError
from rowmill.records import Deployment
from rowmill.sections import Cloud
from rowmill.serving import bundle as bundles
from rowmill.serving import release
from rowmill.serving.release import Service
from rowmill.serving.target import model_of

from tests.conftest import project_in
from tests.google import smoke
from tests.google.stub import Google


@pytest.fixture
def cloud(digits_state: Path, google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The service `digits` with two models on an empty Google project; nothing serves yet."""
    for name, value in google.variables.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(digits_state, tmp_path / "state")
    place = Cloud(project=google.project, region="europe-west1", build_minutes=1)
    project = dataclasses.replace(project_in(tmp_path / "state"), target_kind="gcloud", cloud=place)
    return release.open_service(project, "digits")


@pytest.fixture
def models(cloud: Service) -> tuple[str, str]:
    """The ids of the good model and the weak one."""
    weak, good = (model.model_id for model in cloud.registry.models("digits"))
    return good, weak


def deploy(service: Service, model_id: str, *steps: int) -> Deployment:
    """Deploy by force."""
    return release.deploy(service, model_id, "by hand", force=True, steps=steps or (100,))


def serves(google: Google) -> dict[str, int]:
    """Return which models have the traffic, as the stub routes it."""
    return {model_of(revision): percent for revision, percent in google.traffic("digits").items()}


def tags(google: Google) -> list[str]:
    """Return the tags that are left."""
    return [target["tag"] for target in google.service("digits").traffic if target.get("tag")]


def test_the_whole_way_loses_no_request(cloud: Service, google: Google, models: tuple[str, str]) -> None:
    told = list(smoke.walk(cloud, *models))
    assert serves(google) == {models[0]: 100} and not tags(google)
    assert re.search(r"answers wrongly: at step 'probe' after .*must give its golden answers within", told[4])
    assert re.search(
        r"crashes: at step 'start dark' after .*does not start as digits-.*: The function does not start on Google Cloud", told[5]
    )
    rows = cloud.registry.deployments("digits")
    assert [row.actor for row in rows] == [google.account] * 5
    assert list(rows[1].steps)[-4:] == ["shift 10 %", "verify 10 %", "shift 100 %", "verify 100 %"]
    assert sum("builds:submit" in seen.url for seen in google.requests) == 4  # none for the roll back
    print("\n".join(told))


def test_a_first_model_that_answers_wrongly_is_withdrawn(cloud: Service, google: Google, models: tuple[str, str]) -> None:
    smoke.spoil(cloud, models[0], "answers wrongly")
    with pytest.raises(IntegrityError, match="must give its golden answers within"):
        deploy(cloud, models[0])
    assert release.serving(cloud) is None and cloud.registry.deployments("digits")[-1].outcome == "failed"


def test_someone_elses_deploy_is_named_and_not_overwritten(cloud: Service, google: Google, models: tuple[str, str]) -> None:
    good, weak = models
    deploy(cloud, good)
    other = bundles.build(cloud.settings, cloud.registry, cloud.registry.model(weak))
    google.meanwhile("builds:submit", lambda: google.deploy("digits", other.folder, "theirs"))
    with pytest.raises(IntegrityError, match=f"somebody@example.org changed the function digits meanwhile: {good} had the traffic"):
        deploy(cloud, weak)
    assert google.traffic("digits") == {"digits-theirs": 100}


def test_traffic_is_believed_and_not_the_exit_code(cloud: Service, google: Google, models: tuple[str, str]) -> None:
    good, weak = models
    deploy(cloud, good)
    deploy(cloud, weak)
    google.fail("PUT .*/services/digits", 500, late=True, skip=1)
    assert release.roll_back(cloud, "code 1 although it moved").outcome == "serving" and serves(google) == {good: 100}
    google.mend()
    google.ignore(skip=1)
    with pytest.raises(TargetError, match=f"The traffic of digits stays on {good}"):
        deploy(cloud, weak)
    assert serves(google) == {good: 100} and release.look(cloud).model == good


FAULTS = [403, 404, 409, 429, 500, "refused", "hangs"]


def test_whatever_call_fails_what_is_reported_is_true(
    cloud: Service, google: Google, models: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, weak = models
    deploy(cloud, good)
    deploy(cloud, weak)
    monkeypatch.setattr("rowmill.serving.gcloud._SECONDS", 8.0)
    start = len(google.requests)
    release.roll_back(cloud, "a clean run")
    calls = len(google.requests) - start
    for number, fault in zip(range(calls), itertools.cycle(FAULTS), strict=False):
        wanted = good if serves(google) == {weak: 100} else weak
        inject(google, fault, number)
        try:
            done = deploy(cloud, wanted)
        except RowmillError as error:
            assert re.search(r"; ", str(error)) and "Traceback" not in str(error)
            google.mend()
            assert cloud.registry.deployments("digits")[-1].outcome == "failed"
            assert serves(google) == {weak if wanted == good else good: 100}, (number, fault, str(error))
        else:
            google.mend()
            assert serves(google) == {done.model_id: 100}


def inject(google: Google, fault: int | str, skip: int) -> None:
    """Let the call after `skip` others fail."""
    if fault == "refused":
        google.refuse("", skip=skip)
    elif fault == "hangs":
        google.hang("", skip=skip)
    else:
        google.fail("", int(fault), skip=skip)


def test_what_gcloud_cannot_do_is_a_sentence(cloud: Service, google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bin_folder := tmp_path / "bin").mkdir()
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(bin_folder))
        with pytest.raises(TargetError, match="gcloud is not on the PATH; install it from"):
            cloud.target.traffic()
        patched.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
        (script := bin_folder / "gcloud").write_text(
            "#!/bin/sh\necho 'ERROR: (gcloud.run) unrecognized arguments: --function' >&2\nexit 2\n"
        )
        script.chmod(0o755)
        with pytest.raises(TargetError, match="This gcloud is too old for the command; found .*run `gcloud components update`"):
            cloud.target.traffic()
        script.write_text("#!/bin/sh\nsleep 60\n")
        patched.setattr("rowmill.serving.gcloud._SECONDS", 0.5)
        with pytest.raises(TargetError, match="gcloud did not end in time; found `gcloud run services describe` did not end within 0.5 s"):
            cloud.target.traffic()
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "nobody"))
    with pytest.raises(TargetError, match="gcloud is not logged in; .*run `gcloud auth login`"):
        cloud.target.traffic()


def test_a_function_of_gcloud_functions_deploy_is_refused(cloud: Service, google: Google, models: tuple[str, str]) -> None:
    deploy(cloud, models[0])
    assert (
        google.gcloud(
            "run", "services", "update", "digits", "--region=europe-west1", "--update-labels=goog-managed-by=cloudfunctions"
        ).returncode
        == 0
    )
    with pytest.raises(TargetError, match="made by `gcloud functions deploy`.*gcloud beta functions detach digits --region=europe-west1"):
        deploy(cloud, models[1])
    assert serves(google) == {models[0]: 100}


def test_a_plans_lines_can_be_pasted(cloud: Service, google: Google, models: tuple[str, str]) -> None:
    for model_id in models:
        before = len(google.requests)
        plan = release.plan(cloud, model_id)
        assert len(google.requests) == before
        for line in plan.commands:
            done = subprocess.run(["bash", "-c", line], env=google.environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (line, done.stderr)
            answer = done.stdout if "curl" in line else ""
            assert not answer or json.loads(answer)["deployedModelId"] == model_id
        assert serves(google) == {model_id: 100}
        cloud.registry.add(record(cloud, model_id, next(iter(google.traffic("digits")))))


def record(service: Service, model_id: str, revision: str) -> Deployment:
    """Return a record of what was done by hand."""
    return Deployment(model_id, "digits", "deploy", "gcloud", "", "", "serving", "", "me", 0.0, revision=revision)
