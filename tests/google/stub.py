"""Google for tests: all parts together, what tests turn on it, and what somebody else may do on it meanwhile."""

import contextlib
import copy
import io
import json
import shutil
import subprocess
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from werkzeug import Response

from tests.google import tls
from tests.google.account import Login, clean_environment, loaded, log_in, new_login, variables
from tests.google.accounts import Accounts
from tests.google.builds import Builds
from tests.google.faults import Fault, failing, refusing
from tests.google.fronts import Asked, Chosen, Fronts
from tests.google.functions import Functions
from tests.google.gate import Gate
from tests.google.instances import Instances
from tests.google.logs import Logs
from tests.google.projects import Projects
from tests.google.proxy import Proxy, Seen
from tests.google.run import Run
from tests.google.services import Service
from tests.google.storage import Storage
from tests.google.wire import Call, Json

REGION = "europe-west1"
SOMEBODY = "somebody@example.org"


class Google:
    """One stub with one project.

    Attributes:
        project: Its id.
        account: Who gcloud is logged in as; the project's owner.
        variables: What leads a gcloud to this stub, and to nothing else.
        accounts, builds, instances, run, projects: The parts, with knobs of their own.
    """

    def __init__(self, folder: Path, login: Login) -> None:
        self.project = f"project-{uuid.uuid4().hex[:6]}"
        self.account = login.email
        self.accounts, self.storage, self.projects, self.instances = Accounts(), Storage(), Projects(), Instances(folder)
        self.builds = Builds(self.storage, folder)
        self.run = Run(self.builds, self.instances, self.accounts, self.address)
        self._gate = Gate(self.run, self.accounts, self.instances)
        self._fronts = Fronts(self._choose)
        functions, logs = Functions(self.run, self.builds, self.accounts), Logs(self.run, self.instances)
        certificate = tls.certificate(folder)
        parts = (self.accounts, self.storage, self.projects, self.builds, self.run, functions, logs)
        self.proxy = Proxy(
            {line: handler for part in parts for line, handler in part.routes().items()}, self.accounts.caller, tls.context(certificate)
        )
        self.variables = variables(login, self.proxy.port, self.project, certificate)
        self.accounts.register(login.email, login.public)
        self.accounts.grant(f"projects/{self.project}", "roles/owner", f"serviceAccount:{login.email}")

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a process whose gcloud reaches this stub and nothing else."""
        return clean_environment() | self.variables

    @property
    def requests(self) -> list[Seen]:
        """All calls that came, in their order."""
        return self.proxy.requests

    def gcloud(self, *arguments: str, timeout: float = 120, **given: str) -> subprocess.CompletedProcess[str]:
        """Run the real gcloud, and return its exit code, its answer and its messages."""
        command = [shutil.which("gcloud") or "gcloud", *arguments]
        return subprocess.run(
            command, env=self.environment | given, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
        )

    def log_in_as(self, email: str) -> None:
        """Let gcloud be logged in as a person, who owns the project, too."""
        self.accounts.grant(f"projects/{self.project}", "roles/owner", f"user:{email}")
        done = self.gcloud("auth", "activate-refresh-token", email, self.accounts.person(email))
        assert done.returncode == 0, done.stderr

    def address(self, service: Service, tag: str = "") -> str:
        """Return where a service, or one of its tags, answers."""
        return self._fronts.address((service.project, service.region, service.name), tag)

    def service(self, name: str) -> Service:
        """Return a service of the project."""
        found = self.run.find(self.project, name)
        assert found, f"There is no service {name}; found {[key[2] for key in self.run.services]}."
        return found

    def traffic(self, name: str) -> dict[str, int]:
        """Return what each revision of a service really gets, in percent."""
        targets = self.service(name).traffic
        return {target["revisionName"]: target["percent"] for target in targets if target.get("percent")}

    def fail(self, pattern: str, code: int, *, late: bool = False, skip: int = 0, times: int = 1) -> Fault:
        """Answer calls with an error; `late`: after they were carried out."""
        return self.proxy.faults.add(Fault(pattern, failing(code), late, skip, times))

    def refuse(self, pattern: str, *, late: bool = False, skip: int = 0, times: int = 1) -> Fault:
        """Reset the connection of calls."""
        return self.proxy.faults.add(Fault(pattern, refusing, late, skip, times))

    def hang(self, pattern: str, *, late: bool = False, skip: int = 0, times: int = 1) -> Fault:
        """Leave calls without an answer until `mend`."""
        return self.proxy.faults.add(Fault(pattern, self.proxy.faults.hanging, late, skip, times))

    def ignore(self, pattern: str = r"PUT .*/services/[^/]+$", *, skip: int = 0, times: int = 1) -> Fault:
        """Answer changes of a service with 200, and change nothing."""

        def act(call: Call) -> Response:
            with self.run.changed:
                shown = self.run.shown(self.service(call.names["service"]))
            return Response(json.dumps(shown), content_type="application/json")

        return self.proxy.faults.add(Fault(pattern, act, False, skip, times))

    def meanwhile(self, pattern: str, action: Callable[[], object], *, late: bool = False, skip: int = 0) -> Fault:
        """Let something happen just before a call is carried out, or just after."""

        def act(call: Call) -> None:
            del call
            action()

        return self.proxy.faults.add(Fault(pattern, act, late, skip))

    def mend(self) -> None:
        """Let nothing go wrong any more."""
        self.proxy.faults.clear()
        self.builds.failure, self.run.never_ready, self.run.settle_seconds = "", False, 0.0

    def deploy(self, name: str, source: Path, suffix: str, account: str = SOMEBODY, *, traffic: bool = True) -> str:
        """Deploy a folder as somebody else would, without gcloud, and return the revision's name when it is settled."""
        bucket, stored = "run-sources", f"{uuid.uuid4().hex}.zip"
        self.storage.put(bucket, stored, _zipped(source))
        uri = f"{REGION}-docker.pkg.dev/{self.project}/cloud-run-source-deploy/{name}"
        digest = self.builds.build(uri, {"bucket": bucket, "object": stored}, "predict")
        found = self.run.find(self.project, name)
        body: Json = copy.deepcopy(found.body) if found else {"metadata": {"name": name}, "spec": {}}
        body["spec"]["template"] = {"metadata": {"name": f"{name}-{suffix}"}, "spec": {"containers": [{"image": f"{uri}@{digest}"}]}}
        before = body["spec"].get("traffic", [])
        if traffic or not found:
            body["spec"]["traffic"] = [{"latestRevision": True, "percent": 100}, *_tagged(before)]
        else:
            pinned = {"latestRevision": False, "revisionName": found.latest_ready}
            body["spec"]["traffic"] = [{**target, **pinned} if target.get("latestRevision") else target for target in before]
        self._apply(body, account)
        return f"{name}-{suffix}"

    def shift(self, name: str, percentages: dict[str, int], account: str = SOMEBODY) -> None:
        """Give traffic to revisions as somebody else would; tags stay."""
        body = copy.deepcopy(self.service(name).body)
        shares = [{"revisionName": revision, "percent": percent} for revision, percent in percentages.items()]
        body["spec"]["traffic"] = [*shares, *_tagged(body["spec"]["traffic"])]
        self._apply(body, account)

    def close(self) -> None:
        """Stop all that runs."""
        self.proxy.close()
        self._fronts.close()
        self.instances.stop_all()

    def _apply(self, body: Json, account: str) -> None:
        found = self.run.find(self.project, body["metadata"]["name"])
        service = self.run.apply(self.project, found.region if found else REGION, body, account)
        assert self.run.wait((service.project, service.region, service.name), service.generation, 60), "The change was not settled in time."

    def _choose(self, asked: Asked) -> Chosen:
        return self._gate.choose(asked, self._fronts.address(asked.service))


@contextlib.contextmanager
def running(folder: Path, login: Login) -> Iterator[Google]:
    """Start a stub that keeps its files in `folder`, and whose project the account owns."""
    google = Google(folder, login)
    try:
        yield google
    finally:
        google.close()


@contextlib.contextmanager
def logged_in(folder: Path) -> Iterator[Login]:
    """Make a throwaway account and let a gcloud that keeps its state in `folder` log in as it; commands are quick as long as this lasts."""
    with loaded() as arguments:
        login, key = new_login("rowmill-tests", folder / "gcloud", arguments)
        with running(folder, login) as google:
            log_in(login, key, google.environment)
        yield login


def _tagged(traffic: list[Json]) -> list[Json]:
    """Return the tags of a traffic, without a share of it."""
    return [{**target, "percent": 0} for target in traffic if target.get("tag")]


def _zipped(source: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(source.rglob("*")):
            archive.write(path, path.relative_to(source))
    return content.getvalue()
