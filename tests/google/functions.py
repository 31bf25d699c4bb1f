"""Cloud Functions' API, 2nd gen, as `gcloud functions` calls it: each function is a Cloud Run service that bears its label."""

import copy
import uuid

from tests.google.accounts import Accounts
from tests.google.builds import Builds
from tests.google.run import Run
from tests.google.services import Service
from tests.google.wire import NUMBER, Answer, ApiError, Call, Json, Routes, done, now

API, REGION = "cloudfunctions", "projects/<project>/locations/<region>"
LABEL = {"goog-managed-by": "cloudfunctions"}
SETTLED_SECONDS = 60.0


class Functions:
    """The functions of all projects, by their full names."""

    def __init__(self, run: Run, builds: Builds, accounts: Accounts) -> None:
        self._run, self._builds, self._accounts = run, builds, accounts
        self._functions: dict[str, Json] = {}
        self._operations: dict[str, Json] = {}

    def routes(self) -> Routes:
        """Return the calls that are answered."""
        second: Routes = {
            "GET runtimes": _runtimes,
            "POST functions:generateUploadUrl": _upload_place,
            "GET functions": self._list,
            "POST functions": self._create,
            "GET functions/<function>": self._get,
            "PATCH functions/<function>": self._change,
            "DELETE functions/<function>": self._delete,
            "POST functions/<function>:detachFunction": self._detach,
            "GET operations/<operation>": self._operation,
        }
        routes: Routes = {
            f"GET {API}/v1/{REGION}/functions": _none,
            f"GET {API}/v1/{REGION}/functions/<function>": _no_first_generation,
        }
        for version in ("v1", "v2", "v2alpha", "v2beta"):
            routes[f"GET {API}/{version}/projects/<project>/locations"] = _places
        for line, handler in second.items():
            method, path = line.split(" ")
            routes |= {f"{method} {API}/{version}/{REGION}/{path}": handler for version in ("v2", "v2alpha", "v2beta")}
        return routes

    def _list(self, call: Call) -> Answer:
        prefix = f"projects/{call.names['project']}/"
        return {"functions": [function for name, function in self._functions.items() if name.startswith(prefix)]}

    def _get(self, call: Call) -> Answer:
        if _name(call) not in self._functions:
            raise ApiError(404, f"Resource '{_name(call)}' was not found")
        return self._functions[_name(call)]

    def _create(self, call: Call) -> Answer:
        title = call.query("functionId")
        if self._run.find(call.names["project"], title, call.names["region"]):
            message = f"Could not create Cloud Run service {title}. A Cloud Run service with this name already exists."
            raise ApiError(409, f"{message} Please redeploy the function with a different name.", "ALREADY_EXISTS")
        return self._deploy(call, title, call.content)

    def _change(self, call: Call) -> Answer:
        before, asked = copy.deepcopy(self._get(call)), call.content
        assert isinstance(before, dict)
        for part in ("buildConfig", "serviceConfig", "labels"):
            before[part] = {**before.get(part, {}), **asked.get(part, {})}
        return self._deploy(call, call.names["function"], before)

    def _delete(self, call: Call) -> Answer:
        self._get(call)
        del self._functions[_name(call)]
        service = self._run.find(call.names["project"], call.names["function"], call.names["region"])
        if service:
            self._run.remove(service)
        return self._done(call, "google.protobuf.Empty", {})

    def _detach(self, call: Call) -> Answer:
        """Make a plain service of a function; its address stays."""
        self._get(call)
        service = self._run.find(call.names["project"], call.names["function"], call.names["region"])
        if service:
            body = copy.deepcopy(service.body)
            del body["metadata"]["labels"]["goog-managed-by"]
            self._run.apply(service.project, service.region, body, call.account)
        del self._functions[_name(call)]
        return self._done(call, "google.protobuf.Empty", {})

    def _operation(self, call: Call) -> Answer:
        if call.names["operation"] not in self._operations:
            raise ApiError(404, f"Operation '{call.names['operation']}' was not found")
        return self._operations[call.names["operation"]]

    def _deploy(self, call: Call, title: str, function: Json) -> Json:
        """Build the source, deploy the service below the function, and describe both."""
        build, name = function["buildConfig"], f"{_place(call)}/functions/{title}"
        uri = f"{call.names['region']}-docker.pkg.dev/{call.names['project']}/gcf-artifacts/{title}"
        digest = self._builds.build(uri, build["source"]["storageSource"], build.get("entryPoint", ""))
        found = self._run.find(call.names["project"], title, call.names["region"])
        body = _body(found, title, f"{uri}@{digest}", function.get("serviceConfig", {}))
        service = self._run.apply(call.names["project"], call.names["region"], body, call.account)
        self._run.wait((service.project, service.region, service.name), service.generation, SETTLED_SECONDS)
        facts = {"revision": service.latest_created, "uri": self._run.shown(service)["status"]["url"], "service": service.resource}
        described = {**function, "name": name, "environment": "GEN_2", "state": "ACTIVE", "updateTime": now()}
        described["serviceConfig"] = {**function.get("serviceConfig", {}), **facts}
        described["url"] = f"https://{call.names['region']}-{call.names['project']}.cloudfunctions.net/{title}"
        self._functions[name] = described
        return self._done(call, "google.cloud.functions.v2.Function", described)

    def _done(self, call: Call, kind: str, response: Json) -> Json:
        name = uuid.uuid4().hex
        self._operations[name] = done(f"{_place(call)}/operations/{name}", kind, response)
        return self._operations[name]


def _body(found: Service | None, title: str, image: str, config: Json) -> Json:
    """Return the service below a function: all its traffic goes to what was deployed last."""
    body: Json = copy.deepcopy(found.body) if found else {"metadata": {"name": title}, "spec": {}}
    body["metadata"]["labels"] = {**body["metadata"].get("labels", {}), **LABEL}
    variables = [{"name": name, "value": value} for name, value in config.get("environmentVariables", {}).items()]
    container = {"name": "worker", "image": image, "env": variables}
    body["spec"]["template"] = {"metadata": {"labels": {"goog-drz-cloudfunctions-id": title}}, "spec": {"containers": [container]}}
    body["spec"]["traffic"] = [{"latestRevision": True, "percent": 100}]
    return body


def _place(call: Call) -> str:
    return f"projects/{call.names['project']}/locations/{call.names['region']}"


def _name(call: Call) -> str:
    return f"{_place(call)}/functions/{call.names['function']}"


def _runtimes(call: Call) -> Answer:
    del call
    names = ("python311", "python312", "python313")
    return {"runtimes": [{"name": name, "displayName": name, "stage": "GA", "environment": "GEN_2"} for name in names]}


def _upload_place(call: Call) -> Answer:
    bucket, stored = f"gcf-v2-uploads-{NUMBER}.{call.names['region']}.cloudfunctions.appspot.com", f"{uuid.uuid4()}.zip"
    place = f"https://storage.googleapis.com/signed/{bucket}/{stored}?Signature=stub"
    return {"uploadUrl": place, "storageSource": {"bucket": bucket, "object": stored}}


def _places(call: Call) -> Answer:
    name = f"projects/{call.names['project']}/locations/europe-west1"
    return {"locations": [{"name": name, "locationId": "europe-west1"}]}


def _none(call: Call) -> Answer:
    del call
    return {"functions": []}


def _no_first_generation(call: Call) -> Answer:
    raise ApiError(404, f"Function {call.names['function']} in region {call.names['region']} does not exist")
