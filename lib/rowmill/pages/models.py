"""The Models page: what serves, the models to deploy, one model's card, and the history; it keeps no truth of its own."""

import threading
from typing import Any

from ipywidgets import Dropdown, Widget

from rowmill.pages import history, model_card, model_list, parts, serving_card, tryit
from rowmill.pages import stand as stands
from rowmill.pages.change import Confirmation, Progress
from rowmill.pages.stand import Stand
from rowmill.pages.table import Table
from rowmill.pages.words import say
from rowmill.settings import Settings


def page(settings: Settings) -> Widget:
    """Return the Models page of a project; it reads anew while somebody looks at it."""
    return _Page(settings).root


class _Page:
    """The widgets, and what is read into them; all reading is done in threads, so that the page stays alive."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stand: Stand | None = None
        self._service, self._chosen, self._trouble = "", "", ""
        self._watch, self._is_new = stands.Watch(settings), True
        self._turn = threading.Lock()
        self._notice = parts.Notice()
        beat = parts.Beat(self._refresh, self._notice)
        self._progress = Progress(settings)
        self._confirmation = Confirmation(settings, self._look_now)
        self._choice = parts.field(Dropdown, say("models.service"))
        self._choice.observe(self._choose_service, "value")
        parts.show(self._choice, False)
        self._table = Table(say("models.all"), model_list.columns(), self._choose)
        self._serving = serving_card.Card(self._asking("serving.roll_back", "roll back"), self._progress.root)
        self._card = model_card.Card(self._asking("card.deploy", "deploy", "main"), self._asking("card.delete", "delete", "danger"))
        self._tryit, self._history = tryit.part(settings), parts.html()
        left = parts.column(parts.card(say("models.all"), self._table), self._tryit.root)
        self._both = parts.row(left, self._card.root, name="rm-two")
        self.root = self._lay(beat)
        beat.strike()

    def _asking(self, label: str, action: str, kind: str = "") -> Widget:
        def ask() -> None:
            if self._stand:
                self._confirmation.ask(self._stand, action, self._stand.earlier if action == "roll back" else self._chosen)

        return parts.button(say(label), parts.guarded(self._notice, ask), kind=kind)

    def _lay(self, beat: Widget) -> Widget:
        again = parts.button(say("models.refresh"), parts.guarded(self._notice, self._look_now))
        mark = [parts.html(parts.badge(say("models.read_only"), "unsure"))] if self._settings.dashboard_read_only else []
        past = parts.card(say("history.title"), self._history)
        body = (beat, self._notice, self._serving.root, self._confirmation.root, self._both, past)
        return parts.page(say("frame.models"), [*mark, self._choice, again], *body)

    def _choose_service(self, change: dict[str, Any]) -> None:
        if self._stand and change["new"] not in (None, self._stand.service.name):  # else it is no user who chooses
            self._service, self._chosen = change["new"], ""
            parts.guarded(self._notice, self._look_now)()

    def _choose(self, model_id: str) -> None:
        self._chosen = model_id
        self._card.promise(model_id)
        self._paint()
        parts.guarded(self._notice, self._show_card)()

    def _look_now(self) -> None:
        self._watch.hurry()
        self._refresh()

    def _refresh(self) -> None:
        """Show the job; look at everything where something changed, or when it is time again."""
        with self._turn:
            trouble = parts.outcome(self._look)
            if trouble != self._trouble:
                self._trouble = trouble
                self._notice.say(trouble, "failed" if trouble else "done")

    def _look(self) -> None:
        if self._stand and self._progress.show(self._stand.service):
            self._watch.hurry()
        if self._watch.is_due():
            self._stand = stands.read(self._settings, self._service)
            self._draw()
        self._paint()
        self._fill_card()

    def _draw(self) -> None:
        stand, self._is_new = self._stand, True
        parts.show(self._both, stand is not None)
        self._serving.show(stand)
        self._history.value = history.markup(stand.deployments if stand else ())
        if stand is None:
            return
        if list(stand.services) != list(self._choice.options):
            self._choice.options = list(stand.services)
        self._choice.value = self._service = stand.service.name
        parts.show(self._choice, len(stand.services) > 1)
        self._table.fill(model_list.rows(stand))
        self._tryit.turn_to(stand.service.name, [model.model_id for model in stand.models])
        if stand.model(self._chosen) is None:
            known = stand.model(stand.serving.model) or stand.models[0]
            self._chosen = known.model_id
        self._table.chosen = self._chosen

    def _show_card(self) -> None:
        with self._turn:
            self._fill_card()

    def _fill_card(self) -> None:
        """Show the chosen model; while it is read, another one may be chosen."""
        shown = ""
        while self._stand and shown != self._chosen and (model := self._stand.model(self._chosen)):
            self._card.show(self._stand, model, self._is_new)
            shown, self._is_new = model.model_id, False

    def _paint(self) -> None:
        """Enable what can be done."""
        stand, busy = self._stand, self._progress.is_running
        self._card.allow(bool(stand and self._chosen != stand.serving.model and not busy))
        self._serving.allow(bool(stand and stand.earlier and not busy))
