"""What Google's front end decides of a request before a container sees it: whether it may pass, and which revision answers."""

from dataclasses import dataclass

from tests.google.accounts import GCLOUD, INVOKERS, Accounts
from tests.google.fronts import Asked, Chosen, split
from tests.google.instances import Instances
from tests.google.run import Run
from tests.google.services import INGRESS, Revision, Service

RESERVED = ("/healthz",)  # the front end keeps it for itself


@dataclass(frozen=True)
class Gate:
    """Decides by the state of now, and starts an instance where none runs."""

    run: Run
    accounts: Accounts
    instances: Instances

    def choose(self, asked: Asked, address: str) -> Chosen:
        """Return where a request goes; `address` is the service's own, which is the audience of its tokens."""
        with self.run.changed:
            service = self.run.services.get(asked.service)
            revision = _revision(service, asked.tag) if service else None
        if service is None or asked.path.split("?")[0] in RESERVED:
            return Chosen(refusal=404)
        refusal = self._refusal(service, asked.authorization, address)
        if refusal or revision is None:
            return Chosen(refusal=refusal or 404)
        # Not under the lock: the instance may take its time, or ask one of these APIs while it starts.
        started = self.instances.start(service, revision, self.run.image(revision))
        return Chosen(started, 0 if started else 503, float(revision.template["spec"]["timeoutSeconds"]))

    def _refusal(self, service: Service, authorization: str, address: str) -> int:
        if service.body["metadata"]["annotations"].get(INGRESS, "all") != "all":
            return 404  # whoever asks here comes from outside
        allowed = self.accounts.members(service.resource, INVOKERS) | self.accounts.members(f"projects/{service.project}", INVOKERS)
        if "allUsers" in allowed:
            return 0
        if not authorization:
            return 403
        claims = self.accounts.identity(authorization)
        if claims is None or claims["aud"] not in (address, f"{address}/", GCLOUD):
            return 401
        email = claims["email"]
        return 0 if allowed & {f"serviceAccount:{email}", f"user:{email}", "allAuthenticatedUsers"} else 403


def _revision(service: Service, tag: str) -> Revision | None:
    """Return the revision that answers one request at the service's address, or at a tag's."""
    name = next((target["revisionName"] for target in service.traffic if target.get("tag") == tag), "") if tag else split(service.traffic)
    return service.revisions.get(name)
