"""Cloud Run's rules, pure: what a posted service becomes, which revision gets the traffic, what may be deleted.

A service is posted and shown as a Knative object (`serving.knative.dev/v1`), whose spec is the wish and whose status is what is. Each
change of the spec is a generation; a changed template makes a revision. Nothing is shifted before a revision is known to be ready.
"""

import copy
import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.google.wire import NUMBER, ApiError, Json, now

Address = Callable[[str], str]  # a tag, or an empty text, to where it is served
API = "serving.knative.dev/v1"
ALL_TO_LATEST: list[Json] = [{"latestRevision": True, "percent": 100}]
OPERATION = "run.googleapis.com/operation-id"
INGRESS = "run.googleapis.com/ingress"
CREATOR, MODIFIER = "serving.knative.dev/creator", "serving.knative.dev/lastModifier"
_SPEC = {"containerConcurrency": 80, "timeoutSeconds": 300, "serviceAccountName": f"{NUMBER}-compute@developer.gserviceaccount.com"}
_CONTAINER: Json = {"resources": {"limits": {"cpu": "1000m", "memory": "512Mi"}}, "ports": [{"name": "http1", "containerPort": 8080}]}
_TAG = re.compile(r"[a-z][a-z0-9-]*[a-z0-9]")


@dataclass
class Revision:
    """One deployed state of a service; `ready` is None while it starts."""

    name: str
    number: int
    template: Json
    creator: str = ""
    created: str = field(default_factory=now)
    ready: bool | None = None
    message: str = ""

    @property
    def container(self) -> Json:
        """The container that serves."""
        container: Json = self.template["spec"]["containers"][0]
        return container


@dataclass
class Service:
    """One service; `traffic` is what its addresses heed, `body` what was last asked for."""

    project: str
    region: str
    name: str
    body: Json = field(default_factory=dict)
    created: str = field(default_factory=now)
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    version: int = 0
    generation: int = 0
    observed: int = 0
    revisions: dict[str, Revision] = field(default_factory=dict)
    latest_created: str = ""
    latest_ready: str = ""
    traffic: list[Json] = field(default_factory=list)
    route_message: str = ""

    @property
    def resource(self) -> str:
        """Its name in policies."""
        return f"projects/{self.project}/locations/{self.region}/services/{self.name}"

    @property
    def tags(self) -> dict[str, str]:
        """The revisions that have an address of their own, by tag."""
        return {target["tag"]: target["revisionName"] for target in self.traffic if target.get("tag")}


def accept(service: Service, body: Json, account: str) -> Revision | None:
    """Take over what was posted, and return the revision that it makes, None where the template is as before.

    Raises:
        ApiError: Somebody else was faster, a revision's name is taken, or the traffic makes no sense.
    """
    asked = body.get("metadata", {}).get("resourceVersion")
    if asked and asked != str(service.version):
        found = f"version '{asked}' was specified but current version is '{service.version}'."
        raise ApiError(409, f"Conflict for resource '{service.name}': {found}")
    body = _completed(body)
    revision = _revision(service, body["spec"]["template"])
    _check_traffic(service, body["spec"]["traffic"], revision)
    service.generation += 1
    service.version += 1
    given = body["metadata"]
    annotations = {CREATOR: account, **given.get("annotations", {})}
    annotations |= {OPERATION: str(uuid.uuid4()), MODIFIER: account}
    service.body = {"metadata": {"name": service.name, "labels": given.get("labels", {}), "annotations": annotations}, "spec": body["spec"]}
    if revision:
        revision.number, revision.creator = service.generation, account
        service.revisions[revision.name] = revision
        service.latest_created = revision.name
    return revision


def _completed(body: Json) -> Json:
    """Return what was posted with Google's defaults where nothing was said."""
    body = copy.deepcopy(body)
    spec = body.setdefault("spec", {})
    spec["traffic"] = spec.get("traffic") or copy.deepcopy(ALL_TO_LATEST)
    template = spec["template"]["spec"]
    template.update({**_SPEC, **template})
    for container in template["containers"]:
        container.update({**copy.deepcopy(_CONTAINER), **container})
        limits = container["resources"].setdefault("limits", {})
        limits.update({**_CONTAINER["resources"]["limits"], **limits})
    return body


def _revision(service: Service, template: Json) -> Revision | None:
    latest = service.revisions.get(service.latest_created)
    if latest and latest.template == template:
        return None
    name = template.get("metadata", {}).get("name") or f"{service.name}-{service.generation + 1:05d}-{secrets.token_hex(2)[:3]}"
    if not name.startswith(f"{service.name}-") or len(name) > 63:
        raise ApiError(
            400, f"spec.template.metadata.name: Revision name '{name}' must start with '{service.name}-', 63 characters at most."
        )
    if name in service.revisions:
        raise ApiError(409, f"Revision named '{name}' with different configuration already exists.", "ALREADY_EXISTS")
    return Revision(name, service.generation + 1, copy.deepcopy(template))


