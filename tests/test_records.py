"""Records survive their table; a model id that does not round-trip is refused."""

import re

import pytest
from rowmill.data.sqlite import SqliteWarehouse
from rowmill.errors import ParameterError
from rowmill.records import Deployment, ModelId, ModelRecord, Report, Trial, Verdict, now
from rowmill.registry import Registry

RECORDS = [
    Trial("abcdefgh-t001", "digits", "v1", "completed", {"units": 3, "rate": 0.1}, 0.5, (0.25, 0.5), "", 7),
    Verdict("abcdefgh-t001", "", "digits", "better", 'it\'s "better"', rows=3, difference=0.5, low=-1.0, high=1.0, p_value=0.25),
    Verdict(
        "abcdefgh-t001",
        "b",
        "digits",
        "worse",
        "why",
        at=(moment := now()),
        report=Report("abcdefgh-t001", "b", "digits", "h", ({"name": "nll"},), ("n",), {"classes": [{"rows": 3}]}, moment),
    ),
    Deployment("abcdefgh-t001", "digits", "deploy", "local", "", "0" * 64, "serving", "why — not", "me", 0.5),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_come_back_equal(record: Trial | Verdict | Deployment, tmp_path) -> None:
    registry = Registry(SqliteWarehouse(tmp_path / "w.sqlite"), tmp_path)
    registry.add(record)
    read = {Trial: registry.trials, Verdict: registry.verdicts, Deployment: registry.deployments}[type(record)]
    (found,) = read("digits")
    assert repr(found) == repr(record)  # NaN is not equal to itself
    assert getattr(found, "report", None) == getattr(record, "report", None)


def test_model_ids_are_minted_and_parsed() -> None:
    names = {ModelId.mint_experiment() for _ in range(100)}
    assert len(names) == 100 and all(re.fullmatch(r"[a-z][a-z0-9]{7}", name) for name in names)
    assert str(ModelId.parse("abcdefgh-t012")) == "abcdefgh-t012"


@pytest.mark.parametrize("text", ["", "abcdefgh", "abcdefgh-t1", "Abcdefgh-t001", "abcdefgh-t001\n", "1bcdefgh-t001", "../etc-t001"])
def test_what_is_no_model_id_is_named(text: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(f"{text!r} is no model id")):
        ModelId.parse(text)


def test_shown_text_is_escaped() -> None:
    verdict = Verdict("a", "b", "<img src=x onerror=alert(1)>", "better", "<b>bold</b>")
    shown = verdict._repr_html_()  # pylint: disable=protected-access  # what a notebook calls
    assert "<img" not in shown and "<b>bold" not in shown and "&lt;b&gt;bold" in shown


def test_a_trial_is_shown_by_its_latest_row(tmp_path) -> None:
    registry = Registry(SqliteWarehouse(tmp_path / "w.sqlite"), tmp_path)
    for state in ("running", "completed"):
        registry.add(Trial("abcdefgh-t001", "digits", "v1", state, {}, 0.5))
    assert [trial.state for trial in registry.trials("digits")] == ["completed"]


def test_services_come_newest_first(tmp_path) -> None:
    registry = Registry(SqliteWarehouse(tmp_path / "w.sqlite"), tmp_path)
    for trial, service in enumerate(("digits", "mnist", "digits")):
        registry.add(ModelRecord(f"abcdefgh-t00{trial}", service, "v1", "0", "0", 1, (8, 8, 1), ("0", "1"), 0.5, {}))
    assert registry.services() == ["digits", "mnist"]
