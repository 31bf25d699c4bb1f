"""The Runs page in a browser, on a real Voila: a run is started there, outlives the page, is seen by another, and read."""

import shutil
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect
from rowmill import jobs
from rowmill.pages import host

from tests.conftest import ROOT
from tests.flow import mill as mills

pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

SCREENSHOTS = ROOT / ".rowmill" / "screenshots"


@pytest.fixture(name="address", scope="module")
def fixture_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the dashboard of a small project is."""
    mill = mills.make(tmp_path_factory.mktemp("mill") / "mill")
    shutil.copytree(ROOT / "dashboards", mill.root / "dashboards")
    mills.declare(mill, {"steps:\n": "schedule: {cron: 0 3 * * MON, zone: Europe/Berlin}\nsteps:\n"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROWMILL_TARGET_PORT", str(jobs.free_port()))
        patch.setenv("ROWMILL_DASHBOARD_PORT", str(jobs.free_port()))
        patch.chdir(mill.root)
        yield host.start(mills.settings.load(mill.root)).replace("/?", "/runs?")
    for name in jobs.names(mill.state):
        jobs.stop(mill.state, name)


def test_a_run_is_started_outlives_its_page_and_is_read(address: str, chromium: Browser) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address)
    expect(page.get_by_text("No run is on record yet")).to_be_visible(timeout=30000)
    page.get_by_label("Parameters").fill("forze=2")
    page.get_by_role("button", name="Start a run").click()
    expect(page.get_by_text("No notebook has a parameter 'forze=2'")).to_be_visible(timeout=10000)
    page.get_by_label("Parameters").fill("trees=3 fail=True")
    page.get_by_role("button", name="Start a run").click()
    expect(page.locator(".rm-graph svg")).to_be_visible(timeout=40000)
    page.close()
    seen = context.new_page()
    seen.goto(address)
    expect(seen.locator(".rm-now .rm-badge", has_text="failed")).to_be_visible(timeout=60000)
    expect(seen.locator(".rm-graph")).to_have_attribute(
        "aria-label",
        "The steps and their states: grow done, press failed, count done, taste left out, sell left out",
        timeout=20000,
    )
    for name, width, scheme in (("runs", 1280, "light"), ("runs-dark", 1280, "dark"), ("runs-phone", 380, "light")):
        seen.set_viewport_size({"width": width, "height": 900})
        seen.emulate_media(color_scheme=scheme)
        assert seen.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        seen.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
        assert Axe().run(seen, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"] == []
    with context.expect_page() as opened:
        seen.get_by_role("link", name="press.ipynb").click()
    copy = opened.value
    expect(copy.get_by_text("the press broke").first).to_be_visible(timeout=30000)
    copy.screenshot(path=SCREENSHOTS / "runs-copy.png")
    assert context.request.get(copy.url.replace("press.ipynb", "none.ipynb")).status == 404
    assert chromium.new_context().request.get(copy.url, max_redirects=0).status in (302, 403)
    context.close()
