"""A holdout's ledger: who looked, and what is left of the level."""

import dataclasses

import numpy as np
import pytest
from rowmill.data.dataset import Examples
from rowmill.data.sqlite import SqliteWarehouse
from rowmill.judging import ledger
from rowmill.records import ModelRecord
from rowmill.registry import Registry

HOLDOUT = Examples(["a", "b"], np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1), np.array([0, 1]))


def model(name: str) -> ModelRecord:
    """Return a model of this name."""
    return ModelRecord(f"{name}-t001", "digits", "v1", "0", "0", 1, (2, 2, 1), ("0", "1"), 0.5, {})


@pytest.fixture(name="registry")
def fixture_registry(tmp_path) -> Registry:
    """An empty registry."""
    return Registry(SqliteWarehouse(tmp_path / "w.sqlite"), tmp_path)


def test_all_looks_together_spend_no_more_than_the_level() -> None:
    levels = [ledger.level(look, 0.05) for look in range(1, 10_000)]
    assert levels[0] == pytest.approx(0.0303964, abs=1e-7) and levels == sorted(levels, reverse=True)
    assert 0.0499 < sum(levels) < 0.05


def test_each_pair_is_one_look(registry: Registry) -> None:
    looks = []
    for candidate, incumbent in [
        ("aaaaaaaa", ""),
        ("bbbbbbbb", "aaaaaaaa-t001"),
        ("bbbbbbbb", "aaaaaaaa-t001"),
        ("bbbbbbbb", "cccccccc-t001"),
    ]:
        use = ledger.entry(registry, model(candidate), incumbent, HOLDOUT, 0.05)
        ledger.write(registry, use)
        looks.append((use.look, use.level))
    assert looks == [(n, ledger.level(n, 0.05)) for n in (1, 2, 2, 3)]
    assert len(registry.holdout_uses("digits")) == 3 and registry.holdout_uses("mnist") == []


def test_what_is_not_written_is_no_look(registry: Registry) -> None:
    assert ledger.entry(registry, model("aaaaaaaa"), "", HOLDOUT, 0.05).look == 1
    assert ledger.entry(registry, model("bbbbbbbb"), "", HOLDOUT, 0.05).look == 1


def test_corrected_labels_make_no_fresh_holdout_and_other_rows_do(registry: Registry) -> None:
    ledger.write(registry, ledger.entry(registry, model("aaaaaaaa"), "", HOLDOUT, 0.05))
    corrected = dataclasses.replace(HOLDOUT, targets=HOLDOUT.targets[::-1])
    assert ledger.entry(registry, model("bbbbbbbb"), "", corrected, 0.05).look == 2
    for other in (dataclasses.replace(HOLDOUT, keys=["a", "c"]), dataclasses.replace(HOLDOUT, images=HOLDOUT.images + 1)):
        assert ledger.entry(registry, model("bbbbbbbb"), "", other, 0.05).look == 1


def test_a_worn_holdout_is_said(registry: Registry) -> None:
    said = []
    for number in range(9):
        use = ledger.entry(registry, model(f"aaaaaaa{number}"), "", HOLDOUT, 0.05)
        ledger.write(registry, use)
        said.append(ledger.note(use, 0.05))
    assert said[0] == "This holdout has been looked at for the first time: the level is 0.03 of 0.05 (alpha spending)."
    assert "looked at 6 times: the level is 0.00084" in said[5] and "worn" not in said[5]
    # z: 3.42 + 0.84 at the seventh look against 2.17 + 0.84 at the first: squared, twice the rows.
    assert "looked at 7 times" in said[6] and "It is worn: a verdict needs 2.0 times the rows" in said[6] and "Ingest fresh" in said[6]
