"""Google on this machine, through the real gcloud: deployments, traffic, failures, and what else can happen."""

import socket
import subprocess
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.google.conftest import Write
from tests.google.shortcuts import deploy, describe, public, update
from tests.google.stub import REGION, Google


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
    assert update(google, "--to-revisions=digits-first=60,digits-second=40").returncode == 0
    with httpx.Client(base_url=shown["status"]["url"]) as client:
        answers = Counter(client.get("/").text[:-2] for _ in range(100))
    assert set(answers) == {"digits-first!", "digits-second?"} and 15 < answers["digits-second?"] < 65
    assert update(google, "--to-revisions=digits-second=100", "--remove-tags=second").returncode == 0
    assert google.traffic("digits") == {"digits-second": 100} and httpx.get(tag["url"]).status_code == 404


def test_a_revision_that_does_not_start_gets_no_traffic_and_says_why(google: Google, source: Write) -> None:
    google.deploy("digits", source(), "good")
    failed = deploy(google, source('raise SystemExit("model.json is not whole")'), "bad", "--no-traffic", "--tag=bad")
    assert failed.returncode == 1 and "Revision 'digits-bad' is not ready" in failed.stderr and "model.json is not whole" in failed.stderr
    assert google.traffic("digits") == {"digits-good": 100}
    assert describe(google)["status"]["latestReadyRevisionName"] == "digits-good"
    read = [
        "logging",
        "read",
        "resource.type=cloud_run_revision AND resource.labels.revision_name=digits-bad",
        "--format=value(textPayload)",
    ]
    assert google.gcloud(*read, "--limit=1").stdout.strip() == "model.json is not whole"
    # Traffic moves, yet the latest revision is still not ready: gcloud calls that a failure.
    google.deploy("digits", source(), "third", traffic=False)
    google.deploy("digits", source("raise SystemExit"), "worse", traffic=False)
    moved = update(google, "--to-revisions=digits-third=100")
    assert moved.returncode == 1 and google.traffic("digits") == {"digits-third": 100}
    google.shift("digits", {"digits-worse": 50, "digits-third": 50})
    routes = next(shown for shown in describe(google)["status"]["conditions"] if shown["type"] == "RoutesReady")
    assert google.traffic("digits") == {"digits-third": 100} and routes["status"] == "False" and "'digits-worse'" in routes["message"]
    public(google)
    assert httpx.get(google.address(google.service("digits"))).text == "digits-third/?"


def test_a_revision_that_never_listens_or_never_is_ready(google: Google, source: Write) -> None:
    google.deploy("digits", source(), "good")
    google.instances.startup_seconds = 0.5
    google.deploy("digits", source("import time; time.sleep(60)"), "slow")
    assert google.traffic("digits") == {"digits-good": 100} and "not ready" in google.service("digits").revisions["digits-slow"].message
    google.run.never_ready = True
    with pytest.raises(subprocess.TimeoutExpired):
        google.gcloud("run", "services", "update", "digits", f"--region={REGION}", "--memory=1Gi", timeout=4)
    assert google.traffic("digits") == {"digits-good": 100}


def test_who_is_slower_is_told_of_the_conflict(google: Google, source: Write) -> None:
    google.deploy("digits", source(), "one")
    google.deploy("digits", source(), "two", traffic=False)
    google.meanwhile("PUT .*/services/digits$", lambda: google.deploy("digits", source(), "theirs"))
    lost = update(google, "--to-revisions=digits-two=100")
    assert lost.returncode == 1 and "ABORTED" in lost.stderr and "Conflict for resource 'digits'" in lost.stderr
    assert google.traffic("digits") == {"digits-theirs": 100}
    assert describe(google)["metadata"]["annotations"]["serving.knative.dev/lastModifier"] == "somebody@example.org"
    taken = deploy(google, source("# other"), "one")
    assert taken.returncode == 1 and "already exists" in taken.stderr


def test_changes_that_overlap_are_all_settled(google: Google, source: Write) -> None:
    google.deploy("digits", source(), "one")
    slow = threading.Thread(target=google.deploy, args=("digits", source("import time; time.sleep(1)"), "slow"))
    slow.start()
    while "digits-slow" not in google.service("digits").revisions:
        slow.join(0.01)
    google.shift("digits", {"digits-one": 100})
    slow.join()
    conditions = {shown["type"]: shown["status"] for shown in describe(google)["status"]["conditions"]}
    assert google.traffic("digits") == {"digits-one": 100} and google.service("digits").latest_ready == "digits-slow"
    assert conditions == {"Ready": "True", "ConfigurationsReady": "True", "RoutesReady": "True"}


