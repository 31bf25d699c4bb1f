"""The form of a search: its fields and ranges, held against the very checks of a search before anything runs."""

import csv
import io
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

import anywidget
import traitlets

from rowmill.errors import ParameterError, RowmillError
from rowmill.flow import notebook
from rowmill.pages import words
from rowmill.records import DatasetVersion
from rowmill.settings import Settings
from rowmill.training import builtin, formats, space
from rowmill.training.goal import ALGORITHMS, Goal, Objective
from rowmill.training.plan import Plan
from rowmill.training.study import Study

NOTEBOOK = "02_search"
OWN = "own"  # the choice of a network that is no built-in one
_GOAL = ("objective", "goal", "trials", "minutes", "patience", "epochs")
_WAY = ("algorithm", "workers", "seed", "stop_early", "trial_minutes")
_END = ("refit", "seeds", "members", "check_up")
_NUMBERS = ("min", "max", "step", "sampling")
_COLUMNS = ("name", "type", *_NUMBERS, "values", "default")
_SOUND_GOAL = Goal(1.0, trials=1, minutes=1.0)
_SOUND_PLAN = Plan("mlp", {}, _SOUND_GOAL)

Row = Mapping[str, Any]  # a range's cells as texts, by `_COLUMNS`; beside them `own`, the network's value, and `fixed`
Values = Mapping[str, str]


class Form(anywidget.AnyWidget):  # pylint: disable=abstract-method  # ipywidgets refuses to be copied
    """Fields and ranges; sends `{"values": ..., "rows": ...}` when the viewer has written something, and shows `faults`.

    Attributes:
        content: `groups` of fields, their `values`, the ranges' `rows`, what can be added to them (`known`, `free`), `has_ranges`.
        faults: Field's name, or `range:` and a row's place, to what is wrong with it.
    """

    _esm = resources.files(__package__).joinpath("form.js").read_text("utf-8")
    content = traitlets.Dict().tag(sync=True)
    faults = traitlets.Dict().tag(sync=True)
    words = traitlets.Dict().tag(sync=True)

    def __init__(self, **given: Any) -> None:
        empty = {"groups": [], "values": {}, "rows": [], "known": [], "free": False, "has_ranges": False}
        super().__init__(content={**empty, **given}, words=words.section("form"))
        self.add_class("rm-form")


def defaults(settings: Settings) -> dict[str, Any]:
    """Return the parameters of the search's notebook with their own values."""
    return notebook.parameters(settings, NOTEBOOK)


def content(parameters: Mapping[str, Any], versions: Sequence[DatasetVersion]) -> dict[str, Any]:
    """Return what a form shows of a search's parameters.

    Args:
        parameters: All of the notebook's.
        versions: That can be searched on, the newest last.
    """
    network = parameters["network"]
    chosen = network if network in builtin.DEFAULTS else OWN
    values = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in parameters.items() if name != "space"}
    values |= {"network": chosen, "file": "" if chosen == network else network}
    services = list(dict.fromkeys(version.service for version in reversed(versions)))
    values["service"] = parameters["service"] or next(iter(services), "")
    return {
        "groups": _groups(chosen, services, [version for version in versions if version.service == values["service"]]),
        "values": values,
        "rows": rows_of(parameters["space"] or builtin.SPACES.get(network, {}), network),
        "known": [_row(name, _blank(value), network) for name, value in builtin.DEFAULTS.get(network, {}).items()],
        "free": chosen == OWN,
        "has_ranges": True,
    }


