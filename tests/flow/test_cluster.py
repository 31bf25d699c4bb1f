"""The pipeline on Kubeflow Pipelines: what is compiled, and what kfp's own local runner makes of it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from rowmill import __main__, settings
from rowmill.errors import RowmillError
from rowmill.flow import cluster
from rowmill.settings import Settings

from tests.flow import mill as mills

IMAGE = f"example.org/rowmill-python@sha256:{'5' * 64}"  # kfp's local runner warns of images that are not called Python's
FILE = "out/pipeline.yaml"
RUN = """
import json, sys
from kfp import components, local
file, root, arguments = sys.argv[1:]
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=root)
task = components.load_component_from_file(file)(**json.loads(arguments))
made = {name: value for name, value in task.outputs.items()}
print("MADE " + json.dumps(made))
"""


@pytest.fixture(name="mill")
def fixture_mill(tmp_path: Path) -> Settings:
    return mills.make(tmp_path / "mill")


def compiled(made: Settings, *wanted: str) -> dict[str, Any]:
    """Export the steps, and return what kfp's loader takes, as it stands in the file."""
    from kfp import components  # pylint: disable=import-outside-toplevel  # two seconds

    path = cluster.export(made, IMAGE, wanted, made.root / FILE)
    components.load_component_from_file(str(path))
    return dict(yaml.safe_load(path.read_text()))


def tasks(whole: Mapping[str, Any]) -> dict[str, Any]:
    return dict(whole["root"]["dag"]["tasks"])


