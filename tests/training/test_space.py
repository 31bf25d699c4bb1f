"""A space that cannot be used is refused before anything runs, in a sentence that names the hyperparameter."""

import json
from pathlib import Path
from typing import Any

import pytest
from rowmill.errors import ParameterError
from rowmill.training import space

KNOWN = {"units": 32, "dropout": 0.2, "batch_size": 64, "optimizer": "adam", "batch_norm": True}
FULL = {
    "units": {"type": "int", "min": 8, "max": 64, "step": 8, "sampling": "linear", "default": 32},
    "dropout": {"type": "float", "min": 0, "max": 0.5, "step": 0.1, "sampling": "linear", "default": 0.2},
    "batch_size": {"type": "choice", "values": [32, 64], "default": 64},
}
YAML = """
units: {type: int, min: 8, max: 64, step: 8}
dropout:
  type: float
  min: 0
  max: 5e-1
  step: 1e-1
batch_size: {type: choice, values: [32, 64]}
"""
TABLE = """name,type,min,max,step,values
units,int,8,64,8,
dropout, float, 0, 0.5, 1e-1,

batch_size,choice,,,,32|64
"""
NNI = {
    "units": {"_type": "quniform", "_value": [8, 64, 8]},
    "dropout": {"_type": "quniform", "_value": [0, 0.5, 0.1]},
    "batch_size": {"_type": "choice", "_value": [32, 64]},
}


def test_what_is_left_out_is_filled_in() -> None:
    checked = space.read({"units": {"type": "int", "min": 8, "max": 64}, "batch_size": {"type": "choice", "values": [32, 64]}}, {})
    assert checked["units"] == {"type": "int", "min": 8, "max": 64, "default": 8, "sampling": "linear"}
    assert checked["batch_size"]["default"] == 32
    assert space.read({"on": {"type": "bool"}}, {})["on"] == {"type": "bool", "values": [False, True], "default": False}


def test_the_networks_own_value_is_the_default_where_the_range_holds_it() -> None:
    given = {
        "units": {"type": "int", "min": 8, "max": 16},
        "dropout": {"type": "float", "min": 0.1, "max": 0.5},
        "batch_norm": {"type": "bool"},
    }
    checked = space.read(given, KNOWN)
    assert [entry["default"] for entry in checked.values()] == [8, 0.2, True]


@pytest.mark.parametrize(
    ("name", "text"),
    [("s.yaml", YAML), ("s.yml", YAML), ("s.json", json.dumps(FULL)), ("s.json", json.dumps(NNI)), ("s.csv", TABLE), ("", TABLE)],
)
def test_every_form_is_the_same_space(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / (name or "unused")).write_text(text)
    assert space.read(str(tmp_path / name) if name else text, KNOWN) == FULL


def test_nnis_ends_are_kept() -> None:
    given = {
        "layers": {"_type": "randint", "_value": [1, 4]},
        "rate": {"_type": "loguniform", "_value": [0.001, 0.1]},
        "momentum": {"_type": "uniform", "_value": [0.5, 0.9]},
    }
    assert space.read(given, {}) == {
        "layers": {"type": "int", "min": 1, "max": 3, "sampling": "linear", "default": 1},
        "rate": {"type": "float", "min": 0.001, "max": 0.1, "sampling": "log", "default": 0.001},
        "momentum": {"type": "float", "min": 0.5, "max": 0.9, "sampling": "linear", "default": 0.5},
    }


