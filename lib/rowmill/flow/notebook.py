"""One notebook as a function: its parameters as they stand in it, values held against them, its run by papermill."""

import ast
import contextlib
import functools
import hashlib
import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rowmill.errors import ParameterError, RowmillError
from rowmill.settings import Settings

RESULT = "result"  # the parameter that names the file for what a notebook hands on
_PARAMETERS = "parameters"  # papermill's tag
_ERRORS = tuple(kind.__name__ for kind in RowmillError.__subclasses__())


class NotebookError(RowmillError):
    """A notebook stopped at a cell."""


def path_of(settings: Settings, name: str) -> Path:
    """Return where a notebook is, by its name without its ending."""
    return settings.root / "notebooks" / f"{name}.ipynb"


def parameters(settings: Settings, name: str) -> dict[str, Any]:
    """Return a notebook's parameters with their own values; papermill, which can tell them too, takes half a second to load.

    Raises:
        ParameterError: There is no such notebook, or its parameters are no plain values.
    """
    sources = [source for source, is_parameters in _code(settings, name) if is_parameters]
    try:
        nodes = [node for source in sources for node in ast.parse(source).body if isinstance(node, ast.Assign)]
        return {node.targets[0].id: ast.literal_eval(node.value) for node in nodes if isinstance(node.targets[0], ast.Name)}
    except (SyntaxError, ValueError) as error:
        raise ParameterError(f"The parameters of notebook {name} are no plain values: {error}", step="mend that cell") from error


def code_hash(settings: Settings, name: str) -> str:
    """Return the SHA-256 of a notebook's code but for its parameters, whose values count, not their words; prose may change, too."""
    sources = [source for source, is_parameters in _code(settings, name) if not is_parameters]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def read_values(text: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Read `name=value name=value`, each value of the kind that the parameter's own has.

    Args:
        text: What was written.
        known: Parameters with their own values.

    Raises:
        ParameterError: One is unknown or ill-typed, or the quotes are open.
    """
    given = {}
    for word in _words(text):
        key, separator, value = word.partition("=")
        if not separator or key not in known:
            raise ParameterError(f"No notebook has a parameter {word!r}", step=f"give name=value with some of {', '.join(known)}")
        given[key] = _value(key, value, known[key])
    return given


def check_values(name: str, values: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Do nothing where all values fit a notebook's parameters.

    Raises:
        ParameterError: One is unknown or ill-typed.
    """
    for key, value in values.items():
        if key not in known:
            raise ParameterError(f"Notebook {name} has no parameter {key!r}", step=f"use some of {', '.join(known)}")
        if not _fits(key, value, known[key]):
            raise _ill_typed(key, value, known[key])


def injected(cells: Iterable[str]) -> list[str]:
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


class Kernels:
    """The kernels of a run, each started before its notebook's turn comes: to start and to import takes seconds that another core has.

    Attributes:
        settings: The project.
        log: What they say on stderr, in the run's folder.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.log = settings, folder / "kernel.log"
        self._started: dict[str, Any] = {}

    def __enter__(self) -> "Kernels":
        self.log.parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._started):
            self.end(name)

    def start(self, name: str) -> Any:
        """Start the kernel of a notebook, with what that imports first, unless it is there; return it."""
        from rowmill.flow.kernel import Kernel  # pylint: disable=import-outside-toplevel  # half a second, when a notebook runs

        if name not in self._started:
            self._started[name] = Kernel()
            self._started[name].begin(_imports(self.settings, name), self.settings.root, self.log)
        return self._started[name]

    def end(self, name: str) -> None:
        """End a notebook's kernel."""
        self._started.pop(name).end()


def execute(kernels: Kernels, name: str, output: Path, values: Mapping[str, Any], following: str = "") -> dict[str, Any]:
    """Run a notebook, and return what it hands on.

    Args:
        kernels: Of the run.
        name: The notebook's name, without its ending.
        output: Where the executed copy goes; beside it, the result as JSON.
        values: Parameters; those that the notebook does not have are left out.
        following: The notebook that is likely to be next; its kernel is started meanwhile.

    Raises:
        NotebookError: A cell failed, or the kernel died.
    """
    settings, result = kernels.settings, output.with_suffix(".json")
    known = parameters(settings, name)
    chosen = {key: value for key, value in {**values, RESULT: str(result)}.items() if key in known}
    result.unlink(missing_ok=True)
    kernels.start(name)
    # Imported when used: it takes a second or two, which a run that has nothing to do need not wait for.
    import papermill  # pylint: disable=import-outside-toplevel
    from papermill.exceptions import PapermillExecutionError  # pylint: disable=import-outside-toplevel

    if following:
        kernels.start(following)
    run = functools.partial(papermill.execute_notebook, kernel_name="python3", progress_bar=False, stdout_file=sys.stdout)
    try:
        run(path_of(settings, name), output, chosen, cwd=settings.root, km=kernels.start(name))
    except PapermillExecutionError as error:
        cause = error.evalue if error.ename in _ERRORS else f"{error.ename}: {error.evalue}"
        stopped = f"Notebook {name} stopped in cell [{error.exec_count}]: {cause.strip().rstrip('.')}"
        raise NotebookError(stopped, step=f"the executed copy is {output}") from error
    except RuntimeError as error:
        raise NotebookError(f"Notebook {name}'s kernel died, perhaps for lack of memory", step=f"read {kernels.log}") from error
    finally:
        kernels.end(name)
    handed: dict[str, Any] = json.loads(result.read_text("utf-8")) if result.is_file() else {}
    return handed


def _imports(settings: Settings, name: str) -> str:
    """Return the imports of a notebook's first cell of code that has some, as one line."""
    for source, _ in _code(settings, name):
        with contextlib.suppress(SyntaxError):  # which the notebook's own run will tell
            nodes = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
            if nodes:
                return "; ".join(map(ast.unparse, nodes))
    return "pass"


def _code(settings: Settings, name: str) -> Sequence[tuple[str, bool]]:
    """Return the sources of a notebook's code cells, each with whether it holds the parameters."""
    path = path_of(settings, name)
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        return [("".join(cell["source"]), _PARAMETERS in cell["metadata"].get("tags", ())) for cell in code]
    except FileNotFoundError as error:
        there = ", ".join(sorted(other.stem for other in path.parent.glob("*.ipynb")))
        raise ParameterError(f"There is no notebook {name}", found=there or "none", step=f"give one of {path.parent}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ParameterError(f"{path} is no notebook", step="mend it, or take it from the project's history") from error


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ParameterError(f"The parameters {text!r} cannot be read: {error}", step="close the quotes") from error


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
