"""Try it: images that are drawn, uploaded or taken from the data set, and what the model that serves answers."""

import threading
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

import ipywidgets
import numpy as np
import numpy.typing as npt

from rowmill.data import dataset, images, samples
from rowmill.data.dataset import Examples
from rowmill.data.reading import Reading
from rowmill.errors import RowmillError
from rowmill.pages import answers, drawing, parts, words
from rowmill.pages.answers import Given, Pixels
from rowmill.pages.drawing import Strokes, Style
from rowmill.pages.pad import LIMITS, Command, Drop, Pad
from rowmill.registry import connected
from rowmill.serving import bundle, release
from rowmill.settings import Settings

_SAMPLE, _KNOWN = 4, 64
_THICKEST = 0.1

Card = Mapping[str, Any]
Ask = Callable[[Card], Given]  # images of the size that the endpoint's card tells


def part(settings: Settings) -> "TryIt":
    """Return the card of a page; put its `root` there, and call `turn_to` whenever the page refreshes."""
    return TryIt(settings)


class TryIt:
    """The card.

    Attributes:
        root: The widget.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._service = ""
        self._latest: Ask | None = None
        self._rows: tuple[str, Examples] | None = None
        self._taken = 0
        self._notice, self._answers, self._command = parts.Notice(), parts.html(), Command()
        self._pad, self._drop = Pad(), Drop()
        self._invert = parts.field(ipywidgets.Checkbox, words.say("tryit.invert"), indent=False)
        self._other = parts.field(ipywidgets.Dropdown, words.say("tryit.beside"), options=[(words.say("tryit.nobody"), "")])
        self._asks = _Newest(self._answer, self._notice)
        self.root = self._lay()

    def turn_to(self, service: str, models: Sequence[str] = ()) -> None:
        """Ask this service from now on.

        Args:
            service: Its name.
            models: Ids of its models, any of which can be asked beside the one that serves.
        """
        if service != self._service:
            self._service, self._rows = service, None
            self._ask(None)
        options = [(words.say("tryit.nobody"), ""), *((model_id, model_id) for model_id in models)]
        if options != list(self._other.options):
            kept = self._other.value
            self._other.options = options
            self._other.value = kept if kept in models else ""

    def _lay(self) -> ipywidgets.Widget:
        self._pad.on_msg(lambda _, content, __: self._ask(self._drawn(content["strokes"])))
        self._drop.on_msg(lambda _, content, buffers: self._dropped(content, buffers))
        for choice in (self._invert, self._other):
            choice.observe(lambda _: self._ask(self._latest), "value")
        sample = parts.button(words.say("tryit.sample"), lambda _: self._ask(self._sample()), title=words.say("tryit.sample_title"))
        style = parts.html(f"<style>{resources.files(__package__).joinpath('tryit.css').read_text('utf-8')}</style>", "rm-style")
        given = parts.column(self._pad, self._drop, parts.row(sample), name="rm-given")
        said = parts.column(parts.row(self._invert, self._other), self._notice, self._answers, self._command, name="rm-said")
        self._ask(None)
        return parts.card(words.say("tryit.title"), style, parts.row(given, said, name="rm-tryit"))

    def _ask(self, ask: Ask | None) -> None:
        self._latest = ask
        if ask:
            self._asks.put(ask)
        else:
            self._answers.value, self._command.text = f'<p class="rm-quiet">{escape(words.say("tryit.hint"))}</p>', ""

    def _answer(self, ask: Ask) -> None:
        """Ask the model that serves, and the one beside it; images are made anew, as the model that answers now takes them."""
        target, invert = release.open_service(self._settings, self._service).target, bool(self._invert.value)
        with target.open() as endpoint:
            card = endpoint.describe()
            given = ask(card)
            said = {}
            if len(given.images):
                probabilities, model_id = endpoint.predict(given.images, invert)
                said[model_id] = probabilities
        if said and self._other.value not in ("", *said):
            said[self._other.value] = self._beside(self._other.value, given.images, card)
        self._notice.say(" ".join(given.faults), "failed" if given.faults else "done")
        if said and ask is self._latest:
            self._answers.value = answers.html(given, invert, card["labels"], said)
            self._command.text = answers.command(
                given, invert, target.address, is_private=not (target.embedded or self._settings.cloud.public)
            )

    def _beside(self, model_id: str, pixels: Pixels, card: Card) -> npt.NDArray[np.float64]:
        """Return what a model answers that does not serve; its bundle is opened in this process."""
        registry = connected(self._settings)
        model = registry.model(model_id, self._service)
        release.refuse_other_kind(model, dict(card))
        with bundle.open_in_process(bundle.build(self._settings, registry, model)) as endpoint:
            return endpoint.predict(pixels, bool(self._invert.value))[0]

    def _drawn(self, strokes: Strokes) -> Ask | None:
        return (lambda card: Given(drawing.image(strokes, self._style(card), _shape(card))[np.newaxis], ("",))) if strokes else None

    def _style(self, card: Card) -> Style:
        """Return how the images of the served model's data set look; where its rows cannot be had, as MNIST's do."""
        height, width, _ = _shape(card)
        try:
            style = drawing.measure(self._known(card).images)
        except RowmillError:
            style = Style()
        self._pad.shape, self._pad.ground, self._pad.brush = (
            [height, width],
            style.ground,
            min(_THICKEST, style.brush * max(height, width) / width),
        )
        return style

    def _sample(self) -> Ask:
        def of(card: Card) -> Given:
            labels, known = card["labels"], self._known(card)
            places = [place % len(known.keys) for place in range(start, start + min(_SAMPLE, len(known.keys)))]
            return Given(known.images[places], [known.keys[place] for place in places], [labels[known.targets[place]] for place in places])

        start, self._taken = self._taken, self._taken + _SAMPLE
        return of

    def _known(self, card: Card) -> Examples:
        """Return some rows of the validation split of the served model's data set, read once."""
        if self._rows is None or self._rows[0] != card["dataset"]:
            store = connected(self._settings).warehouse
            version = dataset.find(store, self._service, card["dataset"])
            self._rows = card["dataset"], samples.draw(store, version, _KNOWN, seed=int(np.random.default_rng().integers(2**31)))
        return self._rows[1]

    def _dropped(self, content: Mapping[str, Any], buffers: Sequence[Any]) -> None:
        if "refused" in content:
            self._notice.say(str(content["refused"]), "failed")
            return
        files = [(str(name), bytes(part)) for name, part in zip(content["names"], buffers, strict=False)]
        size = sum(len(data) for _, data in files)
        # The browser refuses these; this is for whoever goes round it.
        if len(files) > LIMITS["files"]:
            self._notice.say(words.say("tryit.too_many", count=len(files), most=LIMITS["files"]), "failed")
        elif size > LIMITS["bytes"]:
            self._notice.say(words.say("tryit.too_large", mb=f"{size / 1e6:.1f}", most_mb=LIMITS["bytes"] // 10**6), "failed")
        else:
            self._ask(lambda card: _decoded(files, _shape(card)))


def _shape(card: Card) -> tuple[int, int, int]:
    height, width, channels = card["input"]["shape"]
    return height, width, channels


def _decoded(files: Sequence[tuple[str, bytes]], shape: tuple[int, int, int]) -> Given:
    """Return image files as the ingest reads them; those that cannot be read are told of."""
    reading = Reading(f"{shape[0]}x{shape[1]}", "grey" if shape[2] == 1 else "rgb")
    pixels, names, faults = [], [], []
    for name, data in files:
        try:
            pixels.append(images.decode(data, name, reading))
            names.append(name)
        except RowmillError as error:
            faults.append(str(error))
    return Given(np.array(pixels, np.uint8).reshape(-1, *shape), names, (), faults)


class _Newest:
    """Does what was asked last, in a thread; what it overtook is never done."""

    def __init__(self, work: Callable[[Ask], None], notice: parts.Notice) -> None:
        self._work, self._notice = work, notice
        self._lock = threading.Lock()
        self._waiting: Ask | None = None
        self._busy = False

    def put(self, ask: Ask) -> None:
        """Ask; it returns at once."""
        with self._lock:
            self._waiting = ask
            if not self._busy:
                self._busy = True
                threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                ask, self._waiting = self._waiting, None
                if ask is None:
                    self._busy = False
                    return
            told = parts.outcome(lambda ask=ask: self._work(ask))  # type: ignore[misc]
            if told:
                self._notice.say(told, "failed")