def check(values: Values, rows: Sequence[Row], own: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Hold what a form has against the checks of a search.

    Args:
        values: Field's name to its text.
        rows: The ranges.
        own: The notebook's parameters with their own values.

    Returns:
        The parameters that differ from the notebook's own, and the faults, see `Form`; Keras's metrics and a network of one's own are
        known to the search alone.
    """
    faults: dict[str, str] = {}
    given: dict[str, Any] = {}
    for name, text in values.items():
        if name in own:
            _attempt(faults, name, lambda name=name, text=text: given.update({name: _value(name, text, own[name])}))  # type: ignore[misc]
    given["network"] = values["file"] if values["network"] == OWN else values["network"]
    if not given["network"]:
        faults["file"] = words.say("search.no_file")
    for name, value in given.items():
        if name == "goal" and "objective" in faults:
            continue  # which alone says what a target means
        _attempt(faults, name, lambda name=name, value=value: _check_one(name, value, given))  # type: ignore[misc]
    _check_ranges(faults, rows, given["network"])
    if not faults and _csv(rows) != _csv(rows_of(builtin.SPACES.get(given["network"], {}), given["network"])):
        _attempt(faults, "range:0", lambda: given.update(space=dict(formats.load(_csv(rows)))))
    return {name: value for name, value in given.items() if value != own[name]}, faults


def parameters_of(study: Study, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the notebook's parameters with which a search goes on, or is begun again."""
    plan = Plan.read(study.plan)
    goal = plan.goal
    given = {name: getattr(goal, name) for name in _GOAL if name not in ("objective", "goal")}
    given |= {
        name: getattr(plan, name) for name in ("network", "seed", "algorithm", "stop_early", "trial_minutes", "refit", "seeds", "members")
    }
    named = {"service": study.service, "dataset_version": study.dataset_version, "space": study.plan["space"]}
    return {**own, **given, **named, "objective": str(goal.objective), "goal": goal.target}


def command(parameters: Mapping[str, Any]) -> list[str]:
    """Return the argument list that runs the search's notebook with these parameters; see `pipeline.search`."""
    given = " ".join(shlex.quote(f"{name}={value if isinstance(value, str) else repr(value)}") for name, value in parameters.items())
    return [sys.executable, "-m", "rowmill", "search", "--parameters", given]


def whole(name: str, text: str) -> int:
    """Return a field's text as a whole number.

    Raises:
        ParameterError: It is none.
    """
    return int(_value(name, text, 0))


def rows_of(ranges: Mapping[str, Mapping[str, Any]], network: str) -> list[dict[str, Any]]:
    """Return ranges as a form's rows."""
    return [_row(name, entry, network) for name, entry in ranges.items()]


def single_values(values: Values, network: str) -> dict[str, dict[str, Any]]:
    """Return a space of one value each: what trains these values and nothing else.

    Raises:
        ParameterError: The network has no such hyperparameter, or not of this kind.
    """
    rows = [{"name": name, "type": "choice", "values": text} for name, text in values.items()]
    read = space.read(_csv(rows), builtin.DEFAULTS.get(network, {}))
    # Keras Tuner's choices know no truth values.
    return {
        name: {"type": "bool", "default": entry["values"][0]}
        if isinstance(entry["values"][0], bool)
        else {"type": "choice", "values": entry["values"]}
        for name, entry in read.items()
    }


def _groups(network: str, services: Sequence[str], versions: Sequence[DatasetVersion]) -> list[dict[str, Any]]:
    known = [[v.version, words.say("search.version", version=v.version, rows=f"{v.counts.get('train', 0):,}")] for v in reversed(versions)]
    data = [
        _field("service", options=[[name, name] for name in services]),
        _field("dataset_version", options=[["", words.say("search.newest")], *known]),
        _field("network", options=[[name, name] for name in builtin.DEFAULTS] + [[OWN, words.say("search.own")]]),
        *([_field("file", hint="path/to/file.py:function")] if network == OWN else []),
    ]
    goal = [_field(name, kind="text" if name == "objective" else "number") for name in _GOAL[:4]]
    way = [
        _field("algorithm", options=[[name, name] for name in ALGORITHMS]),
        *(_field(name, kind="number") for name in ("workers", "seed")),
    ]
    kinds = {"epochs": "number", "patience": "number", "trial_minutes": "number", "seeds": "number", "members": "number"}
    more = [_field(name, kind=kinds.get(name, "check")) for name in ("patience", "epochs", "trial_minutes", "stop_early", *_END)]
    titles = ("data", "goal", "way")
    shown = [{"title": words.say(f"search.{title}"), "fields": fields} for title, fields in zip(titles, (data, goal, way), strict=True)]
    return [*shown, {"title": words.say("search.more"), "fields": more, "folded": True}]


def _field(name: str, **traits: Any) -> dict[str, Any]:
    told = words.section("search")
    return {"name": name, "label": told[f"{name}_label"], "help": told.get(f"{name}_help", ""), **traits}


def _row(name: str, entry: Mapping[str, Any], network: str) -> dict[str, Any]:
    own = builtin.DEFAULTS.get(network, {}).get(name, "")
    cells = {key: str(entry[key]) for key in ("type", *_NUMBERS, "default") if key in entry and (key, entry[key]) != ("sampling", "linear")}
    values = " | ".join(map(str, entry.get("values", ()))) if entry["type"] == "choice" else ""
    return {"name": name, **cells, "values": values, "own": str(own), "fixed": own != ""}


def _blank(value: Any) -> dict[str, Any]:
    """Return a range without an extent, of the kind that a value has."""
    return {"type": {bool: "bool", int: "int", float: "float"}.get(type(value), "choice")}


def _csv(rows: Sequence[Row]) -> str:
    """Return rows as the table that `formats.load` reads; what a row's type has no use for is left out."""
    file = io.StringIO()
    writer = csv.DictWriter(file, _COLUMNS, restval="", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        used = {"choice": ("values",), "bool": ()}.get(row.get("type", ""), _NUMBERS)
        writer.writerow({name: row.get(name, "") for name in ("name", "type", "default", *used)})
    return file.getvalue()


def _check_ranges(faults: dict[str, str], rows: Sequence[Row], network: str) -> None:
    names = [row.get("name", "") for row in rows]
    for place, row in enumerate(rows):
        _attempt(faults, f"range:{place}", lambda row=row: space.read(_csv([row]), builtin.DEFAULTS.get(network, {})))  # type: ignore[misc]
        if names[place] in names[:place]:
            faults[f"range:{place}"] = words.say("search.twice", name=names[place])
    if not rows and network not in builtin.DEFAULTS:
        faults["file"] = words.say("search.no_ranges")


def _value(name: str, text: str, default: Any) -> Any:
    """Return a field's text as a value of the kind that the notebook's parameter has."""
    if isinstance(default, bool):
        return text == "True"
    try:
        return type(default)(text.strip())
    except ValueError as error:
        what = words.say("search.whole" if isinstance(default, int) else "search.number", label=words.say(f"search.{name}_label"))
        raise ParameterError(what, found=repr(text), step=words.say("search.give", value=default)) from error


def _check_one(name: str, value: Any, given: Mapping[str, Any]) -> None:
    """Let the records that a search is made of refuse a value."""
    if name == "objective":
        Objective.parse(value)
    elif name == "goal":
        replace(_SOUND_GOAL, target=value, objective=Objective.parse(given.get("objective", "accuracy")))
    elif name in _GOAL:
        replace(_SOUND_GOAL, **{name: value})
    elif name in (*_WAY, *_END) and name != "check_up":
        replace(_SOUND_PLAN, **{name: value})


def _attempt(faults: dict[str, str], name: str, work: Callable[[], Any]) -> None:
    try:
        work()
    except RowmillError as error:
        faults.setdefault(name, str(error))
