"""What each step did last and what it depended on: a step is still good where that is the same and what it made is there."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rowmill.data import dataset, sources
from rowmill.errors import NotFoundError, PipelineError
from rowmill.flow import notebook
from rowmill.flow.steps import Step, setting
from rowmill.registry import CARD_FILE, MODEL_FILE, Registry, connected
from rowmill.settings import Settings

CODE = "the notebook's code"  # the name of what always counts
Inputs = Mapping[str, Any]  # what a step depends on, in words, to its value


@dataclass(frozen=True)
class Stamp:
    """A step that came to its end.

    Attributes:
        inputs: What it depended on.
        result: What it handed on.
        run: The run that did it, and its executed copy lies in that run's folder.
        seconds: How long it took.
    """

    inputs: dict[str, Any]
    result: dict[str, Any]
    run: str
    seconds: float


class Stamps:
    """The stamps of one service on this machine, a file each, written when the step has ended and put in place as a whole."""

    def __init__(self, settings: Settings, service: str) -> None:
        self._settings = settings
        self._folder = settings.state / "steps" / service

    def read(self, step: Step) -> Stamp | None:
        """Return a step's stamp; None where it never came to its end, or was begun again."""
        try:
            return Stamp(**json.loads(self._path(step).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, step: Step, stamp: Stamp) -> None:
        """Keep a step's stamp."""
        path = self._path(step)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(_text(asdict(stamp)), "utf-8")
        new.replace(path)

    def forget(self, step: Step) -> None:
        """Remove a step's stamp, so that whatever happens now, it runs again."""
        self._path(step).unlink(missing_ok=True)

    def why(self, step: Step, inputs: Inputs) -> str:
        """Return why a step must run, in a few words; an empty text where what it did last is still good."""
        stamp = self.read(step)
        if stamp is None:
            return "it has not run yet, or not to its end"
        then, now = stamp.inputs, json.loads(_text(inputs))
        changed = [name for name in (*now, *(name for name in then if name not in now)) if now.get(name) != then.get(name)]
        if changed:
            return f"{', '.join(changed[:3])}{' and more' if len(changed) > 3 else ''} changed"
        return missing(self._settings, step, stamp.result)

    def _path(self, step: Step) -> Path:
        return self._folder / f"{step.name}.json"


def inputs_of(settings: Settings, step: Step, values: Mapping[str, Any], handed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a step depends on.

    Args:
        settings: The project.
        step: The step.
        values: All parameters of its notebook, as it would be run.
        handed: What it needs, as `step.value` to the value.

    Raises:
        SourceError: A source that it reads cannot be looked at.
    """
    counted = {name: value for name, value in values.items() if name != notebook.RESULT}
    told: dict[str, Any] = {CODE: notebook.code_hash(settings, step.notebook)}
    told |= {f"parameter {name}": value for name, value in counted.items()}
    told |= {name: value for name, value in handed.items() if name.partition(".")[2] not in counted}
    told |= {f"package {name}": _version(name) for name in step.packages}
    told |= {f"setting {name}": setting(settings, step, name) for name in step.settings}
    told |= {f"what {name} names": sources.mark(str(values[name]), settings) for name in step.reads}
    named = {name: value for name, value in told.items() if name.removeprefix("parameter ") not in step.reads}
    return told | {f"file {path}": _hash(settings.root / path) for path in sorted(set(_files(settings, named)))}


def check_made(settings: Settings, step: Step, result: Mapping[str, Any]) -> None:
    """Do nothing where a step made all that it declares.

    Raises:
        PipelineError: It did not hand on a value, or did not write a file.
    """
    gone = [name for name in step.makes if name not in result]
    if gone:
        raise PipelineError(
            f"Step {step.name!r} did not hand on {', '.join(gone)}",
            found=", ".join(result) or "nothing",
            step=f"mend the last cell of notebook {step.notebook}",
        )
    lost = next((name for name in step.files if not (settings.root / name).exists()), "")
    if lost:
        raise PipelineError(f"Step {step.name!r} did not write {lost}", step=f"mend notebook {step.notebook}")


def missing(settings: Settings, step: Step, result: Mapping[str, Any]) -> str:
    """Return what a step made and is not there any more, in a few words; an empty text where all is."""
    for name in step.files:
        if not (settings.root / name).exists():
            return f"file {name} is gone"
    service = result.get("service", "")
    try:
        if "dataset_version" in result:
            dataset.find(connected(settings).warehouse, service, result["dataset_version"])
        if "model_id" in result:
            return _missing_model(connected(settings), service, result["model_id"])
    except NotFoundError:
        return f"what it made is gone: {result.get('model_id') or result.get('dataset_version')}"
    return ""


def _missing_model(models: Registry, service: str, model_id: str) -> str:
    folder = models.artefacts / models.model(model_id, service).model_id
    gone = [name for name in (MODEL_FILE, CARD_FILE) if not (folder / name).is_file()]
    return f"{gone[0]} of model {model_id} is gone" if gone else ""


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, default=str)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _files(settings: Settings, told: Any) -> Iterator[str]:
    """Return the texts among values that are paths of files, without what stands behind a colon there."""
    if isinstance(told, str) and 0 < len(told) < 1000 and "\n" not in told:
        path = told.partition(".py:")[0] + (".py" if ".py:" in told else "")
        if _is_file(settings.root / path):
            yield path
    elif isinstance(told, Mapping):
        yield from _files_in(settings, told.values())


def _files_in(settings: Settings, values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        yield from _files(settings, value)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
