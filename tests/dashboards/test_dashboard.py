"""The dashboard as a user sees it: Voila as a job, behind its token, in a browser; real models, a real local target."""

import dataclasses
import hashlib
import json
import re
import shutil
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pandas as pd
import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect
from rowmill import jobs
from rowmill.errors import BusyError, EndpointError, IntegrityError
from rowmill.judging import validation
from rowmill.pages import change, host
from rowmill.records import ModelRecord
from rowmill.registry import CARD_FILE, Registry
from rowmill.serving import release
from rowmill.settings import Settings
from rowmill.tables import TABLES, to_row

from tests.conftest import project_in
from tests.dashboards.conftest import served, shared_by_environment, wait_until

# A job outlives the one who started it on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

SCREENSHOTS = Path(__file__).resolve().parents[2] / ".rowmill" / "screenshots"
BROKEN = "broken01-t001"
NASTY = "<img src=x onerror=document.title='taken'>"


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
        monkeypatch.setenv("ROWMILL_DASHBOARD_PORT", "none")
        with pytest.raises(EndpointError, match="The dashboard does not answer on port .*dashboard.port must be a port"):
            host.start(mill)


@dataclass(frozen=True)
class Site:
    """A running dashboard: models that were judged, the good one serves; one whose golden answers are wrong, so that it fails."""

    mill: Settings
    address: str
    registry: Registry
    good: str
    weak: str

    @property
    def service(self) -> release.Service:
        """The one service."""
        return release.open_service(self.mill, "digits")

    def kernels(self) -> set[psutil.Process]:
        """Return the kernels of open pages and warm ones."""
        voila = jobs.find(self.mill.state, host.JOB)
        return {child for child in (voila.children() if voila else []) if child.status() != psutil.STATUS_ZOMBIE}

    def kernel_of(self, page: Page) -> psutil.Process:
        """Return the kernel behind a page."""
        name = page.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
        return next(kernel for kernel in self.kernels() if any(name in word for word in kernel.cmdline()))

    def deploy(self, model_id: str) -> None:
        """Deploy where it does not serve, beside the page; what the test before left running ends first."""
        wait_until(lambda: jobs.find(self.mill.state, change.job_name("digits")) is None)
        if served(self.mill) != model_id:
            release.deploy(self.service, model_id, "for a test", force=True)


@pytest.fixture(name="site", scope="module")
def _site(digits_state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    state = tmp_path_factory.mktemp("site") / "state"
    shutil.copytree(digits_state, state)
    mill = project_in(state)
    with pytest.MonkeyPatch.context() as patch:
        shared_by_environment(mill, patch)
        patch.setenv("LOGNAME", "ada")
        service = release.open_service(mill, "digits")
        weak, good = (model.model_id for model in service.registry.models("digits"))
        release.follow(service, validation.run(service, good))
        validation.run(service, weak)
        _add_broken(service.registry)
        site = Site(mill, host.start(mill), service.registry, good, weak)
        wait_until(lambda: len(site.kernels()) == len(host.pages(mill)))  # the warm ones
        yield site
    for name in jobs.names(state):
        jobs.stop(state, name)


def _add_broken(registry: Registry) -> None:
    """Register a model whose golden answers are another model's: it starts, and fails at its probe."""
    other = registry.models("digits")[0]
    files = registry.artefacts.parent / "broken"
    shutil.copytree(registry.artefacts / other.model_id, files)
    card = json.loads((files / CARD_FILE).read_text())
    card["golden"]["predictions"].reverse()
    (files / CARD_FILE).write_text(json.dumps(card | {"model": BROKEN}))
    sha = hashlib.sha256((files / CARD_FILE).read_bytes()).hexdigest()
    registry.add_model(dataclasses.replace(other, model_id=BROKEN, card_sha256=sha, hyperparameters={"label": NASTY}), files)


@pytest.fixture(name="context")
def _context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


def opened(context: BrowserContext, site: Site) -> Page:
    """Open the page, and wait until it has read what there is."""
    page = context.new_page()
    page.goto(site.address)
    expect(page.get_by_role("heading", name="Models", exact=True).first).to_be_visible(timeout=30000)
    expect(page.locator(".rm-model h2")).to_have_text(re.compile("t001"), timeout=20000)
    return page


def choose(page: Page, model_id: str) -> None:
    """Choose a model of the list."""
    page.locator(".rm-table").get_by_role("row", name=model_id).click()
    expect(page.locator(".rm-model h2")).to_contain_text(model_id)
    expect(page.locator(".rm-model dl").first).to_be_visible()


def confirm(page: Page, label: str, reason: str = "") -> None:
    """Click a button, fill the reason in and confirm."""
    page.get_by_role("button", name=label, exact=True).click()
    expect(page.get_by_role("button", name=f"{label} now")).to_be_visible()
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name=f"{label} now").click()


