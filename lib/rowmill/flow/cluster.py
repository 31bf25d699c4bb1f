"""The steps as a pipeline of Kubeflow Pipelines 2: a component each, which runs its notebook in a container that holds the project."""

import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import json
import keyword
import re
import shutil
import tempfile
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rowmill import jobs
from rowmill import settings as project
from rowmill.errors import PipelineError, RowmillError
from rowmill.flow import notebook, runs, stamps, steps
from rowmill.flow.steps import Step
from rowmill.settings import Settings

_DEPENDS, _EXECUTED = "depends_on", "executed_notebook"  # what a component has beside its notebook's parameters
_KINDS = (str, int, float, bool, list, dict)
# What may change without its name would be cached for ever: a digest, or a tag that is not `latest`.
_PINNED = re.compile(r"[^\s@]+(@sha256:[0-9a-f]{64}|:(?!latest$)[\w.-]+)")
# kfp takes a component's inputs from a function's signature, and its code from the file that holds it.
_COMPONENT = """
@dsl.component(base_image={image!r}, install_kfp_package=False)
def {word}({inputs}){outputs}:
    given = dict(locals())
    from rowmill.flow import cluster

    return cluster.perform({name!r}, given)
"""


@dataclass(frozen=True)
class Part:
    """A step as a component.

    Attributes:
        step: The step.
        own: Its notebook's parameters with the values that they have when nothing is given.
        needed: Of its inputs, those that steps before it hand on, to `step.value`.
        made: What it hands on, to its type's name.
    """

    step: Step
    own: dict[str, Any]
    needed: dict[str, str]
    made: dict[str, str]

    @property
    def word(self) -> str:
        """The step's name as one that Python takes."""
        word = re.sub(r"\W", "_", self.step.name)
        return word if word.isidentifier() and not keyword.iskeyword(word) else f"step_{word}"


def export(settings: Settings, image: str, wanted: Sequence[str], path: Path) -> Path:
    """Write the steps as a compiled pipeline.

    Args:
        settings: The project.
        image: The container image that holds the project, set up, as the folder in which it starts.
        wanted: Names of steps: these with what they need; none: all but the optional ones.
        path: The YAML file.

    Returns:
        The path.

    Raises:
        PipelineError: `pipeline.yaml` declares what cannot be run, there is no such step, the image may change without its name,
            or the extra `kfp` is not installed.
        ParameterError: A notebook is missing, or has not a parameter, or not of this kind.
    """
    if not _PINNED.fullmatch(image):
        raise PipelineError(
            "Kubeflow needs a container image whose name stays with its content, for results are cached by it",
            found=repr(image),
            step="name one with its digest, or with a tag that is not `latest`, such as example.org/rowmill:2026-05-04",
        )
    known = steps.load(settings)
    chosen = {step.name for step in steps.choose(known, wanted)}
    chained = [part for part in parts(settings, known) if part.step.name in chosen]
    path.parent.mkdir(parents=True, exist_ok=True)
    _kfp("kfp.compiler").Compiler().compile(_pipeline(settings, image, chained), str(path))
    return path


def perform(name: str, given: dict[str, Any]) -> tuple[Any, ...]:
    """Run one step in its container; what a component calls.

    Args:
        name: The step's.
        given: The component's inputs: the notebook's parameters, what the step depends on, and where the executed notebook goes.

    Returns:
        What the step hands on, in the order in which `pipeline.yaml` names it.

    Raises:
        SystemExit: It failed; the reason is one sentence.
    """
    try:
        return _perform(project.load(), name, given)
    except RowmillError as error:
        raise SystemExit(f"rowmill: {error}") from error


