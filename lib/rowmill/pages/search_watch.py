"""The card that shows a search, running or not: pictures, trials, what can be done with them."""

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets

from rowmill.data import dataset
from rowmill.errors import RowmillError
from rowmill.pages import parts, search_form, search_jobs, search_plots, search_view, words
from rowmill.pages.search_form import Form
from rowmill.pages.search_view import View
from rowmill.pages.table import Table
from rowmill.records import ModelId, Trial
from rowmill.registry import connected
from rowmill.settings import Settings
from rowmill.training import findings, importance, study

_MOST_SEARCHES = 50


class Watch:
    """The card.

    Attributes:
        root: The widget.
        view: The search that is shown; None while there is none.
        searches: All that are known, the one that began last first.
    """

    def __init__(self, settings: Settings, edit: Callable[[Mapping[str, Any]], None]) -> None:
        self._settings, self._edit = settings, edit
        # Two places, so that each button's words are told beside it.
        self._notice, self._trained = parts.Notice(), parts.Notice()
        self.view: View | None = None
        self.searches: Sequence[study.Study] = ()
        self._experiment, self._trial = "", ""
        self._seen: set[str] = set()
        self._drawn: tuple[Any, ...] = ()
        self._ended: tuple[Any, ...] = ()
        self._which = parts.field(ipywidgets.Dropdown, words.say("search.which"), options=[])
        self._html = {name: parts.html() for name in ("head", "pictures", "doctor", "end", "about")}
        self._table = Table(words.say("search.table"), search_view.columns(), self._choose)
        self._table.add_class("rm-trials")
        self._values = Form()
        self._given: dict[str, str] = {}
        self._buttons = {name: self._button(name) for name in ("stop", "resume", "again", "train")}
        self._chosen = parts.column(self._html["about"], self._values, parts.row(self._buttons["train"]), self._trained, name="rm-chosen")
        self.root = self._lay()

    def refresh(self, is_busy: bool) -> None:
        """Show the search as it is now on disk; one that began meanwhile, here or elsewhere, is turned to."""
        for notice in (self._notice, self._trained):
            if notice.kind == "running":
                notice.say("")  # what was asked for is under way, and shows itself
        searches = self.searches = study.known(self._settings.state, _MOST_SEARCHES)
        running = [search.experiment for search in searches if search.is_running]
        fresh = [name for name in running if name not in self._seen]
        self._seen |= set(running)
        names = [search.experiment for search in searches]
        if fresh or self._experiment not in names:
            self._turn_to((fresh or names or [""])[0])
        self._offer({search_view.label(search): search.experiment for search in searches})
        shown = next((search for search in searches if search.experiment == self._experiment), None)
        if shown is None:
            self._html["head"].value = f'<p class="rm-quiet">{escape(words.say("search.none"))}</p>'
        else:
            self._show(shown)
        self._allow(is_busy)

    def _lay(self) -> ipywidgets.Widget:
        self._which.observe(lambda change: self._turn_to(change["new"] or ""), "value")
        self._values.on_msg(lambda _, content, __: self._given.update(content["values"]))
        actions = parts.row(*(self._buttons[name] for name in ("stop", "resume", "again")), name="rm-actions")
        for widget in (self._which, self._chosen, self._table):
            parts.show(widget, False)
        return parts.card(
            "",
            self._which,
            self._html["head"],
            actions,
            self._notice,
            self._html["pictures"],
            self._html["doctor"],
            self._table,
            self._chosen,
            self._html["end"],
        )

    def _button(self, name: str) -> ipywidgets.Button:
        work = {"stop": self._stop, "resume": self._resume, "again": self._again, "train": self._train}[name]
        kind = {"resume": "main", "stop": "danger"}.get(name, "")
        notice = self._trained if name == "train" else self._notice
        return parts.button(words.say(f"search.{name}"), parts.guarded(notice, work), kind=kind)

    def _turn_to(self, experiment: str) -> None:
        if experiment != self._experiment:
            self._experiment, self._trial, self._drawn, self._ended = experiment, "", (), ()
            self._html["end"].value = ""
            parts.show(self._chosen, False)

    def _offer(self, searches: Mapping[str, str]) -> None:
        if tuple(searches.items()) != tuple(self._which.options):
            self._which.options = tuple(searches.items())
        if self._which.value != self._experiment:
            self._which.value = self._experiment or None
        parts.show(self._which, len(searches) > 1)

    def _show(self, shown: study.Study) -> None:
        mark = (shown.experiment, shown.mark, shown.before, shown.is_running, shown.is_finished, self._trial)
        if mark == self._drawn:
            return
        view = self.view = search_view.look(shown)
        self._html["head"].value, self._html["pictures"].value = search_view.head(view), search_view.pictures(view, self._trial)
        self._table.fill(search_view.rows(view))
        parts.show(self._table, bool(view.trials))
        self._drawn = mark
        if view.stage == "running":
            self._html["doctor"].value, self._html["end"].value, self._ended = search_view.sentences(shown.findings()), "", ()
        elif self._ended != mark[:2]:
            self._ended = mark[:2]
            self._look_back(view)

    def _look_back(self, view: View) -> None:
        """Draw what only an end shows."""
        self._html["doctor"].value = search_view.sentences((*view.study.findings(), *self._worth(view)))
        lines, charts = search_plots.parallel(view.trials), []
        if lines:
            charts.append((words.say("search.parallel"), f'{lines}<p class="rm-quiet">{escape(words.say("search.parallel_note"))}</p>'))
        if view.trials:
            charts.append((words.say("search.mattered"), search_plots.mattered(*_mattered(view.trials))))
        self._html["end"].value = "".join(f"<h3>{escape(title)}</h3>{chart}" for title, chart in charts)

    def _worth(self, view: View) -> Sequence[str]:
        """Return what the trials' figures are worth; nothing where the data set version is not on record any more."""
        try:
            version = dataset.find(connected(self._settings).warehouse, view.study.service, view.study.dataset_version)
        except RowmillError:
            return ()
        return findings.look_back(view.trials, view.study.plan["space"], view.plan.goal.objective, version.counts["validation"]).sentences

    def _allow(self, is_busy: bool) -> None:
        stage = self.view.stage if self.view and self.view.study.experiment == self._experiment else ""
        parts.show(self._buttons["stop"], is_busy)
        parts.show(self._buttons["resume"], stage == "stopped" and not is_busy)
        parts.show(self._buttons["again"], bool(stage))
        self._buttons["train"].disabled = is_busy

    def _choose(self, model_id: str) -> None:
        """Show a trial's values, to be changed and trained."""
        view = self.view
        trial = next((trial for trial in view.trials if trial.model_id == model_id), None) if view else None
        if view is None or trial is None:
            return
        self._trial = model_id
        self._html["about"].value = _about(view, trial)
        self._given = {**{name: str(value) for name, value in trial.hyperparameters.items() if name != "network"}, "seed": str(trial.seed)}
        fields = [{"name": name, "label": name} for name in self._given]
        self._values.content = {
            **self._values.content,
            "groups": [{"title": words.say("search.values"), "fields": fields}],
            "values": dict(self._given),
        }
        for widget in (self._values, self._buttons["train"]):
            parts.show(widget, trial.kind != "average")
        parts.show(self._chosen, True)
        self._show(view.study)

    def _stop(self) -> None:
        search_jobs.stop(self._settings)
        self._notice.say(words.say("search.stopped"))

    def _resume(self) -> None:
        if self.view:
            search_jobs.resume(self._settings, self.view.study)
            self._notice.say(words.say("search.started"), "running")

    def _again(self) -> None:
        if self.view:
            self._edit(search_form.parameters_of(self.view.study, search_form.defaults(self._settings)))
            self._notice.say(words.say("search.filled"))

    def _train(self) -> None:
        view = self.view
        trial = next((trial for trial in view.trials if trial.model_id == self._trial), None) if view else None
        if view and trial:
            search_jobs.train(self._settings, view.study, trial, self._given)
            self._trained.say(words.say("search.started"), "running")


def _about(view: View, trial: Trial) -> str:
    title = words.say("search.chosen", trial=ModelId.parse(trial.model_id).trial)
    told = ", ".join(filter(None, (trial.state, search_view.figure(view, search_plots.reached(trial)), trial.reason)))
    return f'<h2>{escape(title)}</h2><p class="rm-broken">{escape(told)}</p>'


def _mattered(trials: Sequence[Trial]) -> tuple[dict[str, float], float]:
    """Return `importance.of`, computed in a process of its own: scikit-learn would stay in this one with 90 MB."""
    if len(importance.table(trials)) < importance.FEWEST:
        return {}, float("nan")
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        shares, explained = pool.submit(importance.of, trials).result()
    return {str(name): float(share) for name, share in shares.items()}, explained
