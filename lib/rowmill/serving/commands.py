"""gcloud's argument lists, and what its answers say; nothing is run here."""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rowmill.records import Bundle, ModelId
from rowmill.sections import Cloud
from rowmill.serving.bundle import FUNCTION
from rowmill.serving.endpoint import curl

_HASH_KEY = "ROWMILL_HASH_KEY"
_CREATOR, _MODIFIER, _MANAGER = "serving.knative.dev/creator", "serving.knative.dev/lastModifier", "goog-managed-by"


@dataclass(frozen=True)
class State:
    """A function as Google describes it; all empty where there is none.

    Attributes:
        shares: Revision to its percent of the traffic, those above 0.
        pinned: Whether the traffic names revisions, so that a new one does not take it by itself.
        tags: Tag to its revision and its own address.
        generation: Counts the changes of the service.
        latest, ready: The revision that was made last, and the last one that can serve.
        modifier: Who changed it last.
        manager: Which other tool made it, such as `cloudfunctions`.
    """

    exists: bool = False
    url: str = ""
    shares: dict[str, int] = field(default_factory=dict)
    pinned: bool = False
    tags: dict[str, tuple[str, str]] = field(default_factory=dict)
    generation: int = 0
    latest: str = ""
    ready: str = ""
    modifier: str = ""
    manager: str = ""

    @classmethod
    def read(cls, text: str) -> "State":
        """Read what `gcloud run services describe --format=json` prints."""
        service: dict[str, Any] = json.loads(text)
        meta, status = service["metadata"], service.get("status", {})
        traffic = status.get("traffic", [])
        shares: dict[str, int] = {}
        for entry in traffic:
            shares[entry["revisionName"]] = shares.get(entry["revisionName"], 0) + entry.get("percent", 0)
        return cls(
            exists=True,
            url=status.get("url", ""),
            shares={name: percent for name, percent in shares.items() if percent},
            pinned=not any(entry.get("latestRevision") and entry.get("percent") for entry in traffic),
            tags={entry["tag"]: (entry["revisionName"], entry.get("url", "")) for entry in traffic if entry.get("tag")},
            generation=int(meta.get("generation", 0)),
            latest=status.get("latestCreatedRevisionName", ""),
            ready=status.get("latestReadyRevisionName", ""),
            modifier=meta.get("annotations", {}).get(_MODIFIER, ""),
            manager=meta.get("labels", {}).get(_MANAGER, ""),
        )

    def left_dark(self) -> list[str]:
        """Return the tags of deployments of ours that were cut off: they are model ids."""
        return sorted(tag for tag in self.tags if ModelId.PATTERN.fullmatch(tag))


def ready(text: str) -> bool:
    """Say whether a revision can serve, by what `gcloud run revisions describe --format=json` prints."""
    conditions = json.loads(text).get("status", {}).get("conditions", [])
    return any(entry.get("type") == "Ready" and entry.get("status") == "True" for entry in conditions)


def creator(text: str) -> str:
    """Return who made a revision, by what `gcloud run revisions describe --format=json` prints; an empty text where it does not say."""
    made: dict[str, Any] = json.loads(text or "{}").get("metadata", {}).get("annotations", {})
    return str(made.get(_CREATOR, ""))


