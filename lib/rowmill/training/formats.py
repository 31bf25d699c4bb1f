"""Search spaces in other forms: YAML, JSON and CSV files, NNI's search space, tables; each becomes the form that `space` checks."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from rowmill.errors import ParameterError

FORM = "{name: {type: int|float|choice|bool, min, max, step, sampling, values, default}}"
_COLUMNS = ("name", "type", "min", "max", "step", "default", "sampling", "values")
_NNI = ("choice", "uniform", "loguniform", "quniform", "randint")


def load(given: Any) -> Mapping[str, Any]:
    """Return a space as a mapping in the project's own form, its entries not yet checked.

    Args:
        given: A mapping in that form or in NNI's (https://nni.readthedocs.io, "Search Space"); a path to a .yaml, .yml, .json or
            .csv file that holds one; or, with a line break in it, a table as text: `name,type,min,max,step` and, where needed,
            `default`, `sampling` and `values` (with `|` between).

    Raises:
        ParameterError: There is no such file, or it cannot be read as a space.
    """
    if isinstance(given, str) and "\n" in given.strip():
        given = _table(given)
    elif isinstance(given, str | Path):
        given = _file(Path(given))
    if not isinstance(given, Mapping):
        raise ParameterError(f"A space must be a mapping such as {FORM}", found=repr(given)[:80], step="mend the space")
    return {name: _from_nni(str(name), entry) if _is_nni(entry) else entry for name, entry in given.items()}


def _file(path: Path) -> Any:
    readers: dict[str, Callable[[str], Any]] = {".yaml": _yaml, ".yml": _yaml, ".json": _json, ".csv": _table}
    if path.suffix.lower() not in readers:
        raise ParameterError(
            f"A space's file ends with {', '.join(readers)}", found=repr(str(path)), step="give such a path, or the space itself"
        )
    try:
        return readers[path.suffix.lower()](path.read_text("utf-8-sig"))
    except OSError as error:
        raise ParameterError(f"The space {path} cannot be read: {error.strerror}", step="give the path of a file that is there") from error
    # Dates and numbers that cannot be are a ValueError; so are JSON's and Unicode's own.
    except (yaml.YAMLError, csv.Error, ValueError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise ParameterError(f"The space {path} is no {path.suffix[1:].upper()}: {told}", step="mend the file") from error


class _Yaml(yaml.SafeLoader):  # type: ignore[misc]  # pylint: disable=too-many-ancestors
    """YAML that reads 1e-4 as a number, which YAML 1.1 does not, and lets no key stand twice."""


def _mapping_of(loader: _Yaml, node: yaml.MappingNode) -> dict[Any, Any]:
    return _once([(loader.construct_object(key, deep=True), loader.construct_object(value, deep=True)) for key, value in node.value])


_Yaml.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_of)
_Yaml.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+.0123456789"))


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Yaml)  # a SafeLoader


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return pairs as a mapping; plain readers would silently keep the last of two equal names."""
    names = [name for name, _ in pairs]
    for name in names:
        if isinstance(name, list | dict):
            raise ParameterError("A hyperparameter needs a name", found=repr(name), step="name it")
        if names.count(name) > 1:
            raise ParameterError(f"The space names {name!r} twice", step="keep one of them")
    return dict(pairs)


def _table(text: str) -> dict[str, Any]:
    rows = list(csv.reader(io.StringIO(text.strip()), skipinitialspace=True))
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    unknown = sorted(set(header) - set(_COLUMNS))
    if "name" not in header or "type" not in header or unknown or len(set(header)) < len(header):
        raise ParameterError(
            f"A table of a space starts with the columns name,type,min,max,step and may have {', '.join(_COLUMNS[5:])}",
            found=",".join(header) or "an empty table",
            step="mend the first line",
        )
    entries = []
    for number, row in enumerate(rows[1:], 2):
        if len(row) > len(header):
            raise ParameterError(f"Line {number} of the space has {len(row)} cells for {len(header)} columns", step="mend that line")
        cells = {column: cell.strip() for column, cell in zip(header, row, strict=False) if cell.strip()}
        if cells:
            entries.append((cells.pop("name", ""), {column: _cell(column, cell) for column, cell in cells.items()}))
    return _once(entries)


def _cell(column: str, cell: str) -> Any:
    match column:
        case "type" | "sampling":
            return cell
        case "values":
            return [_scalar(value.strip()) for value in cell.split("|")]
        case _:
            return _scalar(cell)


def _scalar(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _is_nni(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "_type" in entry


def _from_nni(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return NNI's entry in the project's form; its `randint` leaves out the upper end, and `quniform` steps by its third number."""
    kind, values = entry["_type"], entry.get("_value")
    wanted = {"choice": None, "quniform": 3}.get(str(kind), 2)
    if kind not in _NNI or set(entry) != {"_type", "_value"} or not isinstance(values, list) or (wanted and len(values) != wanted):
        raise ParameterError(
            f"{name!r} must be NNI's {', '.join(_NNI)}, with `_type` and `_value` as NNI has them",
            found=str(dict(entry)),
            step="mend the space",
        )
    if kind == "choice":
        return {"type": "choice", "values": values}
    low, high = values[:2]
    if kind == "randint":
        return {"type": "int", "min": low, "max": high - 1 if isinstance(high, int) else high}
    if kind == "quniform":
        whole = all(isinstance(value, int) for value in values)
        return {"type": "int" if whole else "float", "min": low, "max": high, "step": values[2]}
    return {"type": "float", "min": low, "max": high, "sampling": "log" if kind == "loguniform" else "linear"}
