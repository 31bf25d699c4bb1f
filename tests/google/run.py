"""Cloud Run's API as gcloud calls it: services, revisions, and the operations that bring them to what was asked for.

A change is accepted at once and settled in a thread of its own, as Google does it: the instance of a new revision is started, without the
lock, and then the traffic follows. gcloud waits for the operation that the service's annotation names.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator

from tests.google import services
from tests.google.accounts import Accounts
from tests.google.builds import Builds
from tests.google.instances import Image, Instances
from tests.google.services import Revision, Service
from tests.google.wire import NUMBER, Answer, ApiError, Call, Json, Routes, done

KNATIVE = "run/apis/serving.knative.dev/v1/namespaces/<project>"
PLACE = "run/v1/projects/<project>/locations"
WAIT_SECONDS = 30.0
_FAILED = (
    "Revision '{name}' is not ready and cannot serve traffic. The user-provided container failed to start and listen on the port defined "
    "provided by the PORT=8080 environment variable within the allocated timeout. This can happen when the container port is misconfigured "
    "or if the timeout is too short. The health check timeout can be extended. Logs for this revision might contain more information. "
    "The last line of its log: {line}"
)

Address = Callable[[Service, str], str]  # a service and a tag to where it answers
Key = tuple[str, str, str]


class Run:
    """All services.

    Attributes:
        services: By project, region and name.
        changed: The lock of all that is kept here, notified of each change. It is never held while an instance starts or answers.
        settle_seconds: How long each change takes beyond the start of its revision.
        never_ready: Whether new revisions stay neither ready nor failed.
    """

    def __init__(self, builds: Builds, instances: Instances, accounts: Accounts, address: Address) -> None:
        self.changed = threading.Condition()
        self.settle_seconds = 0.0
        self.never_ready = False
        self._builds, self._instances, self._accounts, self._address = builds, instances, accounts, address
        self.services: dict[Key, Service] = {}
        self._operations: dict[str, tuple[Key, int]] = {}

    def routes(self) -> Routes:
        """Return the calls that are answered."""
        return {
            f"GET {KNATIVE}/services": self._list,
            f"POST {KNATIVE}/services": self._create,
            f"GET {KNATIVE}/services/<service>": self._get,
            f"PUT {KNATIVE}/services/<service>": self._replace,
            f"DELETE {KNATIVE}/services/<service>": self._delete,
            f"GET {KNATIVE}/revisions": self._list_revisions,
            f"GET {KNATIVE}/revisions/<revision>": self._get_revision,
            f"DELETE {KNATIVE}/revisions/<revision>": self._delete_revision,
            f"GET {PLACE}": _regions,
            f"GET {PLACE}/-/services": self._list,
            f"POST {PLACE}/<region>/operations/<operation>:wait": self._wait,
            "POST run/v2/projects/<project>/locations/<region>/operations/<operation>:wait": self._wait,
        }

    def find(self, project: str, name: str, region: str = "") -> Service | None:
        """Return a service, in whichever region where none is named."""
        found = (
            kept for (owner, place, title), kept in self.services.items() if (owner, title) == (project, name) and region in ("", place)
        )
        return next(found, None)

    def image(self, revision: Revision) -> Image:
        """Return what a revision runs.

        Raises:
            ApiError: No build made it.
        """
        image = self._builds.image(revision.container.get("image", ""))
        if image is None:
            raise ApiError(400, f"Image '{revision.container.get('image')}' not found.")
        return image

    def shown(self, service: Service) -> Json:
        """Return a service as the API shows it."""
        return services.shown(service, lambda tag: self._address(service, tag))

    def apply(self, project: str, region: str, body: Json, account: str) -> Service:
        """Create a service or replace its spec, and settle it in a thread of its own.

        Raises:
            ApiError: The rules refuse it.
        """
        name = body["metadata"]["name"]
        with self.changed:
            service = self.services.get((project, region, name)) or Service(project, region, name)
            revision = services.accept(service, body, account)
            self.services[project, region, name] = service
            generation = service.generation
            self._operations[service.body["metadata"]["annotations"][services.OPERATION]] = ((project, region, name), generation)
            self.changed.notify_all()
        threading.Thread(target=self._settle, args=(service, revision), daemon=True).start()
        return service

    def wait(self, key: Key, generation: int, seconds: float) -> bool:
        """Return whether the generation was settled, or its service deleted, in time."""
        with self.changed:
            return self.changed.wait_for(lambda: (kept := self.services.get(key)) is None or kept.observed >= generation, seconds)

    def remove(self, service: Service) -> None:
        """Delete a service with all that is its own."""
        with self.changed:
            self.services.pop((service.project, service.region, service.name), None)
            self.changed.notify_all()
        self._accounts.forget(service.resource)
        self._instances.stop(service)

    def _settle(self, service: Service, revision: Revision | None) -> None:
        time.sleep(self.settle_seconds)
        if revision and self.never_ready:
            return
        message = self._start(service, revision) if revision else ""
        with self.changed:
            if revision:
                revision.ready, revision.message = not message, message
            services.settle(service)
            self.changed.notify_all()

    def _start(self, service: Service, revision: Revision) -> str:
        """Start the revision's first instance; return why it does not start."""
        try:
            started = self._instances.start(service, revision, self.image(revision))
        except ApiError as error:
            return str(error)
        lines = self._instances.lines(service, revision) or ["nothing"]
        return "" if started else _FAILED.format(name=revision.name, line=lines[-1])

    def _named(self, call: Call) -> Service:
        found = self.find(call.names["project"], call.names["service"], call.region)
        if found is None:
            raise ApiError(404, f"Resource '{call.names['service']}' of kind 'SERVICE' in region '{call.region}' does not exist.")
        return found

    def _list(self, call: Call) -> Answer:
        with self.changed:
            found = [kept for key, kept in self.services.items() if key[0] == call.names["project"] and call.region in ("", key[1])]
            return {"apiVersion": services.API, "kind": "ServiceList", "metadata": {}, "items": [self.shown(kept) for kept in found]}

    def _get(self, call: Call) -> Answer:
        with self.changed:
            return self.shown(self._named(call))

    def _create(self, call: Call) -> Answer:
        body = call.content
        if self.find(call.names["project"], name := body["metadata"]["name"], call.region):
            raise ApiError(409, f"Resource '{name}' already exists.", "ALREADY_EXISTS")
        return self._shown_now(self.apply(call.names["project"], call.region, body, call.account))

    def _replace(self, call: Call) -> Answer:
        service = self._named(call)
        return self._shown_now(self.apply(service.project, service.region, call.content, call.account))

    def _shown_now(self, service: Service) -> Json:
        with self.changed:
            return self.shown(service)

    def _delete(self, call: Call) -> Answer:
        self.remove(self._named(call))
        return {"kind": "Status", "status": "Success"}

    def _revisions(self, call: Call) -> Iterator[tuple[Service, Revision]]:
        for (project, region, _), service in self.services.items():
            if project == call.names["project"] and call.region in ("", region):
                yield from ((service, revision) for revision in service.revisions.values())

    def _list_revisions(self, call: Call) -> Answer:
        wanted = dict(re.findall(r"([\w./-]+)\s*(?:=|in)\s*\(?([\w-]+)", call.query("labelSelector")))
        with self.changed:
            every = [services.shown_revision(*found) for found in self._revisions(call)]
        chosen = [item for item in every if wanted.items() <= item["metadata"]["labels"].items()]
        return {"apiVersion": services.API, "kind": "RevisionList", "metadata": {}, "items": chosen[::-1]}

    def _found_revision(self, call: Call) -> tuple[Service, Revision]:
        found = next((pair for pair in self._revisions(call) if pair[1].name == call.names["revision"]), None)
        if found is None:
            raise ApiError(404, f"Resource '{call.names['revision']}' of kind 'REVISION' does not exist.")
        return found

    def _get_revision(self, call: Call) -> Answer:
        with self.changed:
            return services.shown_revision(*self._found_revision(call))

    def _delete_revision(self, call: Call) -> Answer:
        with self.changed:
            service, revision = self._found_revision(call)
            services.refuse_removal(service, revision.name)
            del service.revisions[revision.name]
        self._instances.stop(service, revision.name)
        return {"kind": "Status", "status": "Success"}

    def _wait(self, call: Call) -> Answer:
        place = f"projects/{call.names['project']}/locations/{call.names['region']}/operations/{call.names['operation']}"
        if call.names["operation"] not in self._operations:
            raise ApiError(404, f"Operation {place} not found.")
        key, generation = self._operations[call.names["operation"]]
        if not self.wait(key, generation, WAIT_SECONDS):
            return {"name": place, "done": False}
        with self.changed:
            service = self.services.get(key)
            if service is None:
                raise ApiError(404, f"Resource '{key[2]}' of kind 'SERVICE' does not exist.")
            return done(place, "google.cloud.run.v1.Service", self.shown(service))


def _regions(call: Call) -> Answer:
    del call
    regions = ("europe-west1", "europe-west4", "us-central1")
    return {"locations": [{"name": f"projects/{NUMBER}/locations/{name}", "locationId": name} for name in regions]}
