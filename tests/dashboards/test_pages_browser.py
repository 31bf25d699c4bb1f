"""Try it and the Search page in a browser, on a real Voila: drawing, uploads, searches that outlive their pages."""

import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect
from rowmill import jobs
from rowmill.data import dataset, samples
from rowmill.data.warehouse import connect
from rowmill.monitoring import log, watch
from rowmill.pages import host, search_jobs
from rowmill.registry import connected
from rowmill.serving import release
from rowmill.settings import Settings
from rowmill.training import study

from tests.conftest import project_in
from tests.dashboards import hand
from tests.dashboards.conftest import shared_by_environment, wait_until

# A job outlives the one who started it on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

SCREENSHOTS = Path(__file__).resolve().parents[2] / ".rowmill" / "screenshots"
BEST = ".rm-best b"
DRAWN = {"models": ".rm-pad", "search": ".rm-ranges table", "monitor": ".rm-monitor .rm-card"}


@dataclass(frozen=True)
class Site:
    """A running dashboard, and a good model of the digits that serves."""

    mill: Settings
    address: str
    good: str

    def kernel_of(self, page: Page) -> psutil.Process:
        """Return the kernel behind a page."""
        name = page.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
        voila = jobs.find(self.mill.state, host.JOB)
        assert voila
        return next(child for child in voila.children() if any(name in word for word in child.cmdline()))

    def open(self, context: BrowserContext, name: str) -> Page:
        """Open a page."""
        page = context.new_page()
        page.goto(self.address.replace("/?", f"/{name}?"))
        expect(page.locator(DRAWN[name]).first).to_be_visible(timeout=30000)
        return page


