"""All notebooks, the registry and the dashboard's list with the warehouse on BigQuery."""

import json
from pathlib import Path

import pytest
from rowmill import settings
from rowmill.registry import connected
from rowmill.tables import EXAMPLES

from tests.emulator.process import Emulator
from tests.notebooks.conftest import Rowmill, facts

Clone = tuple[Path, dict[str, str]]
QUICK = "trials=1 epochs=12 minutes=2.0 seed=11 network=mlp space={}"


def test_a_run_with_the_warehouse_on_bigquery(emulator: Emulator, clone: Clone, rowmill: Rowmill, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {**emulator.environment, "ROWMILL_STATE": ".rowmill"}
    done = rowmill("run", "--parameters", QUICK, **variables)
    assert done.returncode == 0, done.stderr + done.stdout
    model = facts(done.stdout)["Model"]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    project = settings.load(clone[0])
    models = connected(project)
    assert [found.model_id for found in models.models("digits")] == [model] and models.last_deployed("digits") == model
    assert models.verdict(model, "digits").outcome == "better" and models.trials("digits")[0].state == "completed"
    assert len(models.warehouse.read(EXAMPLES, None, ("label",))) == 1797
    assert not (project.state / "warehouse.sqlite").exists()
    (run,) = (project.state / "runs").iterdir()
    assert json.loads((run / "03_validate.json").read_text())["outcome"] == "better"
