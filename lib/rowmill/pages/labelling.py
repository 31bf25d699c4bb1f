"""Labelling by eye: one image at a time, one click or key a label; what the model said is not shown, for it would be believed."""

import datetime
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any

import anywidget
import ipywidgets
import numpy as np
import pandas as pd
import traitlets

from rowmill import settings
from rowmill.monitoring import truth
from rowmill.monitoring.truth import Said
from rowmill.pages import answers, parts, words
from rowmill.records import now
from rowmill.serving import release
from rowmill.serving.release import Service
from rowmill.settings import Settings

_DAYS, _REQUESTS, _AT_ONCE = 30.0, 20_000, 50  # what is looked at, and labelled before one begins anew
_KINDS = {"unsure": truth.UNSURE, "chance": truth.CHANCE, "differ": truth.DIFFER}
_KEYS = "123456789abcdefghijklmnopqrstuvwxyz"


def board(service: Service, queue: pd.DataFrame) -> ipywidgets.Widget:
    """Return a widget that labels instances one after the other.

    Args:
        service: Whose requests they are; its newest model knows their labels and shape.
        queue: As `truth.queue` returns them.
    """
    return Labelling(service, queue).root


def requests(service: Service) -> ipywidgets.Widget:
    """Return the card of `part` for one service, as a notebook shows it."""
    card = Part(service.settings)
    card.turn_to(service)
    return card.root


def part(project: Settings) -> "Part":
    """Return the card of a page; put its `root` there, and call `turn_to` whenever the page refreshes."""
    return Part(project)


class Part:
    """The card: which requests are to be labelled, and the board.

    Attributes:
        root: The widget.
    """

    def __init__(self, project: Settings) -> None:
        self._settings, self._service = project, ""
        self._notice, self._board = parts.Notice(), parts.column()
        kinds = [(words.say(f"labelling.{name}"), kind) for name, kind in _KINDS.items()]
        self._kind = parts.field(ipywidgets.Dropdown, words.say("labelling.which"), options=kinds)
        self._model = parts.field(ipywidgets.Dropdown, words.say("labelling.model"))
        self._kind.observe(lambda _: parts.show(self._model, self._kind.value == truth.DIFFER), "value")
        parts.show(self._model, False)
        begin = parts.button(words.say("labelling.begin"), parts.guarded(self._notice, self._begin))
        self.root = parts.card(words.say("labelling.requests"), parts.row(self._kind, self._model, begin), self._notice, self._board)

    def turn_to(self, service: Service) -> None:
        """Label this service's requests from now on."""
        models = [model.model_id for model in service.registry.models(service.name)]
        if models != list(self._model.options):
            self._model.options = models
        if service.name != self._service:
            self._service, self._board.children = service.name, ()

    def _begin(self) -> None:
        self._notice.say(words.say("labelling.looking"), "running")
        service = release.open_service(self._settings, self._service)
        rows = truth.recorded(service, now() - datetime.timedelta(days=_DAYS), _REQUESTS)
        if self._kind.value == truth.DIFFER:
            from rowmill.monitoring import replay  # pylint: disable=import-outside-toplevel  # and with it scipy.stats, 57 MB

            rows = replay.run(service, rows, self._model.value).differing
        queue = truth.queue(service, rows, self._kind.value, _AT_ONCE)
        self._board.children = (Labelling(service, queue).root,)
        self._notice.say("")


class Card(anywidget.AnyWidget):  # pylint: disable=abstract-method  # ipywidgets refuses to be copied
    """What is to be labelled; it sends `{"label": ...}`, `{"skip": true}` or `{"undo": true}`.

    Attributes:
        image: As an `img` takes it; empty when nothing is left.
        labels: Each with its key, `[label, key]`.
        told: How much is left, in words.
        number: Which image it is; goes with what is sent, so that a second click does not label the next one.
        can_undo: Whether there is something to undo.
    """

    _esm = resources.files(__package__).joinpath("labelling.js").read_text("utf-8")
    image = traitlets.Unicode().tag(sync=True)
    labels: Any = traitlets.List().tag(sync=True)
    told = traitlets.Unicode().tag(sync=True)
    number = traitlets.Int().tag(sync=True)
    can_undo = traitlets.Bool().tag(sync=True)
    words = traitlets.Dict().tag(sync=True)


