"""All notebooks, by papermill and again by nbval, the registry and the dashboard with the warehouse on BigQuery."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from rowmill import settings
from rowmill.registry import Registry, connected
from rowmill.tables import EXAMPLES

from tests.emulator.process import Emulator
from tests.notebooks.conftest import Rowmill, facts, nbval

Clone = tuple[Path, dict[str, str]]
QUICK = "trials=1 epochs=12 minutes=2.0 seed=11 network=mlp check_up=False"


@pytest.fixture(name="variables", scope="module")
def fixture_variables(emulator: Emulator) -> Iterator[dict[str, str]]:
    """The environment of a clone whose warehouse is the emulator."""
    variables = {**emulator.environment, "ROWMILL_STATE": ".rowmill"}
    with pytest.MonkeyPatch.context() as patched:
        for name, value in variables.items():
            patched.setenv(name, value)
        yield variables


@pytest.fixture(name="ran", scope="module")
def fixture_ran(variables: dict[str, str], rowmill: Rowmill) -> dict[str, str]:
    """The facts that a whole run printed."""
    done = rowmill("run", "--parameters", QUICK, **variables)
    assert done.returncode == 0, done.stderr + done.stdout
    return facts(done.stdout)


@pytest.fixture(name="models", scope="module")
def fixture_models(ran: dict[str, str], clone: Clone) -> Registry:  # pylint: disable=unused-argument  # after the run
    """The registry on BigQuery."""
    return connected(settings.load(clone[0]))


def test_a_run_with_the_warehouse_on_bigquery(ran: dict[str, str], models: Registry, clone: Clone) -> None:
    model, state = ran["Model"], settings.load(clone[0]).state
    assert [found.model_id for found in models.models("digits")] == [model] and models.last_deployed("digits") == model
    assert models.verdict(model, "digits").outcome == "better" and models.trials("digits")[0].state == "completed"
    assert len(models.warehouse.read(EXAMPLES, None, ("label",))) == 1797
    assert not (state / "warehouse.sqlite").exists()
    (run,) = (state / "runs").iterdir()
    assert json.loads((run / "03_validate.json").read_text())["outcome"] == "better"


def test_its_notebooks_run_again_by_nbval(models: Registry, clone: Clone, variables: dict[str, str]) -> None:
    (run,) = (settings.load(clone[0]).state / "runs").iterdir()
    before = len(models.models("digits"))
    # Not 03_validate: what it judged serves by now, and is no candidate any more.
    for path in (run / "01_ingest.ipynb", run / "02_search.ipynb", run / "04_release.ipynb", clone[0] / "dashboards" / "models.ipynb"):
        nbval(path, (clone[0], {**clone[1], **variables}))
    assert len(models.models("digits")) == before + 1 and len(models.warehouse.read(EXAMPLES, None, ("label",))) == 1797


def test_its_dashboard_lists_and_deploys(ran: dict[str, str], models: Registry, chromium: Browser) -> None:
    listed = [model.model_id for model in models.models("digits")]
    page = chromium.new_page()
    page.goto(ran["Dashboard"])
    expect(page.locator(".rm-table tbody td:first-child")).to_have_text(listed, timeout=30000)
    assert ran["Model"] in listed and models.last_deployed("digits") == ran["Model"]
    page.get_by_role("row", name=listed[0]).click()
    expect(page.locator(".rm-model h2")).to_contain_text(listed[0])
    page.get_by_role("button", name="Deploy", exact=True).click()
    page.get_by_label("Reason").fill("by hand")
    page.get_by_role("button", name="Deploy now").click()
    expect(page.locator(".rm-now")).to_contain_text(f"{listed[0]} serves", timeout=30000)
    page.close()
    assert models.last_deployed("digits") == listed[0]