@pytest.mark.parametrize(
    ("entry", "values"),
    [
        ({"type": "float", "min": 0, "max": 0.5, "step": 0.1}, [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"type": "int", "min": 8, "max": 64, "step": 2, "sampling": "log"}, [8, 16, 32, 64]),
        ({"type": "int", "min": 1, "max": 3}, [1, 2, 3]),
        ({"type": "float", "min": 0.1, "max": 0.9, "default": 0.3}, [0.1, 0.3, 0.9]),
        ({"type": "choice", "values": [3, 5.5]}, [3.0, 5.5]),
    ],
)
def test_values_of_a_range(entry: dict[str, Any], values: list[float]) -> None:
    found = space.values_of(space.read({"x": entry}, {})["x"])
    assert found == values and {type(value) for value in found} == {type(values[-1])}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        pytest.param({"unitz": {"type": "bool"}}, "names 'unitz', which .* not have; did you mean 'units'", id="unknown-name"),
        pytest.param({"colour": {"type": "bool"}}, "use some of units, dropout", id="unlike-any-name"),
        pytest.param({"": {"type": "bool"}}, "needs a name; found ''", id="no-name"),
        pytest.param({"units": 3}, "'units' must be a range such as .*; found 3", id="no-range"),
        pytest.param({"units": {"type": "text"}}, "'units' needs a type: int, float, choice or bool; found text", id="unknown-type"),
        pytest.param({"units": {"type": []}}, "'units' needs a type", id="type-of-no-kind"),
        pytest.param({"units": {"type": "int", "min": 9, "max": 3}}, "'units' needs min <= max, and 9 is above 3", id="min-above-max"),
        pytest.param({"dropout": {"type": "float", "min": -1e308, "max": 1e308, "step": 1}}, "max - min that is a finite", id="too-wide"),
        pytest.param({"units": {"type": "int", "min": 1, "max": 10, "step": 4}}, "'units' has a step that misses max", id="step-misses"),
        pytest.param({"dropout": {"type": "float", "min": 0, "max": 0.5, "step": 0.2}}, "misses max", id="float-step-misses"),
        pytest.param({"units": {"type": "int", "min": 8, "max": 48, "step": 2, "sampling": "log"}}, "misses max", id="log-step-misses"),
        pytest.param({"units": {"type": "int", "min": 8, "max": 8, "step": 1, "sampling": "log"}}, "step above 1", id="log-step-of-1"),
        pytest.param(
            {"units": {"type": "int", "min": 1, "max": 3, "default": 4}}, "default from 1 to 3; found default 4", id="default-outside"
        ),
        pytest.param(
            {"units": {"type": "int", "min": 1, "max": 9, "step": 2, "default": 4}}, "steps of 2 from 1 reach", id="default-off-step"
        ),
        pytest.param(
            {"units": {"type": "int", "min": 1, "max": 3.5}}, "'units' needs a max that is a whole number; found 3.5", id="float-in-int"
        ),
        pytest.param({"units": {"type": "int", "min": True, "max": 3}}, "min that is a whole number; found True", id="bool-in-int"),
        pytest.param({"dropout": {"type": "float", "min": 0, "max": "1"}}, "max that is a finite number; found 1", id="text-in-float"),
        pytest.param({"dropout": {"type": "float", "min": 0, "max": float("nan")}}, "finite number; found nan", id="nan"),
        pytest.param({"units": {"type": "int", "min": 1, "max": 3, "step": 0}}, "step above 0", id="no-step"),
        pytest.param({"units": {"type": "int", "min": 1}}, "'units' of type int needs max and min", id="key-missing"),
        pytest.param({"units": {"type": "int", "min": 1, "max": 2, "stepp": 1}}, "knows no 'stepp'", id="key-too-many"),
        pytest.param(
            {"dropout": {"type": "float", "min": 0, "max": 1, "sampling": "log"}}, "min > 0 for the sampling log", id="log-of-zero"
        ),
        pytest.param({"dropout": {"type": "float", "min": 0, "max": 1, "sampling": "cubic"}}, "linear or log; found cubic", id="sampling"),
        pytest.param(
            {"batch_size": {"type": "choice", "values": [1, 2], "default": 3}}, "one of its values .*; found 3", id="default-no-value"
        ),
        pytest.param({"batch_size": {"type": "choice", "values": [1, 2], "default": True}}, "found True", id="default-of-other-kind"),
        pytest.param({"batch_size": {"type": "choice", "values": []}}, "a list of one value or more", id="nothing-to-choose"),
        pytest.param({"batch_size": {"type": "choice", "values": [1, "2"]}}, "values of one kind", id="mixed-choice"),
        pytest.param({"batch_size": {"type": "choice", "values": [1, 1]}}, "each once", id="repeated-choice"),
        pytest.param({"batch_size": {"type": "choice", "values": [[1]]}}, "texts, finite numbers or truth values", id="nested-choice"),
        pytest.param(
            {"units": {"type": "choice", "values": ["a"]}}, "'units' is of another kind in this network, where it is 32", id="kind"
        ),
        pytest.param({"units": {"type": "float", "min": 1, "max": 2.5, "default": 1.5}}, "another kind", id="float-for-int"),
        pytest.param({"optimizer": {"type": "bool"}}, "another kind in this network, where it is 'adam'", id="bool-for-text"),
        pytest.param({"units": {"_type": "normal", "_value": [1, 2]}}, "'units' must be NNI's choice, uniform, .*normal", id="unread-nni"),
        pytest.param({"units": {"_type": "randint", "_value": [1, 2, 3]}}, "'units' must be NNI's", id="nni-of-three"),
        pytest.param({"units": {"_type": "randint", "_value": [1, "a"]}}, "'units' needs a max that is a whole", id="nni-text"),
        pytest.param({"units": {"_type": ["choice"], "_value": [1]}}, "'units' must be NNI's", id="nni-type-list"),
        pytest.param({"units": {"type": "int", "min": 1, "max": 10**400}}, "'units' needs a max that is a whole", id="beyond-floats"),
        pytest.param(["units"], "A space must be a mapping", id="a-list"),
        pytest.param("units,int,1,2\nunits", "starts with the columns name,type,min,max,step", id="table-without-header"),
        pytest.param("name,type,min,max\nunits,int,1,2,3", "Line 2 of the space has 5 cells for 4 columns", id="table-with-long-line"),
        pytest.param("name,type,min,max\nunits,int,1,2\nunits,int,1,3", "names 'units' twice", id="table-names-twice"),
        pytest.param("name,type,min,max\n,int,1,2", "needs a name", id="table-without-name"),
    ],
)
def test_a_wrong_space_is_named(entry: Any, words: str) -> None:
    with pytest.raises(ParameterError, match="(?s)" + words):
        space.read(entry, KNOWN)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("s.txt", b"", "ends with .yaml, .yml, .json, .csv; found '.*s.txt'"),
        ("s.json", b"{", "s.json is no JSON: "),
        ("s.json", b'{"units": 1, "units": 2}', "names 'units' twice"),
        ("s.yaml", b"units: [", "s.yaml is no YAML: "),
        ("s.yaml", b"units: 1\nunits: 2", "names 'units' twice"),
        ("s.yaml", b"", "must be a mapping such as .*; found None"),
        ("s.yaml", b"!!python/object/apply:os.getcwd []", "is no YAML: could not determine a constructor"),
        ("s.yaml", b"? [a, b]\n: 1", "needs a name; found \\['a', 'b'\\]"),
        ("s.yaml", b"units: {type: choice, values: [2024-13-45]}", "s.yaml is no YAML: month must be in 1..12"),
        ("s.json", b'{"units": ' + b"9" * 5000 + b"}", "s.json is no JSON: Exceeds the limit"),
        ("s.json", b"[" * 100_000, "s.json is no JSON: maximum recursion"),
        ("s.csv", b"\xff\xfe", "s.csv is no CSV: "),
        ("s.csv", b"", "found an empty table"),
    ],
)
def test_a_file_that_is_no_space_is_named(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ParameterError, match=words):
        space.read(tmp_path / name, KNOWN)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="none.yaml cannot be read: No such file or directory; give the path"):
        space.read(str(tmp_path / "none.yaml"), KNOWN)
