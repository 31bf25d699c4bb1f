"""What gcloud asks of a project beside Cloud Run: its number, enabled services, service accounts, repositories, sinks, jobs, budgets.

These calls are accepted and kept, and nothing follows from them.
"""

import threading

from tests.google.wire import NUMBER, Answer, ApiError, Call, Json, Routes, done, now

# Where things are listed and made, and how a list names them.
COLLECTIONS = {
    "artifactregistry/v1/projects/<project>/locations/<region>/repositories": "repositories",
    "iam/v1/projects/<project>/serviceAccounts": "accounts",
    "logging/v2/projects/<project>/sinks": "sinks",
    "cloudscheduler/v1/projects/<project>/locations/<region>/jobs": "jobs",
    "billingbudgets/v1/billingAccounts/<account>/budgets": "budgets",
}
PAYER = "billingAccounts/012345-6789AB-CDEF01"
REPOSITORY = "google.devtools.artifactregistry.v1.Repository"


class Projects:
    """The things of all projects, by their full names."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._things: dict[str, Json] = {}
        self._disabled: set[str] = set()

    def routes(self) -> Routes:
        """Return the calls that are answered."""
        routes: Routes = {
            "GET cloudresourcemanager/v1/projects/<project>": _project,
            "POST cloudresourcemanager/v1/projects": _make_project,
            "DELETE cloudresourcemanager/v1/projects/<project>": _accept,
            "GET cloudresourcemanager/v1/operations/<operation>": _make_project,
            "GET cloudbilling/v1/billingAccounts": _billing_accounts,
            "GET cloudbilling/v1/projects/<project>/billingInfo": _billing,
            "PUT cloudbilling/v1/projects/<project>/billingInfo": _billing,
            "GET serviceusage/v1/projects/<project>/services": self._enabled,
            "GET serviceusage/v1/projects/<project>/services/<service>": self._usage,
            "POST serviceusage/v1/projects/<project>/services/<service>:enable": self._enable,
            "POST serviceusage/v1/projects/<project>/services:batchEnable": self._enable,
            "GET serviceusage/v1/projects/<project>/services:batchGet": _nothing,
            "GET artifactregistry/v1/projects/<project>/locations/<region>/operations/<operation>": self._made,
        }
        for path in COLLECTIONS:
            routes[f"GET {path}"] = self._list
            routes[f"POST {path}"] = self._create
            routes[f"GET {path}/<thing>"] = self._get
            routes[f"DELETE {path}/<thing>"] = self._delete
        return routes

    def things(self, kind: str) -> list[Json]:
        """Return what was made of a kind, such as `sinks`."""
        return [thing for name, thing in self._things.items() if name.rsplit("/", 2)[1] == kind]

    def disable(self, service: str) -> None:
        """Turn an API off, such as `run.googleapis.com`, until somebody enables it."""
        self._disabled.add(service)

    def _usage(self, call: Call) -> Answer:
        service = call.names["service"]
        state = "DISABLED" if service in self._disabled else "ENABLED"
        return {"name": f"projects/{NUMBER}/services/{service}", "state": state, "config": {"name": service}}

    def _enable(self, call: Call) -> Answer:
        for service in [call.names["service"]] if "service" in call.names else call.content["serviceIds"]:
            self._disabled.discard(service)
        return done("operations/acf.enabled", "google.api.serviceusage.v1.EnableServiceResponse")

    def _enabled(self, call: Call) -> Answer:
        del call
        names = [f"{api}.googleapis.com" for api in ("artifactregistry", "cloudbuild", "run")]
        shown = [{"name": f"projects/{NUMBER}/services/{name}", "state": "ENABLED", "config": {"name": name}} for name in names]
        return {"services": [service for service, name in zip(shown, names, strict=True) if name not in self._disabled]}

    def _list(self, call: Call) -> Answer:
        prefix = _path(call) + "/"
        return {prefix.rsplit("/", 2)[1]: [thing for name, thing in self._things.items() if name.startswith(prefix)]}

    def _create(self, call: Call) -> Answer:
        name, thing = _described(call)
        with self._lock:
            if name in self._things:
                raise ApiError(409, f"Resource '{name}' already exists.", "ALREADY_EXISTS")
            self._things[name] = thing
        if call.api == "artifactregistry":
            return done(f"{name.rsplit('/', 2)[0]}/operations/{name.rsplit('/', 1)[1]}", REPOSITORY, thing)
        return thing

    def _made(self, call: Call) -> Answer:
        """Return the operation that made a repository, whose name is its own."""
        return done(_path(call), REPOSITORY, self._things.get(_path(call).replace("/operations/", "/repositories/")))

    def _get(self, call: Call) -> Answer:
        thing = self._things.get(self._full(call))
        if thing is None and "/serviceAccounts/" in _path(call) and call.names["thing"].startswith(NUMBER):
            return {"name": _path(call), "email": call.names["thing"], "projectId": call.names["project"], "uniqueId": "1"}
        if thing is None:
            raise ApiError(404, f"Requested entity '{_path(call)}' was not found.")
        return thing

    def _delete(self, call: Call) -> Answer:
        if self._things.pop(self._full(call), None) is None:
            raise ApiError(404, f"Requested entity '{_path(call)}' was not found.")
        if call.api == "artifactregistry":
            return done(f"{_path(call).rsplit('/', 2)[0]}/operations/deleted", "google.protobuf.Empty")
        return {}

    def _full(self, call: Call) -> str:
        """Return the name of a thing, whose project may be `-`: a service account's name is enough."""
        path = _path(call)
        return next((name for name in self._things if path.startswith("projects/-/") and name.endswith(path[10:])), path)


