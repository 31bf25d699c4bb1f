"""Real parts for the tests: a project in a folder of its own, and a service with two small trained models."""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from rowmill import jobs, settings
from rowmill.data import dataset, sources, warehouse
from rowmill.data.dataset import Dataset
from rowmill.judging import baselines
from rowmill.registry import Registry, connected
from rowmill.serving import release
from rowmill.serving.release import Service
from rowmill.settings import Settings

from tests.emulator.process import Emulator, running
from tests.google import stub
from tests.google.account import Login
from tests.google.stub import Google

ROOT = Path(__file__).parent.parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]


def project_in(state: Path) -> Settings:
    """Return the project's settings with all that is written in `state`, and ports of their own."""
    return dataclasses.replace(
        settings.load(ROOT), state=state, artefacts_root=state / "artefacts", target_port=jobs.free_port(), dashboard_port=jobs.free_port()
    )


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Settings]:
    """An empty project; all that it leaves running is stopped."""
    made = project_in(tmp_path / "state")
    yield made
    for name in jobs.names(made.state):
        jobs.stop(made.state, name)


@pytest.fixture(scope="session")
def digits_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a project with the digits and two registered models, a good one and a weak one; never changed."""
    from rowmill.training import artefact, search  # pylint: disable=import-outside-toplevel  # seconds, for the tests that need it

    made = project_in(tmp_path_factory.mktemp("digits") / "state")
    models = connected(made)
    data = digits_in(models)
    for epochs in (12, 1):
        plan = search.Plan("mlp", {}, search.Goal(1.0, trials=1, minutes=5, epochs=epochs), seed=7)
        artefact.export(search.run(data, models, plan), data, models)
    # Once, for all verdicts of all tests.
    baselines.answers(models.warehouse, data.version, dataset.load_holdout(models.warehouse, data.version), made.state / "baselines")
    return made.state


@pytest.fixture
def service(digits_state: Path, tmp_path: Path) -> Iterator[Service]:  # pylint: disable=redefined-outer-name  # a fixture's way
    """The service `digits` with two models, the newer one weak; nothing serves yet."""
    shutil.copytree(digits_state, tmp_path / "state")
    opened = release.open_service(project_in(tmp_path / "state"), "digits")
    yield opened
    for name in jobs.names(opened.settings.state):
        jobs.stop(opened.settings.state, name)


@pytest.fixture
def good(service: Service) -> str:  # pylint: disable=redefined-outer-name
    """The id of the good model."""
    return service.registry.models("digits")[1].model_id


@pytest.fixture
def weak(service: Service) -> str:  # pylint: disable=redefined-outer-name
    """The id of the weak model."""
    return service.registry.models("digits")[0].model_id


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """BigQuery on this machine, for all tests of a session."""
    with running(tmp_path_factory.mktemp("emulator") / "log") as started:
        yield started


@pytest.fixture
def on_bigquery(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:  # pylint: disable=redefined-outer-name
    """Settings with an empty data set of their own on the emulator."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    return project_in(tmp_path / "state")


@pytest.fixture(scope="session")
def google_login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Login]:
    """A throwaway account that gcloud is logged in as."""
    if shutil.which("gcloud") is None:
        pytest.skip("NO GCLOUD: Google as a place to serve was NOT tested; bring it by `apt-get install google-cloud-cli`")
    with stub.logged_in(tmp_path_factory.mktemp("gcloud")) as login:
        yield login


@pytest.fixture
def google(google_login: Login, tmp_path: Path) -> Iterator[Google]:  # pylint: disable=redefined-outer-name  # a fixture's way
    """Google on this machine, with an empty project; what gcloud asked that the stub cannot answer fails the test."""
    config = tmp_path / "gcloud"
    shutil.copytree(google_login.config, config)
    (tmp_path / "google").mkdir()
    with stub.running(tmp_path / "google", dataclasses.replace(google_login, config=config)) as started:
        yield started
        assert not started.proxy.unknown and not started.proxy.broken


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser."""
    path = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
    if path is None:
        reason = "NO BROWSER: the dashboard was NOT tested; bring one by `apt-get install chromium`"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def digits_in(models: Registry) -> Dataset:
    """Ingest the bundled digits and return what training sees of them."""
    return dataset.load(models.warehouse, dataset.ingest(models.warehouse, sources.load("")))


def digits_store(made: Settings) -> warehouse.Warehouse:
    """Return the project's warehouse with the bundled digits in it."""
    store = warehouse.connect(made)
    dataset.ingest(store, sources.load(""))
    return store
