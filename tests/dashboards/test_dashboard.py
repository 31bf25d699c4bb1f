"""The dashboard as a user sees it: Voila as a job, behind its token, in a browser."""

import socket
import stat
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, Page, expect
from rowmill import jobs
from rowmill.errors import BusyError, EndpointError, IntegrityError
from rowmill.pages import host
from rowmill.registry import Registry
from rowmill.serving import release
from rowmill.settings import Settings

from tests.dashboards.conftest import FIRST, SECOND, served, wait_until

# A job outlives the one who started it on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

SCREENSHOTS = Path(__file__).resolve().parents[2] / ".rowmill" / "screenshots"
# The least contrast (WCAG 2) between the words of the page and what is behind them.
LEAST_CONTRAST = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = node => { for (; node; node = node.parentElement) {
    const found = rgb(getComputedStyle(node).backgroundColor); if (found.length < 4 || found[3] > 0) return found; } };
  const words = [...document.querySelectorAll('.rm-page *')].filter(n => n.offsetParent && n.tagName !== 'STYLE' &&
    [...n.childNodes].some(c => c.nodeType === 3 && c.data.trim()));
  return Math.min(...words.map(node => {
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
    return (a + .05) / (b + .05); }));
}"""


class TestToken:
    """The word that opens the dashboard."""

    def test_is_made_once_for_its_owner_only(self, mill: Settings):
        secret = host.token(mill)
        assert host.token(mill) == secret and len(secret) > 30
        assert stat.S_IMODE((mill.state / "token").stat().st_mode) == 0o600

    def test_a_file_that_others_may_read_is_refused(self, mill: Settings):
        host.token(mill)
        (mill.state / "token").chmod(0o644)
        with pytest.raises(IntegrityError, match="Only its owner may read .*mode 0644"):
            host.token(mill)


class TestHost:
    """Voila as a job."""

    def test_a_taken_port_is_a_sentence(self, mill: Settings):
        with socket.create_server(("127.0.0.1", mill.dashboard_port)):
            with pytest.raises(BusyError, match=rf"Port {mill.dashboard_port} .*dashboard\.port in rowmill\.toml"):
                host.start(mill)
        assert "dashboard" not in jobs.names(mill.state)

    def test_a_voila_that_does_not_start_is_a_sentence(self, mill: Settings, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(host, "NOTEBOOK", "nothing.ipynb")
        with pytest.raises(EndpointError, match="The dashboard does not answer on port .*nothing.ipynb"):
            host.start(mill)


@pytest.fixture(name="address")
def _address(mill: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    """Start the dashboard; its kernels find this state by the environment."""
    monkeypatch.setenv("ROWMILL_STATE", str(mill.state))
    monkeypatch.setenv("ROWMILL_TARGET_PORT", str(mill.target_port))
    monkeypatch.setenv("ROWMILL_DASHBOARD_PORT", str(mill.dashboard_port))
    return host.start(mill)


def kernels(mill: Settings) -> list[psutil.Process]:
    """Return the kernels that the dashboard runs."""
    voila = jobs.find(mill.state, host.JOB)
    assert voila
    return [child for child in voila.children() if child.status() != psutil.STATUS_ZOMBIE]


class TestBrowser:
    """The dashboard as a user sees it."""

    def test_without_the_token_nothing_is_shown_and_no_kernel_starts(self, mill: Settings, address: str):
        bare = address.split("?", maxsplit=1)[0]
        with httpx.Client(trust_env=False) as client:
            for path, code in (
                ("", 302),
                ("?token=wrong", 302),
                ("api/kernels/00000000-0000-0000-0000-000000000000", 403),
                ("voila/files/voila.py", 403),
            ):
                answer = client.get(bare + path)
                assert (path, answer.status_code) == (path, code)
                assert FIRST not in answer.text
            assert "the whole address that `make run` printed" in client.get(bare, follow_redirects=True).text
            foreign = client.get(address, headers={"Host": "example.org"})
            assert foreign.status_code == 403
        assert not kernels(mill)

    def test_starting_twice_gives_the_same(self, mill: Settings, address: str):
        first = jobs.find(mill.state, host.JOB)
        assert host.start(mill) == address and jobs.find(mill.state, host.JOB) == first
        host.check(mill)

    def test_deploys_and_rolls_back_by_click(self, mill: Settings, address: str, chromium: Browser):
        context = chromium.new_context(viewport={"width": 1200, "height": 900})
        page, asked = context.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        expect(page.get_by_role("heading", name="Models", exact=True)).to_be_visible(timeout=30000)
        assert "token" not in page.url
        expect(page.locator(".rm-table b.rm-id")).to_have_text([SECOND, FIRST])
        expect(page.locator(".rm-now")).to_contain_text("Nothing serves yet")
        _click_deploy(page, FIRST)
        assert served(mill) == FIRST
        _click_deploy(page, SECOND)
        assert served(mill) == SECOND
        page.get_by_role("button", name="Roll back").click()
        expect(page.locator(".rm-now")).to_contain_text(f"{FIRST} serves", timeout=30000)
        assert served(mill) == FIRST
        _photograph(page, "models")
        outside = [url for url in asked if not url.startswith((f"http://127.0.0.1:{mill.dashboard_port}/", "data:"))]
        assert asked and not outside
        context.close()
        wait_until(lambda: not kernels(mill))

    def test_the_token_is_in_no_log_command_line_or_environment(self, mill: Settings, address: str, chromium: Browser):
        page = chromium.new_page()
        page.goto(address)
        expect(page.locator(".rm-now")).to_be_visible(timeout=30000)
        page.request.get(address.replace("/?", "/voila/files/voila.py?"))  # Tornado writes refused addresses as they are.
        secret = host.token(mill)
        voila = jobs.find(mill.state, host.JOB)
        assert voila and kernels(mill)
        for process in (voila, *voila.children(recursive=True)):
            assert secret not in " ".join(process.cmdline()) and secret not in str(process.environ())
        log = jobs.log_path(mill.state, host.JOB).read_text("utf-8")
        assert "Kernel started" in log and secret not in log
        page.close()

    @pytest.mark.parametrize(("scheme", "width"), [("light", 380), ("dark", 1200)])
    def test_fits_and_can_be_read(self, mill: Settings, address: str, chromium: Browser, scheme: str, width: int):
        release.deploy(release.open_service(mill, "digits"), FIRST, "by hand", force=True)
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.goto(address)
        expect(page.locator(".rm-now")).to_be_visible(timeout=30000)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".rm-status").get_attribute("aria-live") == "polite"
        assert page.evaluate(LEAST_CONTRAST) >= 4.5
        _reach(page, f"Deploy {SECOND}")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
        _photograph(page, f"models-{scheme}-{width}")
        page.close()

    def test_a_lost_kernel_is_said(self, mill: Settings, address: str, chromium: Browser):
        page = chromium.new_page()
        page.goto(address)
        expect(page.locator(".rm-now")).to_be_visible(timeout=30000)
        jobs.stop(mill.state, host.JOB)
        expect(page.get_by_text("This page has lost its kernel")).to_be_visible(timeout=15000)
        page.close()

    def test_a_closed_page_does_not_cut_a_deployment_off(self, mill: Settings, registry: Registry, address: str, chromium: Browser):
        page = chromium.new_page()
        page.goto(address)
        page.get_by_title(f"Deploy {FIRST}").click(timeout=30000)
        expect(page.locator(".rm-status")).to_contain_text("Deploying")
        page.close()
        wait_until(lambda: not kernels(mill))
        assert registry.last_deployed("digits") == FIRST and served(mill) == FIRST


def _reach(page: Page, title: str) -> None:
    """Go to a button by the keyboard."""
    while page.evaluate("document.activeElement.title") != title:
        page.keyboard.press("Tab")


def _click_deploy(page: Page, model_id: str) -> None:
    page.get_by_title(f"Deploy {model_id}").click()
    expect(page.locator(".rm-now")).to_contain_text(f"{model_id} serves", timeout=30000)
    expect(page.get_by_title(f"Deploy {model_id}")).to_be_disabled()


def _photograph(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
