"""Labelling by eye: one click or key a label, who said it is on record, and nothing that was said is lost."""

import base64
import dataclasses
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect
from rowmill import settings
from rowmill.data import sources
from rowmill.errors import WarehouseError
from rowmill.monitoring import truth
from rowmill.pages import answers, labelling, words
from rowmill.pages.labelling import Card, Labelling
from rowmill.pages.parts import Notice
from rowmill.records import now
from rowmill.serving import bundle as bundles
from rowmill.serving import release
from rowmill.serving.release import Service
from rowmill.settings import Settings
from rowmill.tables import PREDICTIONS, TRUTHS

from tests.dashboards.conftest import FIRST, SECOND, wait_until

SCREENSHOTS = Path(__file__).resolve().parents[2] / ".rowmill" / "screenshots"


@pytest.fixture(name="place")
def fixture_place(mill: Settings) -> Service:
    """The service of two untrained models."""
    return release.open_service(mill, "digits")


@pytest.fixture(name="queue")
def fixture_queue() -> pd.DataFrame:
    """Five digits that were asked about."""
    images = sources.load("").images[:5]
    columns = {"request_id": [f"r{row}" for row in range(5)], "place": 0, "chosen": truth.UNSURE}
    return pd.DataFrame({**columns, "image": [image.tobytes() for image in images]})


def inside(widget: ipywidgets.Widget, kind: type) -> Any:
    """Return the first widget of a kind."""
    return next((found for found in walk(widget) if isinstance(found, kind)), None)


