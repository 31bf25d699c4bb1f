"""Deploys and rolls back on Cloud Run functions by the real gcloud, over a stub of Google's APIs that runs what is deployed to it."""

import dataclasses
import json
import multiprocessing
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rowmill.errors import IntegrityError, RowmillError, TargetError
from rowmill.records import Deployment
from rowmill.sections import Cloud
from rowmill.serving import bundle as bundles
from rowmill.serving import release
from rowmill.serving.endpoint import Endpoint
from rowmill.serving.release import Service
from rowmill.serving.target import model_of

from tests.conftest import ROOT, project_in
from tests.google import smoke, stub
from tests.google.account import Login
from tests.google.stub import Google
from tests.serving.test_changes import cut


@pytest.fixture(scope="module")
def google(google_login: Login, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    """Google on this machine for the tests of this file, which leave what they deployed to the next one; an environment that leads there."""
    folder = tmp_path_factory.mktemp("google")
    login = dataclasses.replace(google_login, config=Path(shutil.copytree(google_login.config, folder / "gcloud")))
    with stub.running(folder, login) as started, pytest.MonkeyPatch.context() as patched:
        for name, value in started.variables.items():
            patched.setenv(name, value)
        yield started
        assert not started.proxy.unknown and not started.proxy.broken


@pytest.fixture(scope="module")
def cloud(digits_state: Path, google: Google, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The service `digits` with two models; nothing serves yet."""
    state = Path(shutil.copytree(digits_state, tmp_path_factory.mktemp("cloud") / "state"))
    place = Cloud(project=google.project, region="europe-west1", build_minutes=1)
    return release.open_service(dataclasses.replace(project_in(state), target_kind="gcloud", cloud=place), "digits")


@pytest.fixture
def models(cloud: Service, google: Google) -> Iterator[tuple[str, str]]:
    """The ids of the good model and the weak one; what a test made wrong is mended."""
    weak, good = (model.model_id for model in cloud.registry.models("digits"))
    yield good, weak
    google.mend()


@pytest.fixture
def served(cloud: Service, google: Google, models: tuple[str, str]) -> tuple[str, str]:
    """The two models, the good one of which serves, and the weak one served once."""
    for model_id in models[::-1]:
        if not any(model_of(revision) == model_id for revision in _revisions(google)):
            deploy(cloud, model_id)
    if serves(google) != {models[0]: 100}:
        deploy(cloud, models[0])
    return models


def _revisions(google: Google) -> list[str]:
    try:
        return list(google.service("digits").revisions)
    except AssertionError:
        return []


def deploy(service: Service, model_id: str, *steps: int) -> Deployment:
    """Deploy by force."""
    return release.deploy(service, model_id, "by hand", force=True, steps=steps or (100,))


def serves(google: Google) -> dict[str, int]:
    """Return which models have the traffic, as the stub routes it."""
    return {model_of(revision): percent for revision, percent in google.traffic("digits").items()}


def tags(google: Google) -> list[str]:
    """Return the tags that are left."""
    return [target["tag"] for target in google.service("digits").traffic if target.get("tag")]


def test_a_first_model_that_answers_wrongly_is_withdrawn(cloud: Service, google: Google, models: tuple[str, str]) -> None:
    wrong = pytest.raises(IntegrityError, match="must give its golden answers within")
    with smoke.spoiled(cloud, models[0], "answers wrongly"), wrong:
        deploy(cloud, models[0])
    assert release.serving(cloud) is None and cloud.registry.deployments("digits")[-1].outcome == "failed"


def test_the_whole_way_loses_no_request(cloud: Service, google: Google, models: tuple[str, str]) -> None:
    before = len(google.requests)
    told = list(smoke.walk(cloud, *models))
    assert serves(google) == {models[0]: 100} and not tags(google)
    assert re.search(r"answers wrongly: at step 'probe' after .*must give its golden answers within", told[4])
    assert re.search(
        r"crashes: at step 'start dark' after .*does not start as digits-.*: The function does not start on Google Cloud", told[5]
    )
    rows = cloud.registry.deployments("digits")
    assert [row.actor for row in rows] == [google.account] * 6
    assert list(rows[2].steps)[-4:] == ["shift 10 %", "verify 10 %", "shift 100 %", "verify 100 %"]
    assert sum("builds:submit" in seen.url for seen in google.requests[before:]) == 4  # none for the roll back
    print("\n".join(told))


def test_someone_elses_deploy_is_named_and_not_overwritten(cloud: Service, google: Google, served: tuple[str, str]) -> None:
    good, weak = served
    other = bundles.build(cloud.settings, cloud.registry, cloud.registry.model(weak))
    google.meanwhile("PUT .*/services/digits", lambda: google.deploy("digits", other.folder, "theirs"))
    with pytest.raises(IntegrityError, match=f"somebody@example.org changed the function digits meanwhile: {good} had the traffic"):
        deploy(cloud, weak)
    assert google.traffic("digits") == {"digits-theirs": 100}


def test_traffic_is_believed_and_not_the_exit_code(cloud: Service, google: Google, served: tuple[str, str]) -> None:
    good, weak = served
    deploy(cloud, weak)
    google.fail("PUT .*/services/digits", 500, late=True, skip=1)
    assert release.roll_back(cloud, "code 1 although it moved").outcome == "serving" and serves(google) == {good: 100}
    google.mend()
    google.ignore(skip=1)
    with pytest.raises(TargetError, match=f"The traffic of digits stays on {good}"):
        deploy(cloud, weak)
    assert serves(google) == {good: 100} and release.look(cloud).model == good


@pytest.mark.parametrize(("call", "fault"), [(3, 409), (9, "hangs"), (10, 500), (12, 403)])
def test_whatever_call_fails_what_is_reported_is_true(
    cloud: Service, google: Google, served: tuple[str, str], monkeypatch: pytest.MonkeyPatch, call: int, fault: int | str
) -> None:
    """Of the 17 calls of a roll back some of those that matter; `make bench NAME=release` takes all, with all faults."""
    monkeypatch.setattr("rowmill.serving.gcloud._SECONDS", 8.0)
    inject(google, fault, call)
    told = outcome(cloud, google, served[1])
    assert told == "" or re.match(r".+; (found .+; )?.+\.$", told)


def inject(google: Google, fault: int | str, skip: int) -> None:
    """Let the call after `skip` others fail."""
    if fault == "refused":
        google.refuse("", skip=skip)
    elif fault == "hangs":
        google.hang("", skip=skip)
    else:
        google.fail("", int(fault), skip=skip)


def outcome(service: Service, google: Google, wanted: str) -> str:
    """Deploy while something fails; return what was said, or an empty text, and hold what is reported against what is true."""
    before = serves(google)
    try:
        deploy(service, wanted)
    except RowmillError as error:
        told, after, word = str(error), before, "failed"
    else:
        told, after, word = "", {wanted: 100}, "serving"
    google.mend()
    assert serves(google) == after, told
    assert service.registry.deployments("digits")[-1].outcome == word
    return told


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("import time\n\ntime.sleep(600)\n", "The function does not start on Google Cloud"),
        ("import time\n\nMODEL.predict = lambda images: time.sleep(600)\n", r"does not answer \(ReadTimeout\)"),
    ],
    ids=["at its start", "at a request"],
)
def test_a_model_that_hangs_gets_no_request(
    cloud: Service, google: Google, served: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: str, words: str
) -> None:
    handler = Path(shutil.copytree(ROOT / "cloud_function", tmp_path / "cloud_function")) / "main.py"
    handler.write_text(handler.read_text() + broken)
    monkeypatch.setattr(google.instances, "startup_seconds", 4.0)
    monkeypatch.setattr(Endpoint.__init__, "__defaults__", (None, 2.0))
    hanging = dataclasses.replace(cloud, settings=dataclasses.replace(cloud.settings, root=tmp_path))
    with smoke.Load(cloud) as load, pytest.raises(RowmillError, match=words):
        deploy(hanging, served[1])
    assert not load.wrong and set(load.answered) == {served[0]} and serves(google) == {served[0]: 100} and not tags(google)


def test_a_build_that_fails_changes_nothing(cloud: Service, google: Google, served: tuple[str, str]) -> None:
    larger = dataclasses.replace(cloud.settings, cloud=dataclasses.replace(cloud.settings.cloud, memory="1Gi"))
    google.builds.failure = "no space left"
    with pytest.raises(TargetError, match="does not start as digits-.*: The build on Google Cloud failed; found "):
        deploy(release.open_service(larger, "digits"), served[1])
    google.mend()
    assert serves(google) == {served[0]: 100} and not tags(google) and release.look(cloud).model == served[0]


def test_a_deployment_killed_at_its_canary_is_cleared_away(cloud: Service, google: Google, served: tuple[str, str]) -> None:
    good, weak = served
    process = multiprocessing.get_context("spawn").Process(target=cut, args=(cloud.settings, weak, "verify 10 %: running", (10, 100)))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and serves(google) == {good: 90, weak: 10}
    assert release.look(cloud).alarm.startswith(f"The traffic is shared: {good} (90 %) and {weak} (10 %); deploy one of them")
    release.deploy(cloud, good, "after all", force=True)
    cut_off = cloud.registry.deployments("digits")[-2]
    assert (cut_off.model_id, cut_off.outcome) == (weak, "failed") and f"{good} has the traffic" in cut_off.reason
    assert serves(google) == {good: 100} and not tags(google) and not release.look(cloud).alarm


def test_the_notebooks_judge_and_release_on_google(cloud: Service, google: Google, served: tuple[str, str]) -> None:
    good, weak = served
    deploy(cloud, weak)
    variables = {"ROWMILL_STATE": str(cloud.settings.state), "ROWMILL_TARGET_KIND": "gcloud", "ROWMILL_CLOUD_PROJECT": google.project}
    for name, *parameters in (("03_validate",), ("04_release", "-y", "{steps: [10, 100]}")):
        source, made = ROOT / "notebooks" / f"{name}.ipynb", cloud.settings.state / f"{name}.ipynb"
        command = [
            sys.executable,
            "-m",
            "papermill",
            str(source),
            str(made),
            "-p",
            "service",
            "digits",
            "-p",
            "model_id",
            good,
            *parameters,
        ]
        done = subprocess.run(command, cwd=ROOT, env=google.environment | variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    row = cloud.registry.deployments("digits")[-1]
    assert (row.model_id, row.before, row.verdict, row.forced) == (good, weak, "better", False) and "shift 10 %" in row.steps
    assert serves(google) == {good: 100}
    line = release.curl(cloud)
    told = subprocess.run(["bash", "-c", line], env=google.environment, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["deployedModelId"] == good
    without = line.replace(re.search(r'-H "Authorization.*?" ', line)[0], "")
    refused = subprocess.run(["bash", "-c", without], env=google.environment, capture_output=True, text=True, check=True)
    assert "403" in refused.stdout and "deployedModelId" not in refused.stdout


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


def test_a_function_of_gcloud_functions_deploy_is_refused(cloud: Service, google: Google, served: tuple[str, str]) -> None:
    labelled = ["run", "services", "update", "digits", "--region=europe-west1"]
    assert google.gcloud(*labelled, "--update-labels=goog-managed-by=cloudfunctions").returncode == 0
    with pytest.raises(TargetError, match="made by `gcloud functions deploy`.*gcloud beta functions detach digits --region=europe-west1"):
        deploy(cloud, served[1])
    assert google.gcloud(*labelled, "--remove-labels=goog-managed-by").returncode == 0
    assert serves(google) == {served[0]: 100} and release.look(cloud).alarm == ""