@pytest.fixture(name="site", scope="module")
def fixture_site(digits_state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The dashboard, for all tests of this module."""
    state = tmp_path_factory.mktemp("pages") / "state"
    shutil.copytree(digits_state, state)
    mill = project_in(state)
    service = release.open_service(mill, "digits")
    good = service.registry.models("digits")[1].model_id
    release.deploy(service, good, "the good one", force=True)
    with pytest.MonkeyPatch.context() as patch:
        shared_by_environment(mill, patch)
        yield Site(mill, host.start(mill), good)
    for name in jobs.names(state):
        jobs.stop(state, name)


@pytest.fixture(name="context")
def fixture_context(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser's window."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


def photograph(page: Page, name: str) -> None:
    """Keep a picture of the whole page."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def draw(page: Page, strokes: list[hand.Stroke]) -> None:
    """Draw on the pad with the mouse."""
    page.locator(".rm-pad").scroll_into_view_if_needed()
    box = page.locator(".rm-pad").bounding_box()
    assert box
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["width"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=2)
        page.mouse.up()


def png(pixels: np.ndarray, times: int) -> bytes:
    """Return a grey image as a PNG file, each pixel so many wide and high."""
    file = io.BytesIO()
    Image.fromarray(np.kron(pixels, np.ones((times, times), np.uint8))).save(file, "PNG")
    return file.getvalue()


def check_readable(page: Page) -> None:
    """Let axe-core look for what keeps the page from readers with other senses, and the window for what is cut off."""
    violations = Axe().run(page).response["violations"]
    found = [(v["id"], [node["html"] for node in v["nodes"]]) for v in violations if v["impact"] in ("serious", "critical")]
    assert not found, found
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


class TestTryIt:
    """Images and answers."""

    def test_ten_digits_drawn_by_mouse(self, site: Site, context: BrowserContext):
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page, right = site.open(context, "models"), 0
        for label, strokes in hand.DIGITS.items():
            draw(page, strokes)
            expect(page.locator(BEST)).to_have_count(1)
            page.wait_for_timeout(250)  # the last stroke's answer replaces the one before
            right += page.locator(BEST).inner_text() == label
            if label != "9":
                page.get_by_role("button", name="Clear").click()
                expect(page.locator(BEST)).to_have_count(0)
        assert right >= 8
        expect(page.locator(".rm-answer")).to_contain_text(site.good)
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        command = page.evaluate("navigator.clipboard.readText()")
        assert json.loads(subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout)["deployedModelId"] == site.good
        photograph(page, "tryit")

    def test_files_are_chosen_or_dropped_and_too_many_are_refused(self, site: Site, context: BrowserContext):
        page = site.open(context, "models")
        store = connect(site.mill)
        rows = samples.draw(store, dataset.find(store, "digits"), 10, seed=1)
        files = [{"name": f"{n}.png", "mimeType": "image/png", "buffer": png(image[:, :, 0], 4)} for n, image in enumerate(rows.images)]
        field = page.locator(".rm-drop input")
        field.set_input_files(files)  # type: ignore[arg-type]
        expect(page.locator(BEST)).to_have_count(10)
        said = page.locator(BEST).all_inner_texts()
        assert sum(int(label) == target for label, target in zip(said, rows.targets, strict=True)) >= 9
        photograph(page, "tryit-uploads")
        field.set_input_files([files[0]] * 17)  # type: ignore[arg-type]
        expect(page.get_by_text("17 images are more than 16: choose fewer.")).to_be_visible()
        field.set_input_files([{"name": "big.png", "mimeType": "image/png", "buffer": bytes(9 * 10**6)}])
        expect(page.get_by_text("These images have 9.0 MB, and 8 MB can be sent at once")).to_be_visible()
        dropped = page.evaluate_handle(
            """bytes => { const all = new DataTransfer();
            all.items.add(new File([new Uint8Array(bytes)], "<img src=x onerror=document.title='taken'>.png", { type: "image/png" }));
            return all; }""",
            list(files[0]["buffer"]),  # type: ignore[call-overload]
        )
        page.dispatch_event(".rm-drop", "drop", {"dataTransfer": dropped})
        expect(page.locator(BEST)).to_have_count(1)
        expect(page.locator("figcaption").first).to_have_text("<img src=x onerror=document.title='taken'>.png")
        assert page.title() != "taken"

    def test_by_finger_on_a_phone_in_the_dark(self, site: Site, chromium: Browser):
        context = chromium.new_context(viewport={"width": 380, "height": 800}, has_touch=True, color_scheme="dark")
        page = site.open(context, "models")
        pad = page.locator(".rm-pad")
        pad.scroll_into_view_if_needed()
        box, devtools = pad.bounding_box(), context.new_cdp_session(page)
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 380
        for kind, place in (("touchStart", 0.2), ("touchMove", 0.5), ("touchMove", 0.8), ("touchEnd", None)):
            points = [] if place is None else [{"x": box["x"] + box["width"] / 2, "y": box["y"] + place * box["height"]}]
            devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        expect(page.locator(BEST)).to_have_text("1")
        check_readable(page)
        photograph(page, "tryit-phone-dark")
        context.close()

    def test_by_keyboard_alone(self, site: Site, context: BrowserContext):
        page = site.open(context, "models")
        page.locator(".rm-drop input").focus()
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Take a sample")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator(BEST)).to_have_count(4)
        page.get_by_role("checkbox", name=re.compile("Invert")).focus()
        page.keyboard.press("Space")
        expect(page.locator(".rm-command")).to_contain_text('"invert":true')
        check_readable(page)


class TestMonitor:
    """Requests that come while somebody looks."""

    @pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 380)])
    def test_requests_are_seen_as_they_come(self, site: Site, chromium: Browser, scheme: str, width: int):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        page, store = site.open(context, "monitor"), connect(site.mill)
        rows = samples.draw(store, dataset.find(store, "digits"), 250, seed=width)
        before = log.read(release.open_service(site.mill, "digits"), watch.days_ago(1.0)).total
        with release.open_service(site.mill, "digits").target.open() as endpoint:
            for image in rows.images:
                endpoint.predict(image[None])
        expect(page.locator(".rm-monitor dd b").first).to_have_text(f"{before + 250:,}", timeout=20000)
        expect(page.get_by_text("as the holdout")).to_be_visible()
        page.get_by_text("The requests that are furthest from the holdout").click()
        expect(page.locator(".rm-furthest figure")).to_have_count(8)
        check_readable(page)
        photograph(page, f"monitor-{scheme}-{width}")
        context.close()