class Labelling:
    """The widget's state: where it is in the queue, and what was said.

    Attributes:
        root: The widget.
    """

    def __init__(self, service: Service, queue: pd.DataFrame) -> None:
        model = service.registry.model("", service.name)
        self._settings, self._shape, self._queue = service.settings, model.shape, queue.to_dict("records")
        self._said: list[Said | None] = []  # one per image that was passed; None for those that were skipped
        self._notice = parts.Notice()
        self._writer = _Writer(service, self._notice)
        self._card = Card(labels=_keyed(model.labels), words=words.section("labelling"))
        self._card.on_msg(lambda _, content, __: self._hear(content))
        self._who = parts.field(ipywidgets.Text, words.say("labelling.who"), value=settings.actor())
        style = parts.html(f"<style>{resources.files(__package__).joinpath('labelling.css').read_text('utf-8')}</style>", "rm-style")
        self.root = parts.card(words.say("labelling.title"), style, self._card, self._notice, self._who, name="rm-labelling")
        self._show()

    def _hear(self, content: Mapping[str, Any]) -> None:
        told = parts.outcome(lambda: self._do(content))
        if told:
            self._notice.say(told, "failed")
        self._show()

    def _do(self, content: Mapping[str, Any]) -> None:
        parts.check_writable(self._settings)
        if content.get("number") != len(self._said):
            return  # a click on an image that has gone already
        if content.get("undo"):
            if self._said and (last := self._said.pop()):
                self._writer.put(Said(last.request_id, last.place, "", last.chosen, last.labelled_by))
        elif len(self._said) < len(self._queue):
            self._said.append(self._heard(str(content["label"])) if "label" in content else None)

    def _heard(self, label: str) -> Said:
        row = self._queue[len(self._said)]
        said = Said(str(row["request_id"]), int(row["place"]), label, str(row["chosen"]), self._who.value.strip() or settings.actor())
        self._writer.put(said)
        return said

    def _show(self) -> None:
        number, said = len(self._said), sum(entry is not None for entry in self._said)
        counts = {"left": len(self._queue) - number, "said": said, "skipped": number - said}
        with self._card.hold_sync():
            self._card.number, self._card.can_undo = number, number > 0
            self._card.told = words.say("labelling.left" if counts["left"] else "labelling.done", **counts)
            self._card.image = self._drawn(self._queue[number]["image"]) if counts["left"] else ""

    def _drawn(self, image: bytes) -> str:
        return answers.data_url(np.frombuffer(image, np.uint8).reshape(self._shape))


class _Writer:
    """Puts labels on record in a thread, in their order: what comes while it writes goes with the next append, for BigQuery takes seconds.

    What could not be written is kept, and tried again with the next label.
    """

    def __init__(self, service: Service, notice: parts.Notice) -> None:
        self._service, self._notice = service, notice
        self._waiting: list[Said] = []
        self._thread = ThreadPoolExecutor(1)

    def put(self, said: Said) -> None:
        """Take a label; it returns at once."""
        self._waiting.append(said)
        self._thread.submit(self._write)

    def _write(self) -> None:
        batch = list(self._waiting)
        if not batch:
            return
        told = parts.outcome(lambda: truth.append(self._service.registry.warehouse, self._service.name, batch))
        if told:
            count = words.say("labelling.waiting", count=len(self._waiting))
            self._notice.say(f"{count}: {told} {words.say('labelling.keeps')}", "failed")
        else:
            del self._waiting[: len(batch)]
            self._notice.say("")


def _keyed(labels: tuple[str, ...]) -> list[list[str]]:
    """Return each label with its key: its own letter or digit where all have one, else the next of a row; an empty one beyond that."""
    if all(len(label) == 1 and label.isalnum() for label in labels):
        return [[label, label] for label in labels]
    return [[label, _KEYS[place] if place < len(_KEYS) else ""] for place, label in enumerate(labels)]
