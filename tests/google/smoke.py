"""What only a real Google project can show: a function is deployed, shared, rolled back and refused there, under load, then deleted.

`make smoke-google` runs it on the project that `rowmill.toml` names, under a name of its own; it takes some ten minutes and costs cents.
The tests walk the same way over the stub.
"""

import contextlib
import dataclasses
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
from rowmill import settings
from rowmill.data import dataset, sources
from rowmill.errors import RowmillError
from rowmill.registry import connected, file_hash
from rowmill.serving import bundle as bundles
from rowmill.serving import release
from rowmill.serving.release import Service
from rowmill.settings import Settings

NAME = "rowmill-smoke"


class Load:
    """Clients that ask the public address all the time; what goes wrong is kept."""

    def __init__(self, service: Service, clients: int = 4) -> None:
        self.answered: list[str] = []
        self.wrong: list[str] = []
        self._service = service
        laid = [bundles.build(service.settings, service.registry, model) for model in service.registry.models(service.name)]
        self._expected = {bundle.model_id: bundles.golden(bundle) for bundle in laid}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        images = next(iter(self._expected.values()))[0]
        with release.open_service(self._service.settings, self._service.name).target.open() as endpoint:
            while not self._stop.is_set():
                try:
                    found, model_id = endpoint.predict(images)
                    self.answered.append(model_id)
                    if abs(found - self._expected[model_id][1]).max() > 1e-4:
                        self.wrong.append(f"{model_id} gave another's answers")
                except RowmillError as error:
                    self.wrong.append(str(error))
                self._stop.wait(0.05)


@contextlib.contextmanager
def spoiled(service: Service, model_id: str, how: str) -> Iterator[None]:
    """Have another `model.json` in a model's place, as if registered so: one with which it `crashes` at its start, or `answers wrongly`."""
    path = service.registry.artefacts / model_id / "model.json"
    right = path.read_text()
    card = json.loads(right)
    if how == "crashes":
        card["contract"] = 99
    else:
        card["golden"]["predictions"].reverse()
    try:
        _register(service, model_id, path, json.dumps(card))
        yield
    finally:
        _register(service, model_id, path, right)


def _register(service: Service, model_id: str, path: Path, card: str) -> None:
    path.write_text(card)
    service.registry.add(dataclasses.replace(service.registry.model(model_id), card_sha256=file_hash(path)))


def walk(service: Service, good: str, weak: str) -> Iterator[str]:
    """Go the whole way with two models, and tell what was seen.

    Raises:
        AssertionError: Something was not as it must be.
    """
    assert release.serving(service) is None, f"{service.name} serves already"
    first = release.deploy(service, good, "the first", force=True)
    yield f"the first deploy took {first.seconds:.1f} s: {first.steps}"
    refused = httpx.get(service.target.address)
    assert refused.status_code == 403, f"a request without a token got {refused.status_code}"
    with Load(service) as load:
        shared = release.deploy(service, weak, "a canary", force=True, steps=(10, 100))
        yield f"a canary took {shared.seconds:.1f} s: {shared.steps}"
        back = release.roll_back(service, "back", expected=good)
        assert back.revision == first.revision, "a roll back must find its revision again"
        yield f"a roll back took {back.seconds:.1f} s: {back.steps}"
    assert not load.wrong, load.wrong[:3]
    assert set(load.answered) == {good, weak}
    yield f"{len(load.answered)} requests of {sorted(set(load.answered))}, none lost"
    with Load(service) as load:
        for how in ("answers wrongly", "crashes"):
            with spoiled(service, weak, how):
                refusal = _refusal(service, weak)
            yield f"a model that {how}: {refusal}"
    assert not load.wrong and set(load.answered) == {good}, (load.wrong[:3], set(load.answered))
    yield f"{len(load.answered)} requests meanwhile, none lost"
    assert release.look(service).alarm == "", release.look(service).alarm


def _refusal(service: Service, model_id: str) -> str:
    try:
        release.deploy(service, model_id, "to be refused", force=True)
    except RowmillError as error:
        row = service.registry.deployments(service.name)[-1]
        assert row.outcome == "failed", row
        return f"at step {list(row.steps)[-1]!r} after {row.seconds:.1f} s: {error}"
    raise AssertionError(f"{model_id} was deployed")


def _prepared(project: Settings) -> tuple[Service, str, str]:
    from rowmill.training import artefact, search  # pylint: disable=import-outside-toplevel  # seconds

    state = project.state / "smoke"
    own = dataclasses.replace(project, state=state, artefacts_root=state / "artefacts", warehouse_kind="sqlite", service_name=NAME)
    models = connected(own)
    version = dataset.ingest(models.warehouse, dataclasses.replace(sources.load(""), name=NAME))
    data, ids = dataset.load(models.warehouse, version), []
    for epochs in (12, 1):
        plan = search.Plan("mlp", {}, search.Goal(1.0, trials=1, minutes=5, epochs=epochs), seed=7)
        ids.append(artefact.export(search.run(data, models, plan), data, models).model_id)
    return release.open_service(own, NAME), ids[0], ids[1]


def main() -> int:
    """Walk on the project of `rowmill.toml`; delete the function in the end."""
    project = settings.load(Path.cwd())
    if project.target_kind != "gcloud":
        print('Set kind = "gcloud" in section [target] of rowmill.toml, and cloud.project; then run this again.', file=sys.stderr)
        return 1
    service, good, weak = _prepared(project)
    try:
        for line in walk(service, good, weak):
            print(line, flush=True)
    except (RowmillError, AssertionError) as error:
        print(f"NOT as it must be: {error}", file=sys.stderr)
        return 1
    finally:
        with contextlib.suppress(RowmillError):
            service.target.traffic()
            service.target.shift({})
    print("All was as it must be; the function is deleted.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
