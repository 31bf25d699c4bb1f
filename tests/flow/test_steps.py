"""What `pipeline.yaml` may declare, and what is refused before anything runs, each by one sentence."""

from pathlib import Path

import pytest
from rowmill import settings
from rowmill.errors import RowmillError
from rowmill.flow import steps
from rowmill.pipeline import Order, run

from tests.conftest import ROOT
from tests.flow import mill as mills


def test_the_projects_own_steps_are_the_four_notebooks_in_order() -> None:
    known = steps.load(settings.load(ROOT))
    usual = [step.notebook for step in steps.choose(known, ())]
    assert usual == ["01_ingest", "02_search", "03_validate", "04_release"]
    assert [name for name, step in known.items() if step.deploys] == ["release"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {"reads: [source]": "needs: [sell.sold]"}, "go in a circle: grow needs sell needs taste needs press needs grow", id="cycle"
        ),
        pytest.param({"notebook: taste": "notebook: tasty"}, "There is no notebook tasty; found count, grow,", id="no-notebook"),
        pytest.param({"notebook: taste": "parameters: {sweet: 7}"}, "Step 'taste' of pipeline.yaml needs a notebook", id="nameless"),
        pytest.param(
            {"settings: [gate.level]": "parameters: {swet: 7}"},
            "Notebook taste has no parameter 'swet'; use some of juice, sweet",
            id="unknown",
        ),
        pytest.param(
            {"settings: [gate.level]": "parameters: {sweet: much}"},
            "Parameter sweet must be of type int, such as 5; found 'much'",
            id="kind",
        ),
        pytest.param(
            {"needs: [press.juice]": "needs: [press.cider]"}, "needs press.cider, which nobody makes; found press makes juice", id="output"
        ),
        pytest.param({"needs: [press.juice]": "needs: [prss.juice]"}, "needs prss.juice, but there is no step 'prss'", id="no-step"),
        pytest.param(
            {"needs: [press.juice]": "needs: press.juice"}, "needs of step 'taste' in pipeline.yaml must be a list of texts", id="no-list"
        ),
        pytest.param({"deploys: true": "deploy: true"}, "Step 'sell' of pipeline.yaml has the unknown word 'deploy'", id="word"),
        pytest.param(
            {"deploys: true": "optional: 1"}, "optional of step 'sell' in pipeline.yaml must be true or false; found 1", id="truth"
        ),
        pytest.param({"needs: [taste.verdict]": "needs: [report.told]"}, "Step 'sell' needs 'report', which is optional", id="optional"),
        pytest.param(
            {"reads: [source]": "reads: [sauce]"}, "Step 'grow' reads 'sauce', which is no parameter of notebook grow", id="reads"
        ),
        pytest.param({"settings: [gate.level]": "settings: [gate.lvel]"}, "names the setting 'gate.lvel', which is none", id="setting"),
        pytest.param({"steps:": "stepz:"}, "pipeline.yaml must hold steps and schedule; found 'stepz'", id="section"),
        pytest.param({"steps:": "steps: ["}, "pipeline.yaml is no YAML: ", id="yaml"),
    ],
)
def test_what_cannot_be_run_is_one_sentence_and_nothing_runs(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    mill = mills.make(tmp_path / "mill")
    mills.declare(mill, changes)
    with pytest.raises(RowmillError) as caught:
        run(mill, Order())
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert mills.ran(mill) == [] and not (mill.state / "runs").exists()


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    mill = mills.make(tmp_path / "mill")
    (mill.root / "pipeline.yaml").unlink()
    with pytest.raises(RowmillError, match=r"There is no pipeline\.yaml in"):
        run(mill, Order())


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (Order(parameters="forze=2"), "No notebook has a parameter 'forze=2'; give name=value with some of trees, service, apples, force"),
        (Order(parameters="force=two"), "Parameter force must be of type float, such as 1.0; found 'two'"),
        (Order(parameters="wait=2.0"), "No notebook has a parameter 'wait=2.0'"),  # of an optional step, which is not asked for
        (Order(steps="tast"), "There is no step 'tast'; found grow, "),
        (Order(again="tast"), "There is no step 'tast'; found grow, "),
        (Order(source="/no/such"), "The source '/no/such' is not a folder"),
    ],
)
def test_what_is_asked_for_is_checked_first(tmp_path: Path, order: Order, words: str) -> None:
    mill = mills.make(tmp_path / "mill")
    with pytest.raises(RowmillError) as caught:
        run(mill, order)
    assert words in str(caught.value) and mills.ran(mill) == [] and not (mill.state / "runs").exists()


def test_steps_are_chosen_with_what_they_need(tmp_path: Path) -> None:
    known = steps.load(mills.make(tmp_path / "mill"))
    assert {step.name for step in steps.choose(known, ())} == {"grow", "press", "taste", "sell", "count"}
    assert [step.name for step in steps.choose(known, ["report"])] == ["grow", "count", "report"]
    assert list(known).index("sell") < list(known).index("report")
    assert "sell" not in {step.name for step in steps.choose(known, (), may_deploy=False)}