def depends(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return what each step depends on beside its parameters."""
    found = {name: task["inputs"]["parameters"]["depends_on"]["runtimeValue"]["constant"] for name, task in tasks(whole).items()}
    return dict(found)


def run(made: Settings, file: Path, **arguments: Any) -> "subprocess.CompletedProcess[str]":
    """Run an exported pipeline by kfp's local runner, every warning an error."""
    command = [sys.executable, "-W", "error", "-c", RUN, str(file), str(made.state / "kfp"), json.dumps(arguments)]
    variables = {"ROWMILL_STATE": str(made.state), "ROWMILL_TARGET_PORT": str(made.target_port)}
    return subprocess.run(command, cwd=made.root, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=280)


def made_by(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return dict(json.loads(done.stdout.rpartition("MADE ")[2]))


def test_each_step_is_a_component_that_takes_what_it_needs(mill: Settings) -> None:
    whole = compiled(mill)
    assert set(tasks(whole)) == {"grow", "press", "taste", "sell", "count"}
    assert len(whole["components"]) == len(whole["deploymentSpec"]["executors"]) == 5
    assert {executor["container"]["image"] for executor in whole["deploymentSpec"]["executors"].values()} == {IMAGE}
    press = tasks(whole)["press"]["inputs"]["parameters"]
    assert press["apples"]["taskOutputParameter"] == {"outputParameterKey": "apples", "producerTask": "grow"}
    assert press["force"] == {"componentInputParameter": "force"}
    given = whole["root"]["inputDefinitions"]["parameters"]
    assert given["force"] == {"defaultValue": 1.0, "isOptional": True, "parameterType": "NUMBER_DOUBLE"}
    assert set(given) == {"source", "trees", "service", "force", "fail", "sweet", "price"}  # what steps hand on is not asked for
    assert set(whole["root"]["dag"]["outputs"]["parameters"]) == {"service", "apples", "juice", "verdict", "sold", "counted"}


def test_optional_steps_come_when_they_are_asked_for(mill: Settings) -> None:
    assert set(tasks(compiled(mill, "taste"))) == {"grow", "press", "taste"}
    asked = tasks(compiled(mill, "report", "sell"))
    assert set(asked) == {"grow", "press", "taste", "sell", "count", "report"}
    assert asked["report"]["dependentTasks"] == ["count", "sell"]


def test_only_what_changed_has_other_inputs(mill: Settings) -> None:
    before = depends(compiled(mill))
    assert depends(compiled(mill)) == before
    mills.edit(mill, "press", "apples * force", "apples * force * 2")
    (mill.root / "rowmill.toml").write_text((mill.root / "rowmill.toml").read_text().replace("level = 0.05", "level = 0.01"))
    after = depends(compiled(settings.load(mill.root)))
    assert {name for name in before if after[name] != before[name]} == {"press", "taste"}
    assert after["taste"] == {**before["taste"], "setting gate.level": 0.01}


def test_what_reads_examples_is_never_cached(mill: Settings) -> None:
    cached = {name: task["cachingOptions"].get("enableCache", False) for name, task in tasks(compiled(mill, "report", "sell")).items()}
    assert cached == {"grow": False, "press": True, "taste": True, "sell": True, "count": True, "report": False}


def test_a_parameter_that_means_another_thing_elsewhere_has_a_name_of_its_own(mill: Settings) -> None:
    mills.edit(mill, "sell", "price = 1", "price = 1\\nforce = 2.5\\nsource = 'digits'")
    whole = compiled(mill)
    given = whole["root"]["inputDefinitions"]["parameters"]
    assert (given["force"]["defaultValue"], given["sell_force"]["defaultValue"], given["sell_source"]["defaultValue"]) == (
        1.0,
        2.5,
        "digits",
    )
    assert tasks(whole)["sell"]["inputs"]["parameters"]["force"] == {"componentInputParameter": "sell_force"}


@pytest.mark.parametrize(
    ("image", "wanted", "words"),
    [
        pytest.param(
            "", "", "Kubeflow needs a container image whose name stays with its content, for results are cached by it; found ''", id="none"
        ),
        pytest.param("example.org/rowmill", "", "found 'example.org/rowmill'; name one with its digest", id="untagged"),
        pytest.param("example.org:5000/rowmill", "", "found 'example.org:5000/rowmill'", id="port"),
        pytest.param("example.org/rowmill:latest", "", "found 'example.org/rowmill:latest'", id="latest"),
        pytest.param(IMAGE, "sel", "There is no step 'sel'; found grow, ", id="no-step"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(mill: Settings, image: str, wanted: str, words: str) -> None:
    path = mill.root / "pipeline.kfp.yaml"
    with pytest.raises(RowmillError) as caught:
        cluster.export(mill, image, wanted.split(), path)
    assert words in str(caught.value) and not path.exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        pytest.param("price = 1", "price = None", "Kubeflow passes no NoneType, but parameter price of notebook sell is one", id="type"),
        pytest.param("price = 1", "depends_on = 1", "Parameter depends_on of notebook sell is named as what", id="name"),
        pytest.param("price = 1", "verdict = 1", "", id="other-consumer"),
    ],
)
def test_what_kubeflow_cannot_pass_is_one_sentence(mill: Settings, old: str, new: str, words: str) -> None:
    mills.edit(mill, "sell", old, new)
    if words:
        with pytest.raises(RowmillError, match=words):
            compiled(mill)
    else:
        assert compiled(mill)["components"]["comp-taste"]["outputDefinitions"]["parameters"]["verdict"] == {
            "parameterType": "NUMBER_INTEGER"
        }


def test_a_value_that_two_steps_take_as_two_types_is_one_sentence(mill: Settings) -> None:
    mills.edit(mill, "count", "apples = 0", "apples = ''")
    with pytest.raises(RowmillError, match="grow.apples must be of one type for Kubeflow, but step '(press|count)' takes it as"):
        compiled(mill)


@pytest.mark.parametrize("name", ["7-up", "class", "süß"])
def test_any_name_of_a_step_is_shown_as_it_is(mill: Settings, name: str) -> None:
    mills.declare(mill, {"  count:": f"  {name}:", "count.counted": f"{name}.counted"})
    assert name in {task["taskInfo"]["name"] for task in tasks(compiled(mill)).values()}


def test_steps_with_one_name_are_one_sentence(mill: Settings) -> None:
    mills.declare(mill, {"  count:": "  se-ll: {notebook: count}\n  se_ll: {notebook: count}\n  count:"})
    with pytest.raises(RowmillError, match="Steps 'se-ll' and 'se_ll' have one name for Kubeflow; rename one of them"):
        compiled(mill)


def test_without_the_extra_the_command_says_what_to_install(
    mill: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "kfp.dsl", None)
    monkeypatch.setitem(sys.modules, "kfp.compiler", None)
    monkeypatch.chdir(mill.root)
    assert __main__.main(["export", "--image", IMAGE]) == 1
    told = capsys.readouterr().err
    assert told.startswith("rowmill: Kubeflow Pipelines need a package that is not here: kfp") and 'uv pip install -e ".[kfp]"' in told


def test_values_keep_their_types_on_their_way(mill: Settings) -> None:
    mills.edit(mill, "press", "fail = False", "fail = False\\nplan = {'steps': [1, 2], 'share': 0.5}")
    mills.edit(
        mill,
        "press",
        "assert not fail, 'the press broke'",
        "juice += 0.5\\nassert repr(plan['steps']) == '[1, 2]' and plan['share'] == 0.5",
    )
    compiled(mill)
    made = made_by(run(mill, mill.root / FILE, trees=3))
    assert made | {"service": ""} == {
        "service": "", "apples": 30, "juice": 30.5, "verdict": "better", "sold": "1", "counted": True,
    }  # fmt: skip
    assert sorted(mills.ran(mill)) == ["count", "grow", "press", "sell", "taste"]
    executed = list((mill.state / "kfp").glob("*/press/executed_notebook"))
    assert len(executed) == 1 and json.loads(executed[0].read_text())["cells"]


def test_an_image_with_another_notebook_and_a_failing_cell_are_told(mill: Settings) -> None:
    compiled(mill)
    failed = run(mill, mill.root / FILE, fail=True)
    assert failed.returncode and "Notebook press stopped in cell" in failed.stdout and "the press broke" in failed.stdout
    assert mills.ran(mill)[-1] == "press" and list((mill.state / "kfp").glob("*/press/executed_notebook"))
    mills.edit(mill, "grow", "10 * trees", "20 * trees")
    stale = run(mill, mill.root / FILE)
    assert stale.returncode and "rowmill: Notebook grow of this image is not the one that was exported" in stale.stdout
    assert mills.ran(mill) == []


def test_the_digits_go_the_whole_way(project: Settings) -> None:
    """The project's own notebooks, as a user runs an exported pipeline without a cluster."""
    path = cluster.export(project, IMAGE, ["validate"], project.state / "pipeline.yaml")
    made = made_by(run(project, path, network="mlp", trials=1, epochs=12, seed=11, check_up=False))
    assert made["service"] == "digits" and made["outcome"] in ("better", "worse", "cannot tell")
    assert made["model_id"] in made["sentence"] and (project.artefacts_root / made["model_id"]).is_dir()