def test_exit_codes_may_lie_about_traffic(google: Google, source: Write) -> None:
    google.deploy("digits", source(), "one")
    google.deploy("digits", source(), "two", traffic=False)
    google.fail("PUT .*/services/digits$", 500, late=True, times=9)
    assert update(google, "--to-revisions=digits-two=100").returncode == 1
    assert google.traffic("digits") == {"digits-two": 100}
    google.mend()
    google.ignore()
    assert update(google, "--to-revisions=digits-one=100").returncode == 0
    assert google.traffic("digits") == {"digits-two": 100}


def test_any_call_can_be_refused(google: Google, source: Write) -> None:
    google.deploy("digits", source(), "one")
    google.deploy("digits", source(), "two", traffic=False)
    for code, sentence in ((403, "PERMISSION_DENIED"), (404, "not"), (409, "ABORTED"), (429, "RESOURCE_EXHAUSTED"), (500, "INTERNAL")):
        fault = google.fail("PUT run.googleapis.com/.*/services/digits$", code, times=9)
        refused = update(google, "--to-revisions=digits-two=100")
        assert fault.met and refused.returncode == 1 and sentence in refused.stderr, refused.stderr
        google.mend()
    assert google.traffic("digits") == {"digits-one": 100}


def test_connections_that_break_or_hang(google: Google, source: Write) -> None:
    google.deploy("digits", source(), "one")
    google.refuse("GET run.googleapis.com")
    google.hang("GET run.googleapis.com", skip=2)
    assert describe(google)["metadata"]["name"] == "digits"
    with pytest.raises(subprocess.TimeoutExpired):
        google.gcloud("run", "services", "describe", "digits", f"--region={REGION}", timeout=4)
    google.mend()
    with socket.create_connection(("127.0.0.1", google.proxy.port)) as cut:
        cut.sendall(b"POST http://oauth2.googleapis.com/token HTTP/1.1\r\nHost: oauth2.googleapis.com\r\nContent-Length: 9\r\n\r\nhalf")
    assert [str(seen).rsplit(" ", 1)[1] for seen in google.requests if "GET" in str(seen)] == ["0", "200", "0"]


def test_a_build_that_fails_changes_nothing(google: Google, source: Write, tmp_path: Path) -> None:
    google.deploy("digits", source(), "one")
    google.builds.failure = "no matching distribution"
    failed = deploy(google, source(), "two", "--no-traffic")
    assert failed.returncode == 1 and "Build failed" in failed.stderr and list(google.service("digits").revisions) == ["digits-one"]
    google.mend()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "other.py").touch()
    assert "Build failed" in deploy(google, tmp_path / "empty", "two").stderr


def test_nothing_is_left_of_what_is_deleted(google: Google, source: Write) -> None:
    google.deploy("digits", source(), "one")
    google.deploy("digits", source(), "two")
    public(google)
    address = google.address(google.service("digits"))
    latest = google.gcloud("run", "revisions", "delete", "digits-two", f"--region={REGION}", "--quiet")
    assert latest.returncode == 1 and "because it can receive traffic" in latest.stderr
    google.deploy("digits", source(), "dark", traffic=False)
    dark = google.gcloud("run", "revisions", "delete", "digits-dark", f"--region={REGION}", "--quiet")
    assert dark.returncode == 1 and "because it is the latest" in dark.stderr
    assert google.gcloud("run", "revisions", "delete", "digits-one", f"--region={REGION}", "--quiet").returncode == 0
    assert google.instances.running() == ["digits-two", "digits-dark"] and httpx.get(address).status_code == 200
    listed = google.gcloud("run", "revisions", "list", "--service=digits", f"--region={REGION}", "--format=value(metadata.name)")
    assert listed.stdout.split() == ["digits-dark", "digits-two"]
    assert google.gcloud("run", "services", "delete", "digits", f"--region={REGION}", "--quiet").returncode == 0
    assert not google.instances.running() and httpx.get(address).status_code == 404
    google.deploy("digits", source(), "again")
    assert google.address(google.service("digits")) == address and httpx.get(address).status_code == 403


def test_an_instance_is_started_again_when_it_is_gone(google: Google, source: Write) -> None:
    google.deploy("digits", source(), "one")
    public(google)
    google.instances.stop(google.service("digits"))
    assert google.instances.running() == []
    assert httpx.get(google.address(google.service("digits"))).text == "digits-one/?" and google.instances.running() == ["digits-one"]


def test_a_function_may_ask_the_service_while_it_starts(google: Google, source: Write) -> None:
    google.deploy("digits", source(), "one")
    public(google)
    address = google.address(google.service("digits"))
    asks = f"import urllib.request; assert urllib.request.urlopen({address!r}, timeout=10).read() == b'digits-one/?'"
    google.deploy("digits", source(asks), "two")
    assert google.traffic("digits") == {"digits-two": 100}
