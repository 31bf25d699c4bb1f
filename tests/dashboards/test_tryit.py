"""Try it, without a browser: what is drawn, uploaded or sampled is answered by the model that serves."""

import html
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest
from PIL import Image
from rowmill import jobs
from rowmill.data import dataset, images, samples
from rowmill.data.warehouse import connect
from rowmill.pages import answers, tryit, words
from rowmill.pages.answers import Given
from rowmill.pages.pad import Command, Drop, Pad
from rowmill.pages.parts import Notice
from rowmill.pages.tryit import TryIt
from rowmill.serving import release
from rowmill.settings import Settings

from tests.conftest import project_in
from tests.dashboards import hand
from tests.dashboards.conftest import wait_until

# A job outlives the one who started it on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

NASTY = "<img src=x onerror=document.title='taken'>.png"


@pytest.fixture(scope="module", name="mill")
def fixture_mill(digits_state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A project in which a good model of the digits serves, and a weak one is registered."""
    state = tmp_path_factory.mktemp("tryit") / "state"
    shutil.copytree(digits_state, state)
    made = project_in(state)
    service = release.open_service(made, "digits")
    release.deploy(service, service.registry.models("digits")[1].model_id, "the good one", force=True)
    yield made
    for name in jobs.names(state):
        jobs.stop(state, name)


@pytest.fixture(name="ids")
def fixture_ids(mill: Settings) -> list[str]:
    """The ids of the models, the good one that serves first."""
    return [model.model_id for model in release.open_service(mill, "digits").registry.models("digits")][::-1]


@pytest.fixture(name="part")
def fixture_part(mill: Settings, ids: list[str]) -> TryIt:
    """The card, turned to the digits."""
    made = tryit.part(mill)
    made.turn_to("digits", ids)
    return made


def widgets(root: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """Walk the widget and all that it holds, shown or not."""
    yield root
    for child in getattr(root, "children", ()):
        yield from widgets(child)


def one(part: TryIt, kind: type) -> Any:
    """Return the card's widget of a kind."""
    return next(widget for widget in widgets(part.root) if isinstance(widget, kind))


def send(part: TryIt, kind: type, content: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
    """Say what the browser's side of a widget would."""
    one(part, kind)._handle_custom_msg(content, list(buffers))  # pylint: disable=protected-access  # there is no public way in


def shown(part: TryIt) -> str:
    """Return the answers' markup."""
    return next(w.value for w in widgets(part.root) if isinstance(w, ipywidgets.HTML) and w.value.startswith(("<div", "<p")))


def wait_for(part: TryIt, pattern: str, count: int = 1) -> list[str]:
    """Wait until the answers have so many matches, and return them."""
    wait_until(lambda: len(re.findall(pattern, shown(part))) == count or bool(one(part, Notice).text))
    found = re.findall(pattern, shown(part))
    assert len(found) == count, (one(part, Notice).text, shown(part)[:300])
    return found


BEST = r'class="rm-best"><b>(.*?)</b>'


def png(pixels: np.ndarray, times: int = 1) -> bytes:
    """Return a grey image as a PNG file, each pixel so many wide and high."""
    file = io.BytesIO()
    Image.fromarray(np.kron(pixels, np.ones((times, times), np.uint8))).save(file, "PNG")
    return file.getvalue()


def test_drawn_digits_are_recognised_and_the_pad_takes_the_models_form(part: TryIt, ids: list[str]) -> None:
    right = 0
    for label, strokes in hand.DIGITS.items():
        send(part, Pad, {"strokes": []})
        wait_for(part, "rm-quiet")
        send(part, Pad, {"strokes": strokes})
        right += wait_for(part, BEST) == [label]
    assert right >= 8
    assert ids[0] in shown(part) and one(part, Pad).shape == [8, 8] and one(part, Pad).brush == 0.1  # thinner than the images
    assert len(re.findall("rm-bar", shown(part))) == 10


def test_uploads_of_any_size_are_read_as_the_ingest_reads_them(part: TryIt, mill: Settings) -> None:
    store = connect(mill)
    rows = samples.draw(store, dataset.find(store, "digits"), 16, seed=3)
    files = [png(image[:, :, 0], times) for image, times in zip(rows.images, [1, 5] * 8, strict=True)]
    send(part, Drop, {"names": [f"{place}.png" for place in range(16)]}, files)
    said = wait_for(part, BEST, 16)
    assert sum(int(label) == target for label, target in zip(said, rows.targets, strict=True)) >= 14


def test_what_cannot_be_read_is_told_beside_the_answers(part: TryIt) -> None:
    send(part, Drop, {"names": ["a.png", NASTY, "c.png"]}, [png(np.zeros((8, 8), np.uint8)), b"no image", b""])
    wait_for(part, BEST)
    wait_until(lambda: "is no PNG or JPEG image" in one(part, Notice).text)
    assert "c.png is empty" in one(part, Notice).text and one(part, Notice).kind == "failed"
    send(part, Drop, {"names": [NASTY]}, [png(np.zeros((8, 8), np.uint8))])
    wait_for(part, BEST)
    wait_until(lambda: html.escape(NASTY) in shown(part))
    assert "<img src=x" not in shown(part)


@pytest.mark.parametrize(
    ("content", "buffers", "sentence"),
    [
        ({"refused": "17 images are more than 16: choose fewer."}, [], "17 images are more than 16"),
        ({"names": ["big.png"]}, [bytes(9 * 10**6)], "These images have 9.0 MB, and 8 MB can be sent at once"),
        ({"names": [str(n) for n in range(17)]}, [b"x"] * 17, "17 images are more than 16"),
    ],
    ids=["by the browser", "bytes", "count"],
)
def test_too_much_is_refused_with_a_sentence(part: TryIt, content: dict[str, Any], buffers: list[bytes], sentence: str) -> None:
    send(part, Drop, content, buffers)
    assert sentence in one(part, Notice).text


def test_samples_come_from_the_validation_split_with_their_labels(part: TryIt, mill: Settings) -> None:
    button = next(w for w in widgets(part.root) if isinstance(w, ipywidgets.Button))
    button.click()
    keys = set(wait_for(part, r"digits/[0-9]+", 4))
    validation = set(dataset.load(connect(mill), dataset.find(connect(mill), "digits")).validation.keys)
    assert keys <= validation and len(re.findall("on record: [0-9]", shown(part))) == 4
    assert len(re.findall("rm-badge rm-(good|bad)", shown(part))) == 4
    before = shown(part)
    button.click()
    wait_until(lambda: shown(part) != before)
    assert not keys & set(re.findall(r"digits/[0-9]+", shown(part)))


def test_another_model_answers_beside_it_and_inverting_is_a_parameter(part: TryIt, ids: list[str]) -> None:
    send(part, Pad, {"strokes": hand.DIGITS["3"]})
    wait_for(part, BEST)
    one(part, ipywidgets.Dropdown).value = ids[1]
    assert wait_for(part, BEST, 2)[0] == "3" and ids[1] in shown(part)
    one(part, ipywidgets.Dropdown).value = ""
    wait_for(part, BEST)
    before = one(part, Command).text
    one(part, ipywidgets.Checkbox).value = True
    wait_until(lambda: one(part, Command).text != before)
    assert '"parameters":{"invert":true}' in one(part, Command).text


@pytest.mark.parametrize("inverted", [False, True], ids=["as it is", "inverted"])
def test_the_curl_line_works_as_printed(part: TryIt, ids: list[str], inverted: bool) -> None:
    one(part, ipywidgets.Checkbox).value = inverted
    send(part, Pad, {"strokes": hand.DIGITS["7"]})
    wait_for(part, BEST)
    done = subprocess.run(["sh", "-c", one(part, Command).text], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["deployedModelId"] == ids[0]
    best = max(range(10), key=said["predictions"][0].__getitem__)
    assert wait_for(part, BEST) == [str(best)]
    assert f"<span>{100 * said['predictions'][0][best]:.1f} %</span>" in shown(part)


def test_a_request_too_long_for_a_terminal_names_a_file() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), dtype=np.uint8)
    line = answers.command(Given(noise, ("",)), True, "http://127.0.0.1:1")
    assert line.endswith("""-H 'X-Parameters: {"invert": true}' --data-binary @image.png http://127.0.0.1:1""")
    assert '"Authorization: Bearer $(gcloud' in answers.command(Given(noise, ("",)), False, "https://a.run.app", is_private=True)


def test_a_silent_endpoint_is_a_sentence(mill: Settings, tmp_path: Path) -> None:
    silent = tryit.part(project_in(tmp_path / "state"))
    silent.turn_to("digits")
    send(silent, Pad, {"strokes": hand.DIGITS["1"]})
    wait_until(lambda: one(silent, Notice).kind == "failed")
    assert "does not answer" in one(silent, Notice).text


def test_pixels_survive_a_png() -> None:
    for channels in (1, 3):
        pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
        assert np.array_equal(images.decode(images.encode(pixels), "a.png", tryit.Reading()), pixels)


def test_words_have_their_places() -> None:
    assert words.say("tryit.too_many", count=17, most=16) == "17 images are more than 16: choose fewer."