def serves(page: Page, model_id: str) -> None:
    """Wait until the page says that the model serves."""
    expect(page.locator(".rm-now")).to_contain_text(f"{model_id} serves", timeout=30000)


def photograph(page: Page, name: str) -> None:
    """Keep a picture of the whole page."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


class TestDoors:
    """Who gets in, and to what."""

    def test_without_the_token_nothing_is_shown(self, site: Site):
        bare = site.address.split("?", maxsplit=1)[0]
        before = site.kernels()
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Version": "13",
        }
        any_kernel = "00000000-0000-0000-0000-000000000000"
        with httpx.Client(trust_env=False) as client:
            for path, codes in {
                "": {302},
                "models": {302},
                "models?token=wrong": {302},
                f"api/kernels/{any_kernel}": {403},
                f"api/kernels/{any_kernel}/channels": {403},
                "voila/files/voila.py": {403, 404},
                "voila/render/models.ipynb": {404},
            }.items():
                answer = client.get(bare + path, headers=upgrade if path.endswith("channels") else {})
                assert (path, answer.status_code in codes) == (path, True), answer.status_code
                assert site.good not in answer.text
            assert "the whole address that `make run` printed" in client.get(bare, follow_redirects=True).text
            assert client.get(site.address, headers={"Host": "example.org"}).status_code == 403
        assert site.kernels() <= before

    def test_with_the_token_only_the_pages_are_served_and_nothing_is_changed_by_other_sites(self, site: Site, context: BrowserContext):
        page = opened(context, site)
        assert page.url.endswith("/models")
        bare, kernel = site.address.split("?", maxsplit=1)[0], site.kernel_of(page)
        for path in (
            "voila/render/models.ipynb",
            "voila/tree",
            "voila/files/voila.py",
            "voila/files/models.ipynb",
            "voila/api/contents/",
            "lab",
            "other",
        ):
            assert page.request.get(bare + path).status in (403, 404), path
        name = page.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
        assert page.request.post(f"{bare}voila/api/shutdown/{name}").status == 403  # no XSRF word
        assert page.request.post(f"{bare}api/kernels").status in (403, 404, 405)
        assert page.request.get(f"{bare}models?voila-template=lab&template=lab&theme=dark").ok and "rm-page" in page.content()
        assert kernel.is_running()

    def test_the_token_is_in_no_log_command_line_or_environment(self, site: Site, context: BrowserContext):
        page = opened(context, site)
        page.request.get(site.address.replace("/?", "/voila/files/voila.py?"))  # Tornado writes refused addresses as they are.
        secret, voila = host.token(site.mill), jobs.find(site.mill.state, host.JOB)
        assert voila and site.kernels()
        for process in (voila, *site.kernels()):
            assert secret not in " ".join(process.cmdline()) and secret not in str(process.environ())
        log = jobs.log_path(site.mill.state, host.JOB).read_text("utf-8")
        assert "Kernel started" in log and secret not in log

    def test_starting_twice_gives_the_same(self, site: Site):
        first = jobs.find(site.mill.state, host.JOB)
        assert host.start(site.mill) == site.address and jobs.find(site.mill.state, host.JOB) == first
        host.check(site.mill)


class TestChanges:
    """Deploy and roll back, whatever happens to the page."""

    def test_deploys_by_force_and_rolls_back_by_click(self, site: Site, context: BrowserContext):
        site.deploy(site.good)
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        page = opened(context, site)
        photograph(page, "models")
        page.screenshot(path=SCREENSHOTS / "dashboard.png", full_page=True, clip={"x": 0, "y": 0, "width": 1280, "height": 1120})
        choose(page, site.weak)
        page.get_by_role("button", name="Deploy", exact=True).click()
        expect(page.locator(".rm-confirm")).to_contain_text("not `better` but")
        expect(page.get_by_label("Reason")).to_be_focused()
        photograph(page, "confirmation")
        page.get_by_role("button", name="Deploy now").click()
        expect(page.locator(".rm-confirm")).to_contain_text("A forced deployment needs a reason")
        page.get_by_label("Reason").fill("to see it")
        page.get_by_role("button", name="Deploy now").click()
        serves(page, site.weak)
        assert served(site.mill) == site.weak
        confirm(page, "Roll back")
        serves(page, site.good)
        expect(page.locator("tbody tr", has_text="roll back").first).to_contain_text(site.registry.deployments("digits")[-1].actor)
        outside = [url for url in asked if not url.startswith((f"http://127.0.0.1:{site.mill.dashboard_port}/", "data:", "blob:"))]
        assert asked and not outside

    def test_a_running_change_is_seen_by_all_and_outlives_reload_and_kernel(self, site: Site, context: BrowserContext):
        site.deploy(site.good)
        first, second = opened(context, site), opened(context, site)
        choose(first, site.weak)
        confirm(first, "Deploy", "two look on")
        name = change.job_name("digits")
        wait_until(lambda: jobs.find(site.mill.state, name) is not None)
        job = jobs.find(site.mill.state, name)
        assert job
        job.suspend()
        try:
            for page in (first, second):
                expect(page.locator(".rm-change")).to_contain_text("is under way outside this page", timeout=15000)
            first.bring_to_front()  # a browser draws what is in sight
            # The quickest of some clicks: this machine does other things, too.
            assert min(_milliseconds_of_a_click(first, model_id) for model_id in 3 * (site.good, site.weak)) < 150
            choose(second, site.weak)
            expect(second.get_by_role("button", name="Deploy", exact=True)).to_be_disabled()
            photograph(second, "deploying")
            second.reload()
            expect(second.locator(".rm-change")).to_contain_text("is under way outside this page", timeout=15000)
            site.kernel_of(first).kill()
            expect(first.get_by_text("This page lost what is behind it")).to_be_visible(timeout=10000)
            photograph(first, "lost")
            first.get_by_role("button", name="Reload").click()
            expect(first.locator(".rm-change")).to_contain_text("is under way outside this page", timeout=15000)
        finally:
            job.resume()
        for page in (first, second):
            serves(page, site.weak)
        assert served(site.mill) == site.weak

    def test_a_deployment_that_fails_says_why_and_what_served_serves_on(self, site: Site, context: BrowserContext):
        site.deploy(site.good)
        page = opened(context, site)
        choose(page, BROKEN)
        confirm(page, "Deploy", "surely not")
        expect(page.locator(".rm-change .rm-failed")).to_contain_text("must give its golden answers", timeout=30000)
        photograph(page, "failed")
        assert served(site.mill) == site.good
        serves(page, site.good)
        assert page.title() == "Models · rowmill" and page.locator("img").count() == 0  # the model's label is text

    def test_a_closed_page_leaves_no_kernel_and_cuts_nothing_off(self, site: Site, context: BrowserContext):
        site.deploy(site.good)
        page = opened(context, site)
        kernel = site.kernel_of(page)
        choose(page, site.weak)
        confirm(page, "Deploy", "then I leave")
        wait_until(lambda: jobs.find(site.mill.state, change.job_name("digits")) is not None)
        page.close()
        wait_until(lambda: not kernel.is_running())
        wait_until(lambda: served(site.mill) == site.weak)


def _milliseconds_of_a_click(page: Page, model_id: str) -> float:
    """Return how long it takes from a click on a row until the card's head names the model."""
    return page.evaluate(
        """async id => {
        const row = [...document.querySelectorAll('.rm-table tbody tr')].find(node => node.textContent.includes(id));
        const started = performance.now();
        row.click();
        while (!document.querySelector('.rm-model h2').textContent.includes(id)) await new Promise(requestAnimationFrame);
        return performance.now() - started; }""",
        model_id,
    )