def _check_traffic(service: Service, traffic: list[Json], new: Revision | None) -> None:
    known = {*service.revisions, *([new.name] if new else [])}
    if sum(target.get("percent", 0) for target in traffic) != 100:
        raise ApiError(400, "spec.traffic: The percentages must sum to 100.")
    tags = [target["tag"] for target in traffic if target.get("tag")]
    if len(tags) != len(set(tags)):
        raise ApiError(400, "spec.traffic: A tag may be given to one revision only.")
    for tag in tags:
        if not _TAG.fullmatch(tag) or len(tag) < 3 or len(tag) + len(service.name) > 46:
            raise ApiError(400, f"spec.traffic.tag: '{tag}' is no valid tag of service '{service.name}'.")
    for target in traffic:
        if not target.get("latestRevision") and target.get("revisionName") not in known:
            raise ApiError(400, f"spec.traffic.revision_name: Revision named '{target.get('revisionName')}' does not exist.")


def settle(service: Service) -> None:
    """Bring the traffic to what is wished for when all revisions that shall have some are ready; asked again whenever one is known to be."""
    latest = service.revisions[service.latest_created]
    if latest.ready:
        service.latest_ready = latest.name
    targets: list[Json] = []
    failed: list[str] = []
    starting: list[str] = []
    for target in service.body["spec"]["traffic"]:
        name = (service.latest_ready or latest.name) if target.get("latestRevision") else target["revisionName"]
        ready = service.revisions[name].ready
        if ready:
            targets.append({**target, "revisionName": name})
        elif target.get("percent"):
            (starting if ready is None else failed).append(name)
    if not failed and not starting:
        service.traffic = targets
    service.route_message = f"Revision '{failed[0]}' is not ready and cannot serve traffic." if failed else ""
    if not starting and latest.ready is not None:
        service.observed = service.generation
    service.version += 1


def refuse_removal(service: Service, name: str) -> None:
    """Refuse to delete a revision that Google would not delete.

    Raises:
        ApiError: It can receive traffic, or it is the latest one.
    """
    wished = [target.get("revisionName") for target in service.body["spec"]["traffic"]]
    if name in wished or name in [target["revisionName"] for target in service.traffic]:
        raise ApiError(400, f"Revision '{name}' cannot be deleted because it can receive traffic.", "FAILED_PRECONDITION")
    if name in (service.latest_created, service.latest_ready):
        raise ApiError(400, f"Revision '{name}' cannot be deleted because it is the latest of its service.", "FAILED_PRECONDITION")


def shown(service: Service, address: Address) -> Json:
    """Return the service as the API shows it."""
    metadata = {
        **service.body["metadata"],
        "namespace": NUMBER,
        "selfLink": f"/apis/{API}/namespaces/{NUMBER}/services/{service.name}",
        "uid": service.uid,
        "resourceVersion": str(service.version),
        "generation": service.generation,
        "creationTimestamp": service.created,
    }
    metadata["labels"] = {**metadata.get("labels", {}), "cloud.googleapis.com/location": service.region}
    metadata["annotations"] = {**metadata["annotations"], "run.googleapis.com/urls": f'["{address("")}"]'}
    shown_status = {
        "observedGeneration": service.observed,
        "conditions": _conditions(service),
        "latestCreatedRevisionName": service.latest_created,
        "latestReadyRevisionName": service.latest_ready,
        "traffic": [{**target, **({"url": address(target["tag"])} if target.get("tag") else {})} for target in service.traffic],
        "url": address(""),
        "address": {"url": address("")},
    }
    return {"apiVersion": API, "kind": "Service", "metadata": metadata, "spec": copy.deepcopy(service.body["spec"]), "status": shown_status}


def _conditions(service: Service) -> list[Json]:
    if service.observed != service.generation:
        return [_condition(kind, None, "") for kind in ("Ready", "ConfigurationsReady", "RoutesReady")]
    latest = service.revisions[service.latest_created]
    route = not service.route_message
    ready = bool(latest.ready) and route
    return [
        _condition("Ready", ready, latest.message or service.route_message),
        _condition("ConfigurationsReady", latest.ready, latest.message),
        _condition("RoutesReady", route, service.route_message),
    ]


def _condition(kind: str, status: bool | None, message: str) -> Json:
    condition = {"type": kind, "status": {True: "True", False: "False", None: "Unknown"}[status], "lastTransitionTime": now()}
    return (
        condition
        if status
        else {**condition, "reason": "HealthCheckContainerError" if status is False else "Deploying", "message": message}
    )


def shown_revision(service: Service, revision: Revision) -> Json:
    """Return a revision as the API shows it."""
    given = revision.template.get("metadata", {})
    labels = {"serving.knative.dev/service": service.name, "serving.knative.dev/configuration": service.name}
    labels |= {"serving.knative.dev/configurationGeneration": str(revision.number), "cloud.googleapis.com/location": service.region}
    metadata = {
        "name": revision.name,
        "namespace": NUMBER,
        "selfLink": f"/apis/{API}/namespaces/{NUMBER}/revisions/{revision.name}",
        "generation": 1,
        "creationTimestamp": revision.created,
        "labels": {**given.get("labels", {}), **labels},
        "annotations": {**given.get("annotations", {}), CREATOR: revision.creator},
    }
    active = revision.name in [target["revisionName"] for target in service.traffic]
    conditions = [_condition(kind, revision.ready, revision.message) for kind in ("Ready", "ContainerHealthy", "ResourcesAvailable")]
    conditions.append({**_condition("Active", active, ""), "severity": "Info"})
    status = {"observedGeneration": 1, "conditions": conditions, "imageDigest": revision.container.get("image", "")}
    return {"apiVersion": API, "kind": "Revision", "metadata": metadata, "spec": copy.deepcopy(revision.template["spec"]), "status": status}
