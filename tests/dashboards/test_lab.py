"""`make lab`: the dashboards' two cells, run in a real JupyterLab."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, TimeoutError, expect  # pylint: disable=redefined-builtin
from rowmill import jobs
from rowmill.settings import Settings

from tests.conftest import ROOT
from tests.dashboards.conftest import shared_by_environment, wait_until
from tests.dashboards.test_pages_browser import photograph

TOKEN = "a-token-of-this-test"


@pytest.fixture(name="lab")
def fixture_lab(mill: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a JupyterLab that `make lab` would start, but that it opens no browser."""
    shared_by_environment(mill, monkeypatch)
    (tmp_path / "jupyter_server_config.json").write_text('{"ServerApp": {"allow_root": true}}')
    port = str(jobs.free_port())
    own = {"JUPYTER_CONFIG_DIR": str(tmp_path), "JUPYTER_PORT": port, "JUPYTER_TOKEN": TOKEN, "BROWSER": "true"}
    log = (tmp_path / "lab.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "rowmill", "lab"], cwd=ROOT, env={**os.environ, **own}, stdout=log, stderr=log, start_new_session=True
    )
    try:
        wait_until(lambda: b"Jupyter Server" in (tmp_path / "lab.log").read_bytes())
        yield f"http://127.0.0.1:{port}/"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        log.close()


def run_all(page: Page) -> None:
    """Run all cells; JupyterLab forgets the wish where the kernel is not there yet, so it is asked until a page begins."""
    for _ in range(6):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        with contextlib.suppress(TimeoutError):
            page.locator(".rm-page").first.wait_for(timeout=15000)
            return
    raise AssertionError("the cells do not run")


def test_the_two_cells_of_each_dashboard_work_in_jupyterlab(lab: str, chromium: Browser) -> None:
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    foreign: list[str] = []
    page.on("request", lambda request: None if request.url.startswith((lab, "data:", "blob:")) else foreign.append(request.url))
    page.goto(f"{lab}?token={TOKEN}")
    expect(page.get_by_text("01_ingest.ipynb").first).to_be_visible(timeout=60000)
    for name, shown in (("models", "seed0002-t001"), ("search", "Start the search")):
        page.goto(f"{lab}lab/workspaces/{name}/tree/dashboards/{name}.ipynb")
        expect(page.locator(".jp-CodeCell")).to_have_count(2, timeout=60000)
        run_all(page)
        expect(page.locator(".rm-page").get_by_text(shown, exact=True).first).to_be_visible(timeout=60000)
        assert not page.get_by_text("Traceback").count()
        photograph(page, f"lab-{name}")
    assert not foreign
    page.close()
