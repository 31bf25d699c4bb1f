"""Cloud Logging, as `gcloud logging read` asks it: what the instances of revisions wrote."""

import re
from collections.abc import Iterator

from tests.google.instances import Instances
from tests.google.run import Run
from tests.google.services import Revision, Service
from tests.google.wire import Answer, Call, Json, Routes


class Logs:
    """Each line is an entry; of the filter, the names of services and revisions are heeded."""

    def __init__(self, run: Run, instances: Instances) -> None:
        self._run, self._instances = run, instances

    def routes(self) -> Routes:
        """Return the calls that are answered."""
        return {"POST logging/v2/entries:list": self._list}

    def _list(self, call: Call) -> Answer:
        asked = call.content
        wanted = dict(re.findall(r'(\w+_name)\s*=\s*"?([\w-]+)', asked.get("filter", "")))
        with self._run.changed:
            revisions = [(service, revision) for service in self._run.services.values() for revision in service.revisions.values()]
        entries = [entry for found in revisions for entry in self._entries(*found) if wanted.items() <= entry["resource"]["labels"].items()]
        return {"entries": entries[::-1][: asked.get("pageSize", 1000)]}

    def _entries(self, service: Service, revision: Revision) -> Iterator[Json]:
        labels = {"project_id": service.project, "location": service.region, "service_name": service.name, "revision_name": revision.name}
        for number, line in enumerate(self._instances.lines(service, revision)):
            entry = {"insertId": f"{revision.name}-{number}", "timestamp": revision.created, "textPayload": line}
            resource = {"type": "cloud_run_revision", "labels": labels}
            yield {**entry, "resource": resource, "logName": f"projects/{service.project}/logs/run.googleapis.com%2Fstderr"}
