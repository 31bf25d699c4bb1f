"""Training cannot read the holdout: what it is given has none, and whatever it asks the warehouse, it never asks for one."""

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from rowmill.data import dataset
from rowmill.data.contract import TRAIN, VALIDATION
from rowmill.data.dataset import Dataset
from rowmill.data.warehouse import Warehouse
from rowmill.records import DatasetVersion
from rowmill.registry import Registry, connected
from rowmill.settings import Settings
from rowmill.tables import EXAMPLES, Table
from rowmill.training import artefact, checkup, networks, search, space
from rowmill.training.goal import Goal

from tests.conftest import ROOT, digits_store

ROOMS = sorted((ROOT / "lib" / "rowmill" / "training").glob("*.py"))


class Guarded:
    """A warehouse that gives no image whose split is not asked for, and none of the holdout."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse, self.cache = warehouse, warehouse.cache

    def append(self, table: Table, rows: pd.DataFrame) -> None:
        """Pass rows on."""
        self.warehouse.append(table, rows)

    def read(self, table: Table, where: Mapping[str, Any] | None = None, columns: Sequence[str] = ()) -> pd.DataFrame:
        """Pass a question on, unless it is for the holdout."""
        if table == EXAMPLES and (where or {}).get("split") not in (TRAIN, VALIDATION):
            raise PermissionError("this reads the holdout")
        return self.warehouse.read(table, where, columns)

    def scan(self, table: Table, where: Mapping[str, Sequence[str]] | None = None, columns: Sequence[str] = ()) -> pa.Table:
        """Pass a question on, unless it is for the holdout, too."""
        if table == EXAMPLES and not set((where or {}).get("split", ("any",))) <= {TRAIN, VALIDATION}:
            raise PermissionError("this reads the holdout")
        return self.warehouse.scan(table, where, columns)


def opened(project: Settings) -> tuple[Registry, DatasetVersion]:
    """Return a registry whose warehouse guards the holdout of the digits in it."""
    version = dataset.find(digits_store(project))
    models = connected(project)
    return Registry(Guarded(models.warehouse), models.artefacts), version


def test_a_search_from_check_up_to_export_reads_no_holdout(project: Settings) -> None:
    models, version = opened(project)
    data = dataset.load(models.warehouse, version)
    goal, mlp = Goal(1.0, trials=2, minutes=5, epochs=1), networks.find("mlp")
    ranges = space.read({"units": {"type": "int", "min": 8, "max": 9}}, mlp.defaults)
    assert checkup.before(mlp, ranges, data, goal).sentences
    candidate = search.run(data, models, search.Plan("mlp", ranges, goal, seed=1))
    assert artefact.export(candidate, data, models).model_id == candidate.trial.model_id


def test_the_guard_sees_who_reads_it(project: Settings) -> None:
    models, version = opened(project)
    for read in (dataset.load_holdout, dataset.rows_of):
        with pytest.raises(PermissionError):
            read(models.warehouse, version)


def test_what_training_is_given_has_no_holdout() -> None:
    assert {field.name for field in dataclasses.fields(Dataset)} == {"version", "train", "validation"}


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: path.stem)
def test_no_room_of_training_knows_of_a_way_to_it(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {getattr(node, attribute, "") for node in nodes for attribute in ("id", "attr", "name")}
    assert not names & {"load_holdout", "rows_of", "HOLDOUT", "EXAMPLES"}