class TestLooks:
    """What people see, and whether all of them can use it."""

    @pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 380), ("dark", 380)])
    def test_axe_finds_nothing_serious_and_nothing_is_cut_off(self, site: Site, chromium: Browser, scheme: str, width: int):
        site.deploy(site.good)
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = opened(context, site)
        choose(page, site.weak)
        page.locator(".rm-checks summary").click()
        page.get_by_role("button", name="Deploy", exact=True).click()
        expect(page.get_by_role("button", name="Deploy now")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        photograph(page, f"models-{scheme}-{width}")
        found = Axe().run(page).response["violations"]
        serious = [
            (entry["id"], [node["html"][:120] for node in entry["nodes"][:3]])
            for entry in found
            if entry["impact"] in ("serious", "critical")
        ]
        context.close()
        assert not serious

    def test_by_the_keyboard_alone(self, site: Site, context: BrowserContext):
        site.deploy(site.good)
        page = opened(context, site)
        _tab_to(page, "document.activeElement.type === 'search'")
        page.keyboard.type(site.weak)
        expect(page.locator(".rm-table [role=status]")).to_have_text(re.compile("^1 of"))
        _tab_to(page, "document.activeElement.tagName === 'TR'")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
        page.keyboard.press("Enter")
        expect(page.locator(".rm-model h2")).to_contain_text(site.weak)
        _tab_to(page, "document.activeElement.textContent === 'Deploy'")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Reason")).to_be_focused()
        page.keyboard.type("no mouse")
        _tab_to(page, "document.activeElement.textContent === 'Deploy now'")
        page.keyboard.press("Space")
        serves(page, site.weak)

    def test_a_thousand_models_are_sifted_and_sorted_without_lag(self, site: Site, context: BrowserContext):
        page = opened(context, site)
        model = site.registry.model(site.weak)
        many = [
            dataclasses.replace(model, model_id=f"many{n // 100:04d}-t{n % 100 + 1:03d}", accuracy=n / 1000, deleted=False)
            for n in range(1000)
        ]
        _add_all(site.registry, many)
        expect(page.get_by_role("row", name="many0009-t100")).to_be_attached(timeout=20000)
        times = page.evaluate(
            """async () => {
            const timed = async work => { const from = performance.now(); work(); await new Promise(requestAnimationFrame); return performance.now() - from; };
            const head = [...document.querySelectorAll('.rm-table th button')].find(node => node.textContent === 'Accuracy');
            const box = document.querySelector('.rm-table input');
            // The quickest of three; the third one sorts as the first one did.
            const sorted = Math.min(await timed(() => head.click()), await timed(() => head.click()), await timed(() => head.click()));
            const first = document.querySelector('.rm-table tbody tr:not([hidden])').textContent;
            const sifted = await timed(() => { box.value = 'many0007 99.5'; box.dispatchEvent(new Event('input')); });
            return { sorted, sifted, first, left: document.querySelectorAll('.rm-table tbody tr:not([hidden])').length }; }"""
        )
        assert "many0000-t001" in times["first"] and times["left"] == 0
        assert times["sorted"] < 300 and times["sifted"] < 150, times
        page.locator(".rm-table input").fill("many0007 75.")
        photograph(page, "many")
        _add_all(site.registry, [dataclasses.replace(model, deleted=True) for model in many])


def _add_all(registry: Registry, models: list[ModelRecord]) -> None:
    registry.warehouse.append(TABLES[ModelRecord], pd.DataFrame([to_row(model) for model in models]))


def _tab_to(page: Page, is_there: str) -> None:
    """Go on by the Tab key until that is so."""
    for _ in range(60):
        if page.evaluate(is_there):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the Tab key does not lead to {is_there}")


def test_a_lost_server_is_said(site: Site, context: BrowserContext):
    """The last one, for it stops the dashboard."""
    page = opened(context, site)
    jobs.stop(site.mill.state, host.JOB)
    expect(page.get_by_text("This page lost what is behind it")).to_be_visible(timeout=10000)
