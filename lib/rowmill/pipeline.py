"""The notebooks as one pipeline: checks what was asked for, takes the run lock, runs what must be, keeps the record."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rowmill import jobs
from rowmill import settings as project
from rowmill.data import sources
from rowmill.errors import BusyError, EndpointError
from rowmill.flow import notebook, runs, steps
from rowmill.flow.notebook import NotebookError
from rowmill.flow.steps import Step
from rowmill.flow.walk import Walk
from rowmill.run import Run
from rowmill.serving import local, release
from rowmill.settings import Settings

__all__ = ["NotebookError", "Order", "check", "hand_on", "run", "search", "step"]

SEARCH = "02_search"


@dataclass(frozen=True)
class Order:
    """What a run is asked for.

    Attributes:
        source: `digits` (or nothing), a folder of IDX files or of images, a text file, or BigQuery; see `sources.load`.
        parameters: More notebook parameters, as `name=value name=value`.
        steps: Names of steps with spaces between: these alone with what they need, optional ones, too; empty: all but the optional.
        again: Names of steps that run whether something changed or not.
        trigger: Who asks: `by hand`, or the schedule's reason.
        may_deploy: Whether steps that change what serves are among them.
    """

    source: str = ""
    parameters: str = ""
    steps: str = ""
    again: str = ""
    trigger: str = "by hand"
    may_deploy: bool = True


def run(settings: Settings, order: Order) -> dict[str, Any]:
    """Run the steps in which something changed; each executed copy and its result file stay under `.rowmill/runs/`.

    Args:
        settings: The project.
        order: What is asked for.

    Returns:
        What the notebooks handed on: service, dataset_version, model_id, outcome, sentence.

    Raises:
        PipelineError: `pipeline.yaml` declares what cannot be run, or there is no such step; nothing was run.
        ParameterError: A parameter is unknown or ill-typed; nothing was run.
        HeldError: Another run is going on.
        BusyError: Another program has the function's port.
        NotebookError: A notebook stopped. What does not depend on it was run.
    """
    plan = prepare(settings, order)
    with jobs.lock(settings.state, runs.LOCK, what="a run"):
        _wake(settings, plan.service)
        runs.recover(settings)
        waiting = [] if order.may_deploy else [step for step in plan.known.values() if step.deploys and not step.optional]
        begun = dataclasses.replace(runs.new(plan.service, order.trigger, plan.asked), states={step.name: "waiting" for step in waiting})
        return _go(settings, Walk(settings, begun, plan.chosen, plan.given), order.again.split())


@dataclass(frozen=True)
class Plan:
    """An order that was held against what is declared.

    Attributes:
        known: All steps.
        chosen: Those to go through, in order.
        given: Parameters, the source among them.
        service: Whose run it is.
        asked: What the record tells of the order.
    """

    known: Mapping[str, Step]
    chosen: list[Step]
    given: dict[str, Any]
    service: str
    asked: dict[str, Any]


def prepare(settings: Settings, order: Order) -> Plan:
    """Hold an order against what is declared; nothing is run.

    Raises:
        PipelineError: `pipeline.yaml` declares what cannot be run, or there is no such step.
        ParameterError: A parameter is unknown or ill-typed.
        SourceError: The source is missing.
    """
    known = steps.load(settings)
    steps.check_names(known, order.again.split())
    chosen = steps.choose(known, order.steps.split(), may_deploy=order.may_deploy)
    given = notebook.read_values(order.parameters, _open_to_users(settings, chosen))
    given |= _source(order, chosen)
    service = given.get("service") or settings.service_name or _service_of(given, chosen)
    asked = {**given, **{word: value for word, value in (("steps", order.steps), ("again", order.again)) if value}}
    return Plan(known, chosen, given, service, asked)


def skip(settings: Settings, order: Order, why: str) -> Run:
    """Put on record that a run was not begun."""
    skipped = runs.new(prepare(settings, order).service, order.trigger, {})
    return runs.end(settings, dataclasses.replace(skipped, outcome="skipped", reason=why))


def search(settings: Settings, parameters: str = "") -> dict[str, Any]:
    """Run the notebook of the search alone, on data that are there already; what it registers is not judged yet.

    Args:
        settings: The project.
        parameters: Of that notebook, as `name=value name=value`.

    Returns:
        What it handed on: service, model_id.

    Raises:
        ParameterError: A parameter is unknown or ill-typed; nothing was run.
        HeldError: Another run is going on.
        NotebookError: The notebook stopped.
    """
    given = notebook.read_values(parameters, _open_to_users(settings, [Step("search", SEARCH)]))
    with jobs.lock(settings.state, runs.LOCK, what="a run"):
        return step(settings, SEARCH, runs.folder_of(settings, runs.new("", "", {}).run_id), given)


def step(settings: Settings, name: str, folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Run one notebook, and return what it hands on; its executed copy and result go into the folder.

    Raises:
        NotebookError: A cell failed.
    """
    with notebook.Kernels(settings, folder) as kernels:
        return notebook.execute(kernels, name, folder / f"{name}.ipynb", values)


