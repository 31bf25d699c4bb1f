"""The search space as plain data, read and checked before anything runs."""

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rowmill.errors import ParameterError
from rowmill.training import formats

_KEYS = {
    "int": ({"min", "max"}, {"step", "sampling", "default"}),
    "float": ({"min", "max"}, {"step", "sampling", "default"}),
    "choice": ({"values"}, {"default"}),
    "bool": (set(), {"default"}),
}
_SAMPLINGS = ("linear", "log")
_SCALARS = (bool, int, float, str)


def read(given: Mapping[str, Any] | str | Path, known: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a space with every default filled in.

    Args:
        given: The space, or where it is; see `formats.load`.
        known: The network's hyperparameters with their own values, which become the defaults of ranges that name none and
            hold them; empty when nobody knows what the network takes.

    Returns:
        Hyperparameter name to `{type: int|float|choice|bool, default, ...}`: an int or float has `min`, `max`, `sampling` and
        perhaps `step` (which multiplies where the sampling is `log`), a choice and a bool have `values`.

    Raises:
        ParameterError: A file, name, key, range or default cannot be used.
    """
    entries = formats.load(given)
    for name in entries:
        if not isinstance(name, str) or not name.strip():
            raise ParameterError("A hyperparameter needs a name", found=repr(name), step="name it")
        if known and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            step = f"did you mean {near[0]!r}" if near else f"use some of {', '.join(known)}"
            raise ParameterError(f"The space names {name!r}, which this network does not have", step=step)
    return {name: _checked(name, entry, known.get(name)) for name, entry in entries.items()}


def values_of(entry: Mapping[str, Any]) -> list[Any]:
    """Return all values of a checked entry that has finitely many, else its ends and the default, in rising order."""
    if "values" in entry:
        return list(entry["values"])
    step = entry.get("step", 1 if entry["type"] == "int" and entry["sampling"] == "linear" else None)
    if step is None:
        return sorted({entry["min"], entry["default"], entry["max"]})
    return [_place(entry, step, index) for index in range(round(_steps_to(entry["max"], entry, step)) + 1)]


def _checked(name: str, given: Any, own: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise _wrong(name, "must be a range such as {'type': 'int', 'min': 1, 'max': 3}", given)
    entry = dict(given)
    kind = entry.get("type")
    if not isinstance(kind, str) or kind not in _KEYS:
        raise _wrong(name, "needs a type: int, float, choice or bool", kind)
    needed, optional = _KEYS[kind]
    keys = set(entry) - {"type"}
    if needed - keys:
        raise _wrong(name, f"of type {kind} needs {' and '.join(sorted(needed))}", given)
    if keys - needed - optional:
        odd = sorted(map(str, keys - needed - optional))[0]
        raise _wrong(name, f"of type {kind} knows no {odd!r}, only {', '.join(sorted(needed | optional))}", given)
    entry = _range(name, entry, own) if kind in ("int", "float") else _choice(name, entry, own)
    return _of_the_networks_kind(name, entry, own)


def _choice(name: str, entry: dict[str, Any], own: Any) -> dict[str, Any]:
    values = [False, True] if entry["type"] == "bool" else entry["values"]
    if not isinstance(values, list | tuple) or not values:
        raise _wrong(name, "needs a list of one value or more", values)
    if not all(type(value) in _SCALARS and (isinstance(value, str) or _is_finite(value)) for value in values):
        raise _wrong(name, "may choose between texts, finite numbers or truth values only", values)
    kinds = {type(value) for value in values}
    if kinds == {int, float}:
        # Keras Tuner takes one kind only.
        values, kinds = [float(value) for value in values], {float}
    if len(kinds) > 1 or len(set(values)) < len(values):
        raise _wrong(name, "needs values of one kind, each once", values)
    (kind,) = kinds
    default = entry.get("default", own if _is_of(kind, own) and own in values else values[0])
    if not _is_of(kind, default) or default not in values:
        raise _wrong(name, f"needs a default that is one of its values {list(values)}", default)
    return {**entry, "values": list(values), "default": kind(default)}


def _range(name: str, entry: dict[str, Any], own: Any) -> dict[str, Any]:
    kinds = (int,) if entry["type"] == "int" else (int, float)
    for key in ("min", "max", "step", "default"):
        value = entry.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, kinds) or not _is_finite(value):
            raise _wrong(name, f"needs a {key} that is {'a whole' if entry['type'] == 'int' else 'a finite'} number", value)
    low, high, sampling = entry["min"], entry["max"], entry.get("sampling", "linear")
    if low > high:
        raise _wrong(name, f"needs min <= max, and {low} is above {high}", f"min {low}, max {high}")
    if not _is_finite(high - low):
        raise _wrong(name, "needs a max - min that is a finite number", f"min {low}, max {high}")
    if sampling not in _SAMPLINGS:
        raise _wrong(name, "needs the sampling linear or log", sampling)
    if sampling == "log" and low <= 0:
        raise _wrong(name, "needs min > 0 for the sampling log", f"min {low}")
    entry = {**entry, "sampling": sampling}
    _check_step(name, entry)
    suits = isinstance(own, kinds) and not isinstance(own, bool) and low <= own <= high and _on_grid(own, entry)
    default = entry.get("default", own if suits else low)
    if not low <= default <= high:
        raise _wrong(name, f"needs a default from {low} to {high}", f"default {default}")
    if not _on_grid(default, entry):
        raise _wrong(name, f"needs a default that steps of {entry['step']} from {low} reach", f"default {default}")
    if "step" in entry:
        default = _place(entry, entry["step"], round(_steps_to(default, entry, entry["step"])))
    return {**entry, "default": default}


def _is_finite(value: float) -> bool:
    """Return whether a number fits a float; a whole number may be too large for one."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _check_step(name: str, entry: Mapping[str, Any]) -> None:
    if "step" not in entry:
        return
    lowest = 1 if entry["sampling"] == "log" else 0
    if entry["step"] <= lowest:
        raise _wrong(name, f"needs a step above {lowest} for the sampling {entry['sampling']}", f"step {entry['step']}")
    if not _on_grid(entry["max"], entry):
        raise _wrong(name, "has a step that misses max", f"min {entry['min']}, max {entry['max']}, step {entry['step']}")


def _steps_to(value: float, entry: Mapping[str, Any], step: float) -> float:
    """Return how many steps lead from `min` to a value; steps multiply where the sampling is `log`, as in Keras Tuner."""
    if entry["sampling"] == "log":
        return math.log(value / entry["min"]) / math.log(step)
    return float((value - entry["min"]) / step)


def _on_grid(value: float, entry: Mapping[str, Any]) -> bool:
    if "step" not in entry:
        return True
    steps = _steps_to(value, entry, entry["step"])
    return abs(steps - round(steps)) < 1e-6


def _place(entry: Mapping[str, Any], step: float, index: int) -> Any:
    value = entry["min"] * step**index if entry["sampling"] == "log" else entry["min"] + step * index
    # Not 0.30000000000000004 for three steps of 0.1.
    return value if entry["type"] == "int" else float(f"{value:.12g}")


def _of_the_networks_kind(name: str, entry: dict[str, Any], own: Any) -> dict[str, Any]:
    """Return the entry if the network can use its values, judged by the kind of the network's own value."""
    if own is not None and not _is_of(type(own), entry["default"]):
        raise _wrong(name, f"is of another kind in this network, where it is {own!r}", entry["default"])
    return entry


def _is_of(kind: type, value: Any) -> bool:
    """Return whether a value is of a kind; a whole number is a float, too, and a truth value no number."""
    return type(value) in ({int, float} if kind is float else {kind})


def _wrong(name: str, what: str, found: Any) -> ParameterError:
    return ParameterError(f"{name!r} {what}", found=found if isinstance(found, str) else repr(found), step="mend it in the space")