def parts(settings: Settings, known: Mapping[str, Step]) -> list[Part]:
    """Return all steps as components, in order.

    Raises:
        PipelineError: A parameter is of a type that Kubeflow does not pass on.
    """
    owns = {step.name: {**notebook.parameters(settings, step.notebook), **step.parameters} for step in known.values()}
    needs = {step.name: {need.partition(".")[2]: need for need in step.needs if "." in need} for step in known.values()}
    taken: dict[str, str] = {}  # who takes a value knows its type
    for name, own in owns.items():
        own.pop(notebook.RESULT, None)
        kinds = {parameter: _kind(known[name], parameter, value) for parameter, value in own.items()}
        for need, kind in ((need, kinds[value]) for value, need in needs[name].items() if value in kinds):
            if taken.setdefault(need, kind) != kind:
                raise PipelineError(
                    f"{need} must be of one type for Kubeflow, but step {name!r} takes it as {kind}",
                    found=f"{taken[need]} elsewhere",
                    step="give both parameters one type",
                )
    return [
        Part(step, owns[name], needs[name], {value: taken.get(f"{name}.{value}", "str") for value in step.makes})
        for name, step in known.items()
    ]


def _perform(settings: Settings, name: str, given: dict[str, Any]) -> tuple[Any, ...]:
    known = steps.load(settings)
    steps.check_names(known, [name])
    part = next(part for part in parts(settings, known) if part.step.name == name)
    step, executed = part.step, Path(given.pop(_EXECUTED).path)
    if given.pop(_DEPENDS)[stamps.CODE] != notebook.code_hash(settings, step.notebook):
        raise PipelineError(
            f"Notebook {step.notebook} of this image is not the one that was exported",
            step="build the image anew, and export again with its new name",
        )
    nested = {name: _whole(value) for name, value in given.items() if isinstance(value, dict | list)}
    output = runs.folder_of(settings, runs.new("", "", {}).run_id) / f"{step.notebook}.ipynb"
    with jobs.lock(settings.state, runs.LOCK, what="a run"), notebook.Kernels(settings, output.parent) as kernels:
        try:
            result = notebook.execute(kernels, step.notebook, output, given | nested)
        finally:
            executed.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # its kernel may have died before the first cell
                shutil.copyfile(output, executed)
    stamps.check_made(settings, step, result)
    return tuple(_told(value, result[value], kind) for value, kind in part.made.items())


def _whole(value: Any) -> Any:
    """Return what a list or dict holds with whole numbers as `int`: protobuf, which carries these, knows none."""
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _told(name: str, value: Any, kind: str) -> Any:
    """Return a value as its type; as JSON where nobody but a reader takes it."""
    if kind == "str" and not isinstance(value, str):
        return json.dumps(value)
    if not isinstance(value, (int, float) if kind == "float" else _class(kind)):
        raise PipelineError(f"{name} must be of type {kind}, as the next step takes it", found=repr(value), step="mend either notebook")
    return value


def _kind(step: Step, name: str, value: Any) -> str:
    if name in (_DEPENDS, _EXECUTED):
        raise PipelineError(
            f"Parameter {name} of notebook {step.notebook} is named as what Kubeflow's component has besides", step="rename it"
        )
    if type(value) not in _KINDS:
        raise PipelineError(
            f"Kubeflow passes no {type(value).__name__}, but parameter {name} of notebook {step.notebook} is one",
            found=repr(value),
            step=f"make it one of {', '.join(kind.__name__ for kind in _KINDS)}",
        )
    return type(value).__name__