class TestSearch:
    """Searches from the form to the end, whatever happens to the page."""

    def test_faults_are_told_beside_the_form(self, site: Site, context: BrowserContext):
        page = site.open(context, "search")
        page.get_by_label("filters: Max").fill("8")
        page.get_by_label("Objective").fill("<b>recall</b>")
        expect(page.get_by_text("'filters' needs min <= max, and 16 is above 8")).to_be_visible()
        expect(page.get_by_text("'<b>recall</b>' is no part of an objective")).to_be_visible()
        assert page.get_by_label("filters: Max").get_attribute("aria-invalid") == "true"
        page.get_by_role("button", name="Start the search").click()
        expect(page.get_by_text("2 entries of the form cannot be used")).to_be_visible()
        assert jobs.find(site.mill.state, search_jobs.JOB) is None
        check_readable(page)
        photograph(page, "search-faults")

    @pytest.mark.parametrize(("scheme", "width"), [("light", 380), ("dark", 1280)])
    def test_fits_and_can_be_read(self, site: Site, chromium: Browser, scheme: str, width: int):
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        page = site.open(context, "search")
        expect(page.locator(".rm-table tbody tr")).to_have_count(1)
        page.locator(".rm-table tbody tr").click()
        expect(page.get_by_role("button", name="Train with these values")).to_be_visible()
        page.locator("summary", has_text="More").click()
        check_readable(page)
        photograph(page, f"search-{scheme}-{width}")
        context.close()

    def test_a_search_is_started_stopped_and_resumed_by_whoever_looks(self, site: Site, context: BrowserContext):
        first, second = site.open(context, "search"), site.open(context, "search")
        _start_by_keyboard(first)
        for page in (first, second):
            expect(page.get_by_role("button", name="Stop")).to_be_visible(timeout=15000)
            expect(page.get_by_role("button", name="Start the search")).to_be_disabled()
        expect(first.locator(".rm-now")).to_contain_text("running", timeout=60000)
        (running,) = [search for search in study.known(site.mill.state, 9) if search.is_running]
        wait_until(lambda: any(len(trial.curve) > 8 for trial in running.trials()))
        photograph(first, "search-running")
        second.get_by_role("button", name="Stop").click()
        for page in (first, second):
            expect(page.locator(".rm-now")).to_have_text(re.compile(rf"{running.experiment}\s+stopped"), timeout=20000)
            expect(page.get_by_role("button", name="Resume")).to_be_visible(timeout=20000)
        before = max(len(trial.curve) for trial in running.trials())
        first.get_by_role("button", name="Resume").click()
        expect(second.get_by_role("button", name="Stop")).to_be_visible(timeout=15000)
        site.kernel_of(first).kill()
        expect(first.get_by_text("This page lost what is behind it")).to_be_visible(timeout=10000)
        first.get_by_role("button", name="Reload").click()
        expect(first.get_by_role("button", name="Stop")).to_be_visible(timeout=15000)
        expect(second.locator(".rm-now")).to_have_text(re.compile(rf"{running.experiment}\s+running"), timeout=60000)
        for page in (first, second):
            expect(page.locator(".rm-now")).to_have_text(re.compile(rf"{running.experiment}\s+finished"), timeout=90000)
            expect(page.get_by_text(f"{running.experiment}-t00")).to_be_visible(timeout=60000)  # the registered model's id
        trials = running.trials()
        assert len(trials) == 2 and all(len(trial.curve) == 60 for trial in trials) and before > 8
        assert connected(site.mill).models("digits")[0].model_id.startswith(running.experiment)
        photograph(first, "search-finished")
        _train_by_hand(first, second, running.model_id(2), units="24")
        by_hand = connected(site.mill).models("digits")[0]
        values = connected(site.mill).trials("digits")[-1]
        assert by_hand.model_id == values.model_id and values.hyperparameters["units"] == 24 and values.seed == trials[1].seed
        assert {**values.hyperparameters, "units": 0} == {**trials[1].hyperparameters, "units": 0} and len(values.curve) == 60


def _train_by_hand(page: Page, other: Page, model_id: str, units: str) -> None:
    """Change a trial's values on one page and train with them; clicks are answered at once meanwhile."""
    assert _milliseconds_of_a_click(page, model_id) > 0
    page.locator(".rm-chosen").get_by_label("units").fill(units)
    page.get_by_role("button", name="Train with these values").click()
    for each in (page, other):
        expect(each.get_by_role("button", name="Stop")).to_be_visible(timeout=15000)
    page.bring_to_front()  # a browser draws what is in sight
    rows = [model_id.replace("t002", name) for name in 3 * ("t001", "t002")]
    took = [_milliseconds_of_a_click(page, row) for row in rows]
    assert min(took) < 150, took
    expect(page.locator(".rm-now")).not_to_contain_text(model_id[:8], timeout=60000)
    for each in (page, other):
        expect(each.locator(".rm-now")).to_have_text(re.compile(r"finished"), timeout=90000)
        expect(each.get_by_role("button", name="Start the search")).to_be_enabled(timeout=60000)


def _milliseconds_of_a_click(page: Page, model_id: str) -> float:
    """Return how long it takes from a click on a trial until its values are shown."""
    found: float = page.evaluate(
        """async id => {
        const row = [...document.querySelectorAll('.rm-table tbody tr')].find(node => node.textContent.includes(id));
        const started = performance.now(), shown = () => (document.querySelector('.rm-chosen h2') || row).textContent;
        row.click();
        while (!shown().endsWith(id)) await new Promise(requestAnimationFrame);
        return performance.now() - started; }""",
        model_id[-4:],
    )
    return found


def _start_by_keyboard(page: Page) -> None:
    """Fill the form in and start, without the mouse."""
    page.get_by_label("Network", exact=True).focus()
    page.keyboard.press("m")
    expect(page.locator(".rm-ranges tbody th").first).to_have_text("hidden_layers")
    for label, text in (("Trials at most", "2"), ("Target", "1"), ("Minutes at most", "3"), ("units: Max", "64")):
        page.get_by_label(label).focus()
        page.keyboard.press("Control+a")
        page.keyboard.type(text)
    page.locator("summary", has_text="More").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Epochs of a trial").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("60")
    for label in ("Stop hopeless trials", "Check-up before the first trial"):
        page.get_by_label(label).focus()
        page.keyboard.press("Space")
    page.get_by_role("button", name="Start the search").focus()
    page.keyboard.press("Enter")
