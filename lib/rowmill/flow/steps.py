"""The steps as `pipeline.yaml` declares them; what cannot be run is refused before anything is."""

import graphlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from rowmill.errors import PipelineError
from rowmill.flow import notebook
from rowmill.sections import Cloud, Gate, Monitor
from rowmill.settings import Settings

FILE = "pipeline.yaml"


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        notebook: Its notebook's name, without its ending.
        needs: Values of steps before it, as `step.value`.
        after: Steps that go first where they are in the same run, and that it needs nothing of.
        parameters: Of the notebook, where they differ from its own.
        makes: The names of the values that it hands on.
        files: Paths of files that it writes, from the project's folder.
        reads: Parameters that name examples elsewhere.
        packages: Those whose version matters.
        settings: What matters of `rowmill.toml`, as `section` or `section.setting`.
        optional: Whether it runs only when it is asked for, and then always.
        deploys: Whether it changes what serves.
    """

    name: str
    notebook: str
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    makes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    optional: bool = False
    deploys: bool = False

    @property
    def before(self) -> tuple[str, ...]:
        """The steps that it needs something of."""
        return tuple(dict.fromkeys(need.partition(".")[0] for need in self.needs))

    @property
    def earlier(self) -> tuple[str, ...]:
        """The steps that go before it where they are in the same run."""
        return tuple(dict.fromkeys((*self.before, *self.after)))


Steps = dict[str, Step]


def load(settings: Settings) -> Steps:
    """Read the steps, in an order in which they can run.

    Raises:
        PipelineError: The file or a step cannot be used: broken YAML, an unknown word, a cycle, a value that nobody makes.
        ParameterError: A notebook is missing, or has not a parameter, or not of this kind.
    """
    declared = section(settings, "steps")
    if not declared:
        raise PipelineError(f"{FILE} declares no steps", step="write some under steps:")
    known = {str(name): _step(str(name), entry) for name, entry in declared.items()}
    for step in known.values():
        _check_needs(step, known)
    ordered = {name: known[name] for name in _order(known)}
    for step in ordered.values():
        _check_notebook(settings, step)
    return ordered


def section(settings: Settings, name: str) -> Mapping[str, Any]:
    """Return one of the file's two sections, `steps` or `schedule`; empty where it is left out.

    Raises:
        PipelineError: The file is missing or no YAML of this form.
    """
    path = settings.root / FILE
    try:
        read = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise PipelineError(f"There is no {FILE} in {path.parent}", step="take it from the project's history") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{FILE} is no YAML: {_one_line(error)}", step="mend that line") from error
    unknown = [key for key in read if key not in ("steps", "schedule")] if isinstance(read, dict) else [type(read).__name__]
    if unknown:
        raise PipelineError(f"{FILE} must hold steps and schedule", found=repr(unknown[0]), step="mend it")
    found = read.get(name) or {}
    if not isinstance(found, dict):
        raise PipelineError(f"{name} of {FILE} must be names with what belongs to them", found=repr(found), step="mend it")
    return found


def choose(steps: Steps, wanted: Collection[str], *, may_deploy: bool = True) -> list[Step]:
    """Return the steps to go through, in order: all but the optional ones, or the wanted ones with what they need.

    Raises:
        PipelineError: There is no such step.
    """
    check_names(steps, wanted)
    chosen = set(wanted) or {name for name, step in steps.items() if not step.optional}
    for name in reversed(steps):
        if name in chosen:
            chosen |= set(steps[name].before)
    return [step for name, step in steps.items() if name in chosen and (may_deploy or not step.deploys)]


def check_names(steps: Steps, wanted: Iterable[str]) -> None:
    """Do nothing where there are steps of these names.

    Raises:
        PipelineError: There is none of one of them.
    """
    for name in wanted:
        if name not in steps:
            raise PipelineError(f"There is no step {name!r}", found=", ".join(steps), step=f"name one of {FILE}")


def parameters(settings: Settings, steps: Iterable[Step]) -> dict[str, Any]:
    """Return all parameters of the steps' notebooks that a user may give, with the notebooks' own values."""
    known: dict[str, Any] = {}
    for step in steps:
        known |= notebook.parameters(settings, step.notebook)
    return {name: value for name, value in known.items() if name != notebook.RESULT}


def setting(settings: Settings, step: Step, name: str) -> Any:
    """Return a section's values, or one of them.

    Raises:
        PipelineError: There is none of this name.
    """
    first, _, key = name.partition(".")
    whole = getattr(settings, first, None)
    flat = {other.removeprefix(f"{first}_"): value for other, value in vars(settings).items() if other.startswith(f"{first}_")}
    values: dict[str, Any] = asdict(whole) if isinstance(whole, Gate | Cloud | Monitor) else flat
    if not values or (key and key not in values):
        raise PipelineError(f"Step {step.name!r} of {FILE} names the setting {name!r}, which is none", step="name one of rowmill.toml")
    return values[key] if key else values


def _step(name: str, entry: Any) -> Step:
    words = {field.name: field for field in fields(Step) if field.name != "name"}
    if not isinstance(entry, dict) or not isinstance(entry.get("notebook"), str):
        raise PipelineError(f"Step {name!r} of {FILE} needs a notebook", found=repr(entry), step="give its name, as in notebook: 01_ingest")
    values: dict[str, Any] = {}
    for word, value in entry.items():
        if word not in words:
            raise PipelineError(f"Step {name!r} of {FILE} has the unknown word {word!r}", step=f"use some of {', '.join(words)}")
        values[word] = _checked(name, word, value, words[word].type)
    if "." in name or "/" in name:
        raise PipelineError(f"A step cannot be named {name!r}", step="give letters, digits, _ and -")
    return Step(name, **{**values, "notebook": Path(values["notebook"]).stem})


def _checked(name: str, word: str, value: Any, kind: Any) -> Any:
    """Return a word's value, a list as a tuple."""
    if kind == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            return tuple(value)
        told = "a list of texts, as in [a, b]"
    elif isinstance(value, kind if kind in (str, bool) else dict):
        return value
    else:
        told = {str: "a text", bool: "true or false"}.get(kind, "names with values")
    raise PipelineError(f"{word} of step {name!r} in {FILE} must be {told}", found=repr(value), step="mend it")