def _pipeline(settings: Settings, image: str, chained: Sequence[Part]) -> Any:
    """Return the steps as kfp's pipeline: its parameters are the notebooks', its outputs what was handed on last."""
    dsl, components = _kfp("kfp.dsl"), _components(image, chained)
    public = _public(chained)
    defaults = {public[part.step.name, name]: value for part in chained for name, value in part.own.items() if name not in part.needed}
    made = {value: kind for part in chained for value, kind in part.made.items()}
    outputs: Any = typing.NamedTuple("Made", [(value, _class(kind)) for value, kind in made.items()])  # type: ignore[misc]

    def whole(*channels: Any) -> Any:
        given = dict(zip(defaults, channels, strict=True))
        tasks: dict[str, Any] = {}
        for part in chained:
            inputs = {name: given[public[part.step.name, name]] for name in part.own if name not in part.needed}
            inputs |= {name: _output(tasks, need) for name, need in part.needed.items()}
            inputs[_DEPENDS] = _depends(settings, part.step)
            task = getattr(components, part.word)(**inputs).set_display_name(part.step.name)
            # What a source names may have changed, and an optional step was asked for.
            task.set_caching_options(not (part.step.reads or part.step.optional))
            tasks[part.step.name] = task.after(*(tasks[name] for name in part.step.earlier if name in tasks))
        last = {value: f"{part.step.name}.{value}" for part in chained for value in part.made}
        return outputs(**{value: _output(tasks, place) for value, place in last.items()})

    keyed = inspect.Parameter.POSITIONAL_OR_KEYWORD
    given = [inspect.Parameter(name, keyed, default=value, annotation=type(value)) for name, value in defaults.items()]
    whole.__signature__ = inspect.Signature(given, return_annotation=outputs)  # type: ignore[attr-defined]
    return dsl.pipeline(name=settings.service_name or "rowmill")(whole)


def _output(tasks: Mapping[str, Any], place: str) -> Any:
    step, _, value = place.partition(".")
    return tasks[step].outputs[value]


def _public(chained: Sequence[Part]) -> dict[tuple[str, str], str]:
    """Return the pipeline's name of each step's parameter: its own, or with the step's before it where it means another thing there."""
    read = {name for part in chained for name in part.step.reads}
    first: dict[str, str] = {}
    names = {}
    for part in chained:
        for name, value in part.own.items():
            if name not in part.needed:
                alone = name in read and name not in part.step.reads  # a batch's rows are no examples
                same = not alone and first.setdefault(name, repr(value)) == repr(value)
                names[part.step.name, name] = name if same else f"{part.word}_{name}"
    return names


def _depends(settings: Settings, step: Step) -> dict[str, Any]:
    """Return what a step depends on beside its parameters: its code, versions of packages, settings, files that these name."""
    told = stamps.inputs_of(settings, dataclasses.replace(step, reads=()), {}, {})
    return dict(json.loads(json.dumps(told, default=str)))


def _components(image: str, chained: Sequence[Part]) -> Any:
    """Return a module with the components by their words."""
    kinds = {f"{part.step.name}.{value}": kind for part in chained for value, kind in part.made.items()}
    text = "from typing import NamedTuple\n\nfrom kfp import dsl\n"
    for part in chained:
        inputs = {name: type(value).__name__ for name, value in part.own.items()}
        inputs |= {name: kinds[need] for name, need in part.needed.items()}
        inputs |= {_DEPENDS: "dict", _EXECUTED: "dsl.Output[dsl.Artifact]"}
        fields = ", ".join(f"({value!r}, {kind})" for value, kind in part.made.items())
        told = {
            "image": image,
            "word": part.word,
            "name": part.step.name,
            "outputs": f' -> NamedTuple("Made", [{fields}])' if fields else "",
        }
        twin = next((other for other in chained if other.word == part.word), part)
        if twin is not part:
            raise PipelineError(f"Steps {twin.step.name!r} and {part.step.name!r} have one name for Kubeflow", step="rename one of them")
        text += "\n" + _COMPONENT.format(inputs=", ".join(f"{name}: {kind}" for name, kind in inputs.items()), **told)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "components.py"
        path.write_text(text, "utf-8")
        spec = importlib.util.spec_from_file_location("components", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def _class(kind: str) -> type:
    return next(known for known in _KINDS if known.__name__ == kind)


def _kfp(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PipelineError(
            f"Kubeflow Pipelines need a package that is not here: {error.name}", step='run `uv pip install -e ".[kfp]"`'
        ) from error