def _path(call: Call) -> str:
    """Return the resource that a call names."""
    return call.request.path.split("/", 2)[2]


def _described(call: Call) -> tuple[str, Json]:
    """Return the full name of what is to be made, and it."""
    path, content = _path(call), call.content
    if call.api == "iam":
        email = f"{content['accountId']}@{call.names['project']}.iam.gserviceaccount.com"
        account = {"email": email, "projectId": call.names["project"], "uniqueId": "1", **content.get("serviceAccount", {})}
        return f"{path}/{email}", {"name": f"{path}/{email}", **account}
    if call.api == "cloudscheduler":
        return content["name"], {**content, "state": "ENABLED"}
    own = content.get("name", "") or call.query("repositoryId") or "made"
    name = own if own.startswith(path) else f"{path}/{own.rsplit('/', 1)[-1]}"
    extra = {"writerIdentity": f"serviceAccount:service-{NUMBER}@gcp-sa-logging.iam.gserviceaccount.com"} if call.api == "logging" else {}
    return name, {**content, **extra, "name": own if call.api == "logging" else name, "createTime": now()}


def _project(call: Call) -> Answer:
    name = call.names["project"]
    return {"projectNumber": NUMBER, "projectId": name, "lifecycleState": "ACTIVE", "name": name, "createTime": now()}


def _make_project(call: Call) -> Answer:
    """Return the operation that made a project, under the project's name."""
    name = call.names.get("operation") or call.content["projectId"]
    return done(f"operations/{name}", "google.cloudresourcemanager.v1.Project", {"projectId": name, "projectNumber": NUMBER})


def _billing_accounts(call: Call) -> Answer:
    del call
    return {"billingAccounts": [{"name": PAYER, "open": True, "displayName": "Ours"}]}


def _billing(call: Call) -> Answer:
    name = call.names["project"]
    return {"name": f"projects/{name}/billingInfo", "projectId": name, "billingEnabled": True, "billingAccountName": PAYER, **call.content}


def _accept(call: Call) -> Answer:
    del call
    return {}


def _nothing(call: Call) -> Answer:
    del call
    return {"services": []}
