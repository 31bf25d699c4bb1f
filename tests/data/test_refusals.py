"""What goes wrong on Google is one sentence with the next step, and never an empty frame."""

import dataclasses
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.api_core.exceptions import Unauthorized
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from rowmill import settings
from rowmill.data import bigquery as room
from rowmill.data import refusals, warehouse
from rowmill.data.bigquery import BigqueryWarehouse
from rowmill.errors import NotFoundError, RowmillError, SettingsError, WarehouseError
from rowmill.settings import Settings
from rowmill.tables import Table

from tests.data.test_warehouse import TABLE, rows

THERE = {"datasetReference": {"projectId": "my-project", "datasetId": "rowmill"}, "location": "EU"}
SCHEMA = {"fields": [field.to_api_repr() for field in room._schema(TABLE)]}
Answer = tuple[int, dict]


class Google(http.server.ThreadingHTTPServer):
    """Answers every request by `answer(path)`; the last request's body is in `body`."""

    body: bytes
    answer: Callable[[str], Answer]
    daemon_threads = True


class Handler(http.server.BaseHTTPRequestHandler):
    """Writes the answer as Google writes its own."""

    def do_GET(self) -> None:
        """Answer a request of any method."""
        self.server.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, body = self.server.answer(f"{self.command} {self.path.split('?')[0]}")
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Keep the tests' output short."""


def refusal(status: int, reason: str, message: str) -> Answer:
    """Return an error as Google words it."""
    return status, {"error": {"code": status, "message": message, "errors": [{"reason": reason, "message": message, "domain": "global"}]}}


