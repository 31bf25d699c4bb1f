"""The card of a new search: its form, its faults, its start."""

from collections.abc import Mapping
from typing import Any

from rowmill.data import dataset
from rowmill.errors import NotFoundError, ParameterError
from rowmill.pages import parts, search_form, search_jobs, words
from rowmill.pages.search_form import Form
from rowmill.records import DatasetVersion
from rowmill.registry import connected
from rowmill.settings import Settings


class New:
    """The card.

    Attributes:
        root: The widget.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._notice = settings, parts.Notice()
        self._own = search_form.defaults(settings)
        self._versions: list[DatasetVersion] | None = None
        self._values: dict[str, str] = {}
        self._rows: list[dict[str, Any]] = []
        self._form = Form()
        self._form.on_msg(lambda _, content, __: self._written(content["values"], content["rows"]))
        self._start = parts.button(words.say("search.start"), parts.guarded(self._notice, self._begin), kind="main")
        self.root = parts.card(words.say("search.new"), self._form, parts.row(self._start, name="rm-actions"), self._notice)

    def refresh(self, is_busy: bool) -> None:
        """Read the data set versions, once, and allow what can be done."""
        self._start.disabled = is_busy
        if self._notice.kind == "running":
            self._notice.say("")  # it is under way, and shows itself
        if self._versions is None:
            # Once: a warehouse in BigQuery is paid for each question.
            self._versions = dataset.versions(connected(self._settings).warehouse)
            self.fill(self._own)

    def fill(self, parameters: Mapping[str, Any]) -> None:
        """Show a search's parameters, to be changed."""
        self._fill(search_form.content(parameters, self._versions or []))

    def _fill(self, content: dict[str, Any]) -> None:
        self._values, self._rows = dict(content["values"]), list(content["rows"])
        self._form.content = content
        self._check()

    def _written(self, values: dict[str, str], rows: list[dict[str, Any]]) -> None:
        """Take what the viewer wrote; another network has other ranges, another service other versions."""
        before, self._values, self._rows = self._values, values, rows
        if (values["network"], values["service"]) == (before["network"], before["service"]):
            self._check()
            return
        is_other = values["network"] != before["network"]
        network = values["file"] if values["network"] == search_form.OWN else values["network"]
        content = search_form.content({**self._own, "network": network, "service": values["service"]}, self._versions or [])
        kept = {name: text for name, text in values.items() if name not in ("network", "file", "dataset_version")}
        self._fill({**content, "values": {**content["values"], **kept}, **({} if is_other else {"rows": rows})})

    def _check(self) -> dict[str, Any]:
        parameters, self._form.faults = search_form.check(self._values, self._rows, self._own)
        return parameters

    def _begin(self) -> None:
        if not self._versions:
            raise NotFoundError(words.say("search.no_data"), step=words.say("search.no_data_step"))
        parameters = self._check()
        if self._form.faults:
            raise ParameterError(words.say("search.faulty", count=len(self._form.faults)), step=words.say("search.faulty_step"))
        search_jobs.start(self._settings, {**self._own, **parameters}, "search.job")
        self._notice.say(words.say("search.started"), "running")
        self._start.disabled = True