@dataclass(frozen=True)
class Commands:
    """The commands about one function, each a list of arguments."""

    cloud: Cloud
    service: str

    def revision(self, bundle: Bundle) -> str:
        """Return the name of the revision that serves this bundle by these settings; another bundle or setting is another revision."""
        told = json.dumps([bundle.folder.name, *self._settings(bundle)])
        return f"{self.service}-{bundle.model_id}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"

    def describe(self) -> list[str]:
        """Return how to read the function."""
        return ["gcloud", "run", "services", "describe", self.service, *self._place, "--format=json"]

    def deploy(self, bundle: Bundle, first: bool) -> list[str]:
        """Return how to build and start a bundle: without traffic and under a tag, but for the first, which Google gives it all."""
        dark = [] if first else ["--no-traffic", f"--tag={bundle.model_id}"]
        suffix = self.revision(bundle).removeprefix(f"{self.service}-")
        source = [f"--source={bundle.folder}", f"--function={FUNCTION}", f"--revision-suffix={suffix}"]
        return ["gcloud", "run", "deploy", self.service, *source, *dark, *self._settings(bundle), *self._place, "--quiet", "--format=json"]

    def shift(self, shares: Mapping[str, int]) -> list[str]:
        """Return how to share the traffic."""
        told = ",".join(f"{revision}={percent}" for revision, percent in shares.items())
        return self._traffic(f"--to-revisions={told}")

    def tag(self, bundle: Bundle) -> list[str]:
        """Return how to give a revision that is there an address of its own."""
        return self._traffic(f"--update-tags={bundle.model_id}={self.revision(bundle)}")

    def untag(self, tags: Sequence[str]) -> list[str]:
        """Return how to take such addresses away."""
        return self._traffic(f"--remove-tags={','.join(tags)}")

    def read_revision(self, name: str) -> list[str]:
        """Return how to read a revision."""
        return ["gcloud", "run", "revisions", "describe", name, *self._place, "--format=json"]

    def delete_revision(self, name: str) -> list[str]:
        """Return how to delete a revision."""
        return ["gcloud", "run", "revisions", "delete", name, *self._place, "--quiet"]

    def delete(self) -> list[str]:
        """Return how to delete the function."""
        return ["gcloud", "run", "services", "delete", self.service, *self._place, "--quiet"]

    def sink(self, dataset: str) -> list[str]:
        """Return how to let Cloud Logging write the function's lines into a BigQuery data set of the project, from now on."""
        whose = f'resource.type="cloud_run_revision" AND resource.labels.service_name="{self.service}" AND jsonPayload.kind="prediction"'
        place = f"bigquery.googleapis.com/projects/{self.cloud.project}/datasets/{dataset}"
        name, project = f"rowmill-{self.service}", f"--project={self.cloud.project}"
        return ["gcloud", "logging", "sinks", "create", name, place, "--use-partitioned-tables", f"--log-filter={whose}", project]

    def sink_writer(self) -> list[str]:
        """Return how to ask as whom the sink writes; that account needs the role BigQuery Data Editor."""
        project = f"--project={self.cloud.project}"
        return ["gcloud", "logging", "sinks", "describe", f"rowmill-{self.service}", project, "--format=value(writerIdentity)"]

    def sink_lines(self, dataset: str) -> list[str]:
        """Return the lines that make the sink and let it write, as they can be pasted into a shell."""
        grant = ["gcloud", "projects", "add-iam-policy-binding", self.cloud.project, "--condition=None", "--role=roles/bigquery.dataEditor"]
        return [shlex.join(self.sink(dataset)), f'{shlex.join(grant)} --member="$({shlex.join(self.sink_writer())})"']

    def token(self, audience: str = "") -> list[str]:
        """Return how to get an identity token; a user's account takes no audience, a service account needs one."""
        return ["gcloud", "auth", "print-identity-token", *([f"--audiences={audience}"] if audience else [])]

    def account(self) -> list[str]:
        """Return how to ask who is logged in."""
        return ["gcloud", "config", "get", "account"]

    def plan(self, bundle: Bundle, before: Mapping[str, int], shares: Sequence[Mapping[str, int]]) -> list[str]:
        """Return the lines that a deployment amounts to, as they can be pasted into a shell."""
        example = Path(bundle.folder) / "example.json"
        url = f'"$({shlex.join([*self.describe()[:-1], "--format=value(status.url)"])})"'
        ask = curl(url, example, private=not self.cloud.public)
        shifts = [shlex.join(self.shift(share)) for share in shares]
        tidy = [shlex.join(self.untag([bundle.model_id]))] if before else []
        return [shlex.join(self.deploy(bundle, first=not before)), *shifts, ask, *tidy]

    def _traffic(self, change: str) -> list[str]:
        return ["gcloud", "run", "services", "update-traffic", self.service, change, *self._place, "--quiet", "--format=json"]

    @property
    def _place(self) -> list[str]:
        return [f"--project={self.cloud.project}", f"--region={self.cloud.region}"]

    def _settings(self, bundle: Bundle) -> list[str]:
        cloud = self.cloud
        account = [f"--service-account={cloud.service_account}"] if cloud.service_account else []
        return [
            f"--base-image={cloud.base_image}",
            "--allow-unauthenticated" if cloud.public else "--no-allow-unauthenticated",
            *account,
            f"--memory={cloud.memory}",
            f"--cpu={cloud.cpu}",
            f"--concurrency={cloud.concurrency}",
            f"--min-instances={cloud.min_instances}",
            f"--max-instances={cloud.max_instances}",
            f"--ingress={cloud.ingress}",
            # functions-framework answers as many requests at a time as it has threads.
            f"--update-env-vars=THREADS={cloud.concurrency}",
            # From Secret Manager to the process: it lies in no file and in no description of the function.
            f"--update-secrets={_HASH_KEY}={cloud.hash_key}" if cloud.hash_key else f"--remove-secrets={_HASH_KEY}",
            f"--labels=rowmill-model={bundle.model_id}",
        ]