def _check_needs(step: Step, known: Steps) -> None:
    for need in (*step.needs, *step.after):
        maker, _, value = need.partition(".")
        if maker not in known:
            raise PipelineError(f"Step {step.name!r} needs {need}, but there is no step {maker!r}", step=f"use one of {', '.join(known)}")
        if value and value not in known[maker].makes:
            made = ", ".join(known[maker].makes) or "nothing"
            raise PipelineError(f"Step {step.name!r} needs {need}, which nobody makes", found=f"{maker} makes {made}", step=f"mend {FILE}")
        if need in step.needs and known[maker].optional and not step.optional:
            raise PipelineError(f"Step {step.name!r} needs {maker!r}, which is optional", step="make both optional, or neither")


def _order(known: Steps) -> tuple[str, ...]:
    try:
        return tuple(graphlib.TopologicalSorter({name: step.earlier for name, step in known.items()}).static_order())
    except graphlib.CycleError as error:
        raise PipelineError(f"The steps of {FILE} go in a circle: {' needs '.join(error.args[1][::-1])}", step="cut it") from error


def _check_notebook(settings: Settings, step: Step) -> None:
    own = notebook.parameters(settings, step.notebook)
    notebook.check_values(step.notebook, step.parameters, own)
    for name in step.settings:
        setting(settings, step, name)
    for name in step.reads:
        if name not in own:
            raise PipelineError(
                f"Step {step.name!r} reads {name!r}, which is no parameter of notebook {step.notebook}", step=f"mend {FILE}"
            )
    if step.makes and notebook.RESULT not in own:
        raise PipelineError(
            f"Step {step.name!r} makes {', '.join(step.makes)}, but notebook {step.notebook} has no parameter {notebook.RESULT}",
            step='add result = "" to its parameters, and pipeline.hand_on(result, ...) as its last cell',
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
