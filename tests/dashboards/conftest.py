"""A service with two models that were exported, not trained: real files behind every click."""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import pytest
from rowmill import jobs, settings
from rowmill.data import dataset, sources
from rowmill.data.warehouse import connect
from rowmill.records import Candidate, ModelId, Trial
from rowmill.registry import Registry, connected
from rowmill.serving import release
from rowmill.serving.endpoint import Endpoint
from rowmill.settings import Settings
from rowmill.training import artefact, networks

ROOT = Path(__file__).resolve().parents[2]
FIRST, SECOND = "seed0001-t001", "seed0002-t001"


def project(state: Path) -> Settings:
    """Return this project's settings with everything written in `state`, on free ports."""
    return dataclasses.replace(
        settings.load(ROOT), state=state, artefacts_root=state / "artefacts", target_port=jobs.free_port(), dashboard_port=jobs.free_port()
    )


def served(mill: Settings) -> str:
    """Return which model answers at the service's address."""
    with Endpoint(release.open_service(mill, "digits").target.address) as endpoint:
        return str(endpoint.describe()["model"])


def shared_by_environment(mill: Settings, patch: pytest.MonkeyPatch) -> None:
    """Let processes that are started from now on find this state, as if it were the project's."""
    patch.setenv("ROWMILL_STATE", str(mill.state))
    patch.setenv("ROWMILL_TARGET_PORT", str(mill.target_port))
    patch.setenv("ROWMILL_DASHBOARD_PORT", str(mill.dashboard_port))


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for something that must come true soon."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "it did not come true in 30 s"
        time.sleep(0.01)


def _candidate(data: dataset.Dataset, service: str, seed: int) -> Candidate:
    keras.utils.set_random_seed(seed)
    values = {"hidden_layers": 1, "units": 8}
    network = networks.find("mlp").build(values, networks.Pixels.of(data.train.images), len(data.version.labels), steps=1)
    model_id = ModelId(f"seed000{seed}", "t001")
    score = 0.1 * seed
    trial = Trial(str(model_id), service, data.version.version, "completed", values, score, seed=seed, accuracy=score)
    return Candidate(trial, network)


def _export(registry: Registry, service: str, seeds: tuple[int, ...]) -> None:
    version = dataset.ingest(registry.warehouse, sources.load(""), service)
    data = dataset.load(registry.warehouse, version)
    for seed in seeds:
        artefact.export(_candidate(data, service, seed), data, registry)


@pytest.fixture(scope="session", name="stock")
def _stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a state folder with the models FIRST and SECOND of the service digits."""
    state = tmp_path_factory.mktemp("stock")
    chosen = project(state)
    _export(Registry(connect(chosen), chosen.artefacts_root), "digits", (1, 2))
    return state


@pytest.fixture(name="mill")
def _mill(stock: Path, tmp_path: Path) -> Iterator[Settings]:
    """Return the settings of a copy of the stock; everything that a test starts is stopped."""
    state = tmp_path / "state"
    shutil.copytree(stock, state)
    yield project(state)
    for name in jobs.names(state):
        jobs.stop(state, name)


@pytest.fixture(name="registry")
def _registry(mill: Settings) -> Registry:
    return connected(mill)
