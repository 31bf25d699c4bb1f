"""The notebooks in order: checks their parameters, takes the run lock, passes ids on by a result file."""

import ast
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import papermill
from papermill.exceptions import PapermillExecutionError

from rowmill import jobs
from rowmill import settings as project
from rowmill.data import sources
from rowmill.errors import BusyError, EndpointError, ParameterError, RowmillError
from rowmill.records import now
from rowmill.serving import local, release
from rowmill.settings import Settings

SEARCH = "02_search"
NOTEBOOKS = ("01_ingest", SEARCH, "03_validate", "04_release")
_OWN = ("result", "source")
_ERRORS = tuple(kind.__name__ for kind in RowmillError.__subclasses__())


class NotebookError(RowmillError):
    """A notebook stopped at a cell."""


def run(settings: Settings, source: str = "", parameters: str = "") -> dict[str, Any]:
    """Run all notebooks; each executed copy and its result file stay under `.rowmill/runs/`.

    Args:
        settings: The project.
        source: `digits` (or nothing), a folder of IDX files or of images, a text file, or BigQuery; see `sources.load`.
        parameters: More notebook parameters, as `name=value name=value`.

    Returns:
        What the notebooks handed on: service, dataset_version, model_id, outcome, sentence.

    Raises:
        ParameterError: A parameter is unknown or ill-typed; nothing was run.
        BusyError: Another run is going on, or another program has the function's port.
        NotebookError: A notebook stopped.
    """
    handed: dict[str, Any] = {"source": sources.locate(source)}
    given = _parse(settings, parameters)
    with jobs.lock(settings.state, "run", what="a run"):
        service = given.get("service") or settings.service_name or sources.service_name(handed["source"])
        _wake(settings, service)
        folder = _new_folder(settings)
        for number, name in enumerate(NOTEBOOKS, 1):
            print(f"[{number}/{len(NOTEBOOKS)}] {name}", flush=True)
            handed |= step(settings, name, folder, {**handed, **given})
    return handed


def search(settings: Settings, parameters: str = "") -> dict[str, Any]:
    """Run the notebook of the search alone, on data that are there already; what it registers is not judged yet.

    Args:
        settings: The project.
        parameters: Of that notebook, as `name=value name=value`.

    Returns:
        What it handed on: service, model_id.

    Raises:
        ParameterError: A parameter is unknown or ill-typed; nothing was run.
        BusyError: Another run is going on.
        NotebookError: The notebook stopped.
    """
    given = _parse(settings, parameters, (SEARCH,))
    with jobs.lock(settings.state, "run", what="a run"):
        return step(settings, SEARCH, _new_folder(settings), given)


def step(settings: Settings, name: str, folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Run one notebook, and return what it hands on.

    Args:
        settings: The project.
        name: The notebook's name, without its ending.
        folder: Where the executed copy and the result file go.
        values: Parameters; those that the notebook does not have are left out.

    Raises:
        NotebookError: A cell failed.
    """
    output, result = folder / f"{name}.ipynb", folder / f"{name}.json"
    known = _defaults(settings, name)
    chosen = {key: value for key, value in {**values, "result": str(result)}.items() if key in known}
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _stderr_to(folder / "kernel.log"):
            papermill.execute_notebook(
                _path(settings, name), output, chosen, kernel_name="python3", progress_bar=False, cwd=settings.root, stdout_file=sys.stdout
            )
    except PapermillExecutionError as error:
        cause = error.evalue if error.ename in _ERRORS else f"{error.ename}: {error.evalue}"
        raise NotebookError(f"Notebook {name} stopped: {cause.strip().rstrip('.')}", step=f"the executed copy is {output}") from error
    except RuntimeError as error:
        raise NotebookError(f"Notebook {name}'s kernel died, perhaps for lack of memory", step=f"read {folder / 'kernel.log'}") from error
    handed: dict[str, Any] = json.loads(result.read_text("utf-8"))
    return handed


def check(name: str, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notebook's parameters with the values they have; for the cell after the parameters.

    papermill sets an unknown parameter with no more than a warning; here it stops the notebook.

    Args:
        name: The notebook's name, without its ending.
        names: The notebook's `globals()`.

    Raises:
        ParameterError: A parameter is unknown or ill-typed.
    """
    defaults = _defaults(project.load(), name)
    for key in _injected(names.get("In", ())):
        if key not in defaults:
            raise ParameterError(f"Notebook {name} has no parameter {key!r}", step=f"use some of {', '.join(defaults)}")
    given = {key: names[key] for key in defaults if key in names}
    for key, value in given.items():
        if not _fits(key, value, defaults[key]):
            raise _ill_typed(key, value, defaults[key])
    return {key: value for key, value in given.items() if key != "result"}


def _injected(cells: Iterable[str]) -> list[str]:
    """Return the names that papermill set, from the sources of the cells that were run."""
    trees = [ast.parse(source) for source in cells if source.startswith("# Parameters\n")]
    return [
        target.id
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]


def hand_on(result: str, **values: Any) -> dict[str, Any]:
    """Write what the next notebook needs to the file `result` (nowhere when empty), and return it."""
    if result:
        Path(result).write_text(json.dumps(values), "utf-8")
    return values


def _new_folder(settings: Settings) -> Path:
    return settings.state / "runs" / f"{now():%Y%m%dT%H%M%S%f}"


def _parse(settings: Settings, parameters: str, notebooks: Sequence[str] = NOTEBOOKS) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for name in notebooks:
        known |= {key: value for key, value in _defaults(settings, name).items() if key not in _OWN}
    given = {}
    for word in _words(parameters):
        key, separator, text = word.partition("=")
        if not separator or key not in known:
            raise ParameterError(f"No notebook has a parameter {word!r}", step=f"give name=value with some of {', '.join(known)}")
        given[key] = _value(key, text, known[key])
    return given


def _words(parameters: str) -> list[str]:
    try:
        return shlex.split(parameters)
    except ValueError as error:
        raise ParameterError(f"The parameters {parameters!r} cannot be read: {error}", step="close the quotes") from error


def _value(key: str, text: str, default: Any) -> Any:
    value: Any = text
    if not isinstance(default, str):
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(text)
    if not _fits(key, value, default):
        raise _ill_typed(key, value, default)
    return value


def _fits(key: str, value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if key == "space" and isinstance(value, str):
        return True  # the path of a file that holds it, or its text; who reads it checks it
    return isinstance(value, (int, float) if isinstance(default, float) else type(default))


def _ill_typed(key: str, value: Any, default: Any) -> ParameterError:
    return ParameterError(
        f"Parameter {key} must be of type {type(default).__name__}, such as {default!r}", found=repr(value), step="give such a value"
    )


def _defaults(settings: Settings, name: str) -> dict[str, Any]:
    inspected = papermill.inspect_notebook(str(_path(settings, name)))
    return {key: ast.literal_eval(entry["default"]) for key, entry in inspected.items()}


def _path(settings: Settings, name: str) -> Path:
    return settings.root / "notebooks" / f"{name}.ipynb"


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


@contextlib.contextmanager
def _stderr_to(log: Path) -> Iterator[None]:
    """Send what this process and the kernel it starts say on stderr to the log: TensorFlow greets with a page there."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