def walk(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """Walk the widget and all that it holds."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def say(board: Labelling, **content: Any) -> None:
    """Say what the browser's side would, of the image that is shown."""
    card = inside(board.root, Card)
    card._handle_custom_msg({"number": card.number, **content}, [])  # pylint: disable=protected-access  # there is no public way in


def on_record(place: Service) -> dict[str, str]:
    """Return the labels that hold, by request."""
    found = truth.latest(place.registry.warehouse, "digits")
    return dict(zip(found["request_id"], found["label"], strict=True))


def test_labels_go_on_record_with_who_and_why(place: Service, queue: pd.DataFrame) -> None:
    board = Labelling(place, queue)
    card, who = inside(board.root, Card), inside(board.root, ipywidgets.Text)
    assert who.value == settings.actor() and card.labels[3] == ["3", "3"] and not card.can_undo
    assert card.image == answers.data_url(np.frombuffer(queue["image"][0], np.uint8).reshape(8, 8, 1))
    say(board, label="0")
    say(board, skip=True)
    who.value = " Ann "
    say(board, label="7")
    wait_until(lambda: on_record(place) == {"r0": "0", "r2": "7"})
    rows = place.registry.warehouse.read(TRUTHS)
    assert list(rows["labelled_by"]) == [settings.actor(), "Ann"] and set(rows["chosen"]) == {truth.UNSURE}
    assert card.told == "2 to label; 2 labelled, 1 skipped"
    say(board, undo=True)
    wait_until(lambda: on_record(place) == {"r0": "0"})
    say(board, undo=True)
    assert card.number == 1 and card.told == "4 to label; 1 labelled, 0 skipped"
    for label in "1234":
        say(board, label=label)
    wait_until(lambda: on_record(place) == {"r0": "0", "r1": "1", "r2": "2", "r3": "3", "r4": "4"})
    assert card.image == "" and card.told == "Nothing is left to label here: 5 labelled, 0 skipped."
    say(board, label="9")
    say(board, label="9", number=2)
    assert card.number == 5, "A click on what has gone already labels nothing."


def test_what_cannot_be_written_is_kept_and_written_later(place: Service, queue: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    board, store = Labelling(place, queue), place.registry.warehouse
    notice = inside(board.root, Notice)

    def refuse(*_: Any) -> None:
        raise WarehouseError("The disk is full", step="make room")

    with monkeypatch.context() as patched:
        patched.setattr(type(store), "append", refuse)
        say(board, label="0")
        wait_until(
            lambda: (
                notice.text
                == "1 labels are not on record yet: The disk is full; make room. They are kept and tried again with the next one."
            )
        )
    say(board, label="1")
    wait_until(lambda: on_record(place) == {"r0": "0", "r1": "1"})
    wait_until(lambda: notice.text == "")


def test_a_dashboard_that_only_shows_labels_nothing(place: Service, queue: pd.DataFrame) -> None:
    shut = dataclasses.replace(place, settings=dataclasses.replace(place.settings, dashboard_read_only=True))
    board = Labelling(shut, queue)
    say(board, label="0")
    assert "only shows" in inside(board.root, Notice).text and inside(board.root, Card).number == 0 and not on_record(place)


def test_labels_have_keys_of_their_own(place: Service, queue: pd.DataFrame) -> None:
    assert labelling.board(place, queue) is not None
    keyed = labelling._keyed  # pylint: disable=protected-access  # what it answers is what the browser gets
    assert keyed(("cat", "dog")) == [["cat", "1"], ["dog", "2"]] and keyed(("a", "b")) == [["a", "a"], ["b", "b"]]
    assert keyed(tuple(f"l{n}" for n in range(40)))[39] == ["l39", ""]


def asked(place: Service, model_id: str, images: bool = True) -> None:
    """Put eight requests on record, each with a digit."""
    digits, rows = sources.load("").images[:8], range(8)
    kept = [json.dumps([base64.b64encode(image.tobytes()).decode()] if images else []) for image in digits]
    columns = {"answered_at": now(), "request_id": [f"r{row}" for row in rows], "service": "digits", "model_id": model_id, "code": 200}
    columns |= {"instances": 1, "latency_ms": 1.0, "labels": '["0"]', "confidences": [f"[{row / 10}]" for row in rows], "images": kept}
    columns |= {"means": "[1.0]", "deviations": "[1.0]", "hash": "", "log": "a", "log_end": list(rows)}
    place.registry.warehouse.append(PREDICTIONS, pd.DataFrame(columns))


def test_the_pages_card_leads_to_the_requests(place: Service) -> None:
    card = labelling.part(place.settings)
    card.turn_to(place)
    button, notice = inside(card.root, ipywidgets.Button), inside(card.root, Notice)
    kind, model = (found for found in walk(card.root) if isinstance(found, ipywidgets.Dropdown))
    button.click()
    wait_until(lambda: "None of 0 answered instances has its image on record" in notice.text)
    asked(place, FIRST)
    button.click()
    wait_until(lambda: inside(card.root, Card) is not None)
    shown, digits = inside(card.root, Card), sources.load("").images
    assert shown.image == answers.data_url(digits[0]) and shown.told.startswith("8 to label"), "The least confident first."
    kind.value, model.value = truth.DIFFER, SECOND
    assert model.layout.display is None
    button.click()
    wait_until(lambda: inside(card.root, Card) is not shown)
    with bundles.open_in_process(bundles.build(place.settings, place.registry, place.registry.model(SECOND))) as endpoint:
        differing = (endpoint.predict(digits[:8])[0].argmax(axis=1) != 0).sum()
    assert inside(card.root, Card).told.startswith(f"{differing} to label")


_PAGE = """<!doctype html><html lang="en"><title>x</title><style>{css}</style><body style="margin:0"><main class="rm-page"><div class="rm-card">
<h2>{title}</h2><div id="here"></div></div></main><script type="module">
{js}
const traits = {traits}, changes = [];
window.said = [];
const model = {{ get: name => traits[name], send: content => window.said.push(content), on: (_, act) => changes.push(act) }};
window.change = news => {{ Object.assign(traits, news); changes.forEach(act => act()); }};
render({{ model, el: document.getElementById("here") }});
</script></body></html>"""


def source(name: str) -> str:
    """Return a file of the pages."""
    return resources.files("rowmill.pages").joinpath(name).read_text("utf-8")


@pytest.fixture(name="page")
def fixture_page(chromium: Browser, queue: pd.DataFrame) -> Iterator[Page]:
    """The browser's side of the widget, with a model that remembers what is sent."""
    image = answers.data_url(np.frombuffer(queue["image"][0], np.uint8).reshape(8, 8, 1))
    labels = labelling._keyed(("cat", "dog", "an okapi, or <b>"))  # pylint: disable=protected-access
    traits = {"words": words.section("labelling"), "image": image, "labels": labels, "told": "5 to label", "number": 3, "can_undo": True}
    content = _PAGE.format(
        css=source("page.css") + source("labelling.css"),
        title="What is it?",
        js=source("labelling.js").replace("export default { render };", ""),
        traits=json.dumps(traits).replace("</", "<\\/"),
    )
    context = chromium.new_context(viewport={"width": 900, "height": 420})
    made = context.new_page()
    made.set_content(content)
    yield made
    context.close()


def test_the_keyboard_and_the_pointer_label_alike(page: Page) -> None:
    page.keyboard.press("1")
    assert page.evaluate("said") == [], "Keys that are typed elsewhere label nothing."
    page.get_by_role("group", name="What is it?").focus()
    for key in ("2", "ArrowRight", "ArrowLeft", "9", "Control+1"):
        page.keyboard.press(key)
    page.get_by_role("button", name="an okapi, or <b>").click()
    page.keyboard.press("1")
    page.get_by_role("button", name="Undo").click()
    number = {"number": 3}
    expected = [{"label": "dog"}, {"skip": True}, {"undo": True}, {"label": "an okapi, or <b>"}, {"label": "cat"}, {"undo": True}]
    assert page.evaluate("said") == [{**entry, **number} for entry in expected]
    page.evaluate("change({ image: '', can_undo: false, told: 'Nothing is left' })")
    expect(page.get_by_role("button", name="cat")).to_be_disabled()
    expect(page.get_by_role("status")).to_have_text("Nothing is left")
    page.keyboard.press("1")
    page.keyboard.press("ArrowLeft")
    assert len(page.evaluate("said")) == len(expected)


@pytest.mark.parametrize(("name", "width", "scheme"), [("wide", 900, "light"), ("phone", 380, "light"), ("dark", 900, "dark")])
def test_it_is_drawn(page: Page, name: str, width: int, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 420})
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"labelling-{name}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