def check(name: str, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notebook's parameters with the values they have; for the cell after the parameters.

    papermill sets an unknown parameter with no more than a warning; here it stops the notebook.

    Args:
        name: The notebook's name, without its ending.
        names: The notebook's `globals()`.

    Raises:
        ParameterError: A parameter is unknown or ill-typed.
    """
    own = notebook.parameters(project.load(), name)
    notebook.check_values(name, {key: own.get(key) for key in notebook.injected(names.get("In", ()))}, own)
    given = {key: names[key] for key in own if key in names}
    notebook.check_values(name, given, own)
    return {key: value for key, value in given.items() if key != notebook.RESULT}


def hand_on(result: str, **values: Any) -> dict[str, Any]:
    """Write what the next notebook needs to the file `result` (nowhere when empty), and return it."""
    if result:
        Path(result).write_text(json.dumps(values), "utf-8")
    return values


def _go(settings: Settings, walk: Walk, again: list[str]) -> dict[str, Any]:
    """Go the way, whatever becomes of it put it on record, and return all that was handed on."""
    outcome, reason = "failed", ""
    try:
        walk.go(again)
        outcome = "failed" if walk.failure else "completed"
    except KeyboardInterrupt:
        outcome, reason = "broken off", "stopped by hand"
        raise
    except OSError as error:
        reason = f"{error.filename or 'the system'}: {error.strerror}"
        raise
    finally:
        runs.end(settings, dataclasses.replace(walk.run, outcome=outcome, reason=walk.run.reason or reason))
    if walk.failure:
        raise walk.failure
    return {name: value for result in walk.run.results.values() for name, value in result.items()}


def _open_to_users(settings: Settings, chosen: list[Step]) -> dict[str, Any]:
    """Return the parameters that can be given by name; examples are given as a source."""
    read = {name for each in chosen for name in each.reads}
    return {name: value for name, value in steps.parameters(settings, chosen).items() if name not in read and name != "source"}


def _source(order: Order, chosen: list[Step]) -> dict[str, str]:
    """Return the source as a parameter: the one that is asked for, or else that of `pipeline.yaml`."""
    declared = next((each.parameters["source"] for each in chosen if "source" in each.parameters), "")
    return {"source": sources.locate(order.source or declared)}


def _service_of(given: Mapping[str, Any], chosen: list[Step]) -> str:
    named = next((each.parameters["service"] for each in chosen if each.parameters.get("service")), "")
    return str(named or sources.service_name(given["source"]))


def _wake(settings: Settings, service: str) -> None:
    """Serve again what served on this machine; only a port that the run itself needs stops the run."""
    if settings.target_kind != "local":
        return
    for name in {*local.services(settings.state), service}:
        try:
            release.open_service(settings, name).target.traffic()
        except EndpointError:
            continue  # the verdict tells it, where it is this run's own service
        except BusyError:
            if name == service:
                raise