@pytest.fixture(name="google")
def fixture_google() -> Iterator[Google]:
    """A server in Google's place."""
    with Google(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(name="store")
def fixture_store(google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> warehouse.Warehouse:
    """The warehouse of a project whose BigQuery is the server."""
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{google.server_port}")
    (tmp_path / "rowmill.toml").write_text('[warehouse]\nkind = "bigquery"\nproject = "my-project"\n')
    return warehouse.connect(settings.load(tmp_path))


CASES = [
    pytest.param(
        refusal(403, "accessDenied", "Access Denied: Dataset my-project:rowmill: Permission bigquery.datasets.get denied"),
        WarehouseError,
        "Google does not let you use my-project.rowmill.things: .* ask for the roles BigQuery User on project my-project and "
        "BigQuery Data Editor on data set rowmill.",
        id="no-permission",
    ),
    pytest.param(
        refusal(403, "quotaExceeded", "Quota exceeded: Your table exceeded quota for imports or query appends per table"),
        WarehouseError,
        "A quota of BigQuery is used up for my-project.rowmill.things: Quota exceeded: .* wait until it is filled again",
        id="quota",
    ),
    pytest.param(
        refusal(403, "billingNotEnabled", "Billing has not been enabled for this project. Enable billing at ..."),
        WarehouseError,
        "link project my-project to a billing account",
        id="billing",
    ),
    pytest.param(
        refusal(403, "accessNotConfigured", "BigQuery API has not been used in project 123 before or it is disabled."),
        WarehouseError,
        "run `gcloud services enable bigquery.googleapis.com bigquerystorage.googleapis.com --project=my-project`",
        id="switched-off",
    ),
    pytest.param(
        refusal(404, "notFound", "Not found: Project my-project"),
        NotFoundError,
        "There is no project 'my-project' with BigQuery for my-project.rowmill.things.* `gcloud projects list`",
        id="no-project",
    ),
    pytest.param(
        refusal(400, "invalid", "The project my-project has not enabled BigQuery."),
        NotFoundError,
        "There is no project 'my-project' with BigQuery",
        id="project-without-bigquery",
    ),
    pytest.param(
        (200, {**THERE, "location": "US"}),
        SettingsError,
        "Data set my-project.rowmill does not lie in warehouse.location = 'EU'; found 'US'; set location = 'US' in rowmill.toml",
        id="wrong-location",
    ),
]


@pytest.mark.parametrize(("answer", "kind", "words"), CASES)
def test_each_refusal_is_a_sentence(
    store: warehouse.Warehouse, google: Google, answer: Answer, kind: type[RowmillError], words: str
) -> None:
    google.answer = lambda _: answer
    for use in (lambda: store.read(TABLE), lambda: store.append(TABLE, rows("a"))):
        with pytest.raises(kind, match=words) as raised:
            use()
        assert "\n" not in str(raised.value) and "http://" not in str(raised.value)


@pytest.mark.parametrize(("answer", "kind", "words"), CASES[:2])
def test_each_refusal_of_a_query_or_load_is_a_sentence(
    store: warehouse.Warehouse, google: Google, answer: Answer, kind: type[RowmillError], words: str
) -> None:
    table = {"tableReference": {**THERE["datasetReference"], "tableId": "things"}, "schema": SCHEMA}
    looks = {"datasets/rowmill": (200, THERE), "tables/things": (200, table)}
    google.answer = lambda path: next((found for end, found in looks.items() if path.startswith("GET") and path.endswith(end)), answer)
    for use in (lambda: store.read(TABLE), lambda: store.append(TABLE, rows("a"))):
        with pytest.raises(kind, match=words):
            use()


def test_a_query_that_fails_is_no_empty_frame(on_bigquery: Settings) -> None:
    store = warehouse.connect(on_bigquery)
    store.append(TABLE, rows("a"))
    bigquery.Client(on_bigquery.warehouse_project, AnonymousCredentials()).delete_table(f"{on_bigquery.warehouse_dataset}.things")
    with pytest.raises(WarehouseError, match=f"BigQuery does not take this for .*{on_bigquery.warehouse_dataset}.things: .*things"):
        store.read(TABLE)
    assert warehouse.connect(on_bigquery).read(TABLE).empty


def test_a_missing_data_set_is_empty_until_the_first_append(on_bigquery: Settings) -> None:
    store = warehouse.connect(on_bigquery)
    assert store.read(TABLE).empty
    with bigquery.Client(on_bigquery.warehouse_project, AnonymousCredentials()) as asked:
        assert on_bigquery.warehouse_dataset not in {found.dataset_id for found in asked.list_datasets()}
        store.append(TABLE, rows("a"))
        assert asked.get_dataset(on_bigquery.warehouse_dataset).location == "EU"


def test_another_table_of_the_name_is_refused(on_bigquery: Settings) -> None:
    warehouse.connect(on_bigquery).append(
        Table("things", {"name": "STRING", "count": "STRING"}), pd.DataFrame({"name": ["a"], "count": "1"})
    )
    with pytest.raises(WarehouseError, match="has other columns than rowmill's; found a difference in at, blob, count, share; set wareh"):
        warehouse.connect(on_bigquery).append(TABLE, rows("a"))


def test_a_place_that_google_does_not_have_is_refused(store: warehouse.Warehouse, google: Google) -> None:
    nothing, nowhere = refusal(404, "notFound", "Not found: Dataset my-project:rowmill"), refusal(400, "invalid", "Invalid location: EU")
    google.answer = lambda path: nothing if path.startswith("GET") else nowhere
    assert store.read(TABLE).empty
    with pytest.raises(
        SettingsError, match="cannot make my-project.rowmill.things in warehouse.location = 'EU': Invalid location: EU; set"
    ):
        store.append(TABLE, rows("a"))


def test_refused_credentials_are_a_sentence() -> None:
    with pytest.raises(WarehouseError, match="no longer accepts this machine's credentials for p.d.t: nope; run `gcloud auth"):
        with refusals.told(refusals.Asked("p.d.t", "p", "EU", "a role")):
            raise Unauthorized("nope")


def test_silence_is_a_sentence(store: BigqueryWarehouse, google: Google) -> None:
    store.access = dataclasses.replace(store.access, patience_seconds=0.5)
    google.server_close()
    with pytest.raises(WarehouseError, match="BigQuery cannot be reached for .*my-project.rowmill.things: .* look at the network"):
        store.read(TABLE)


def connect_to_google(folder: Path, monkeypatch: pytest.MonkeyPatch) -> warehouse.Warehouse:
    """Return the warehouse of a project on the real BigQuery."""
    for name in ("BIGQUERY_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(folder))
    (folder / "rowmill.toml").write_text('[warehouse]\nkind = "bigquery"\nproject = "my-project"\n')
    return warehouse.connect(settings.load(folder))


def test_no_credentials_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = connect_to_google(tmp_path, monkeypatch)
    with pytest.raises(
        WarehouseError, match="my-project.rowmill.things needs Google credentials and this machine has none; run `gcloud auth"
    ):
        store.read(TABLE)


def test_expired_credentials_are_a_sentence(google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = connect_to_google(tmp_path, monkeypatch)
    google.answer = lambda _: (400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    login = {
        "type": "service_account",
        "client_email": "me@my-project.iam.gserviceaccount.com",
        "private_key": rsa.generate_private_key(65537, 2048).private_bytes(*pem).decode(),
        "token_uri": f"http://127.0.0.1:{google.server_port}/token",
    }
    (tmp_path / "application_default_credentials.json").write_text(json.dumps(login))
    with pytest.raises(WarehouseError, match="no longer accepts .*invalid_grant.* run `gcloud auth application-default login`"):
        store.read(TABLE)
