"""Google on this machine, through the real gcloud: who may ask, functions, sources, and what a project has besides."""

import random

import httpx

from tests.google.conftest import Write
from tests.google.shortcuts import deploy, describe
from tests.google.stub import REGION, Google


def test_who_may_ask(google: Google, source: Write) -> None:
    google.deploy("digits", source(), "one")
    service = google.service("digits")
    address = google.address(service)

    def asked(token: str, path: str = "/") -> int:
        return httpx.get(address + path, headers={"Authorization": f"Bearer {token}"} if token else {}).status_code

    mine = google.gcloud("auth", "print-identity-token").stdout.strip()
    meant = google.gcloud("auth", "print-identity-token", f"--audiences={address}").stdout.strip()
    other = google.gcloud("auth", "print-identity-token", "--audiences=https://example.org").stdout.strip()
    assert [asked(token) for token in (mine, meant, other, "made.up", "")] == [200, 200, 401, 401, 403]
    assert "<title>403 Forbidden</title>" in httpx.get(address).text
    assert asked(mine, "/healthz") == 404
    google.accounts.expire()
    over = google.gcloud("run", "services", "describe", "digits", f"--region={REGION}")
    assert asked(mine) == 401 and over.returncode == 1 and "UNAUTHENTICATED" in over.stderr
    assert httpx.get("http://run.googleapis.com/v1/projects/p/locations", proxy=f"http://127.0.0.1:{google.proxy.port}").status_code == 401
    google.log_in_as("me@example.org")
    person = google.gcloud("auth", "print-identity-token").stdout.strip()
    refused = google.gcloud("auth", "print-identity-token", f"--audiences={address}")
    assert asked(person) == 200 and "Invalid account type for `--audiences`" in refused.stderr
    policy = ["run", "services", "add-iam-policy-binding", "digits", f"--region={REGION}", "--role=roles/run.invoker"]
    google.meanwhile(":setIamPolicy", lambda: google.accounts.grant(service.resource, "roles/viewer", "user:she@example.org"))
    assert "concurrent policy changes" in google.gcloud(*policy, "--member=allUsers").stderr
    assert google.gcloud(*policy, "--member=allUsers").returncode == 0
    assert asked("") == 200
    assert google.gcloud("run", "services", "update", "digits", f"--region={REGION}", "--ingress=internal").returncode == 0
    assert asked(person) == 404


def test_functions_of_gcloud_functions_look_like_it(google: Google, source: Write) -> None:
    folder = source()
    (folder / "requirements.txt").write_text("functions-framework\n")
    flags = ["--gen2", f"--source={folder}", "--entry-point=predict", "--runtime=python313", f"--region={REGION}", "--trigger-http"]
    made = google.gcloud("functions", "deploy", "digits", *flags, "--no-allow-unauthenticated", "--quiet")
    assert made.returncode == 0, made.stderr
    assert describe(google)["metadata"]["labels"]["goog-managed-by"] == "cloudfunctions"
    described = google.gcloud("functions", "describe", "digits", f"--region={REGION}", "--format=value(state)")
    assert described.stdout.strip() == "ACTIVE" and list(google.traffic("digits").values()) == [100]
    assert deploy(google, folder, "ours", "--no-traffic").returncode == 0
    detached = google.gcloud("beta", "functions", "detach", "digits", f"--region={REGION}", "--quiet")
    assert detached.returncode == 0, detached.stderr
    assert "goog-managed-by" not in describe(google)["metadata"]["labels"]


def test_commands_of_a_project_are_accepted(google: Google) -> None:
    for line in (
        "services list --enabled --format=value(config.name)",
        "config list --format=json",
        "config get project",
        "auth list --filter=status:ACTIVE --format=value(account)",
        "run services list",
        "run regions list",
        "functions list",
        "artifacts repositories create images --repository-format=docker --location=europe-west1",
        "artifacts repositories list --location=europe-west1",
        "iam service-accounts create nightly",
        "projects create another-1234",
        "billing projects link another-1234 --billing-account=012345-6789AB-CDEF01",
        f"logging sinks create answers bigquery.googleapis.com/projects/{google.project}/datasets/rowmill --log-filter=severity>=INFO",
        "scheduler jobs create http nightly --location=europe-west1 --schedule=@daily --uri=https://example.org",
    ):
        done = google.gcloud(*line.split())
        assert done.returncode == 0, (line, done.stderr)
    assert [len(google.projects.things(kind)) for kind in ("repositories", "serviceAccounts", "sinks", "jobs")] == [1, 1, 1, 1]
    assert "NOT_FOUND" in google.gcloud("artifacts", "repositories", "describe", "images", "--location=us-central1").stderr
    google.projects.disable("run.googleapis.com")
    enabled = ["services", "list", "--enabled", "--format=value(config.name)"]
    assert "run.googleapis.com" not in google.gcloud(*enabled).stdout
    assert google.gcloud("services", "enable", "run.googleapis.com").returncode == 0
    assert "run.googleapis.com" in google.gcloud(*enabled).stdout


def test_large_sources_come_in_parts(google: Google, source: Write) -> None:
    folder = source()
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 40_000)
    (folder / "noise.bin").write_bytes(random.Random(1).randbytes(9_000_000))
    google.variables["CLOUDSDK_STORAGE_UPLOAD_CHUNK_SIZE"] = str(2 * 2**20)
    assert deploy(google, folder, "large").returncode == 0
    assert sum(seen.method == "PUT" and "upload_id" in seen.url for seen in google.requests) > 3
    image = google.run.image(google.service("digits").revisions["digits-large"])
    assert all((image.folder / name).read_bytes() == (folder / name).read_bytes() for name in ("weights.bin", "noise.bin"))


def test_gcloud_without_its_server_answers_the_same(google: Google) -> None:
    alone = google.gcloud("config", "get", "account", CLOUDSDK_PYTHON_ARGS="-S")
    assert alone.stdout.strip() == google.account == google.gcloud("config", "get", "account").stdout.strip()
