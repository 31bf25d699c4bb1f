"""The search space and the goal as plain data, read and checked before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rowmill.errors import ParameterError

_KEYS = {
    "int": ({"min", "max"}, {"step", "sampling", "default"}),
    "float": ({"min", "max"}, {"step", "sampling", "default"}),
    "choice": ({"values"}, {"default"}),
    "bool": (set(), {"default"}),
}
_SAMPLINGS = ("linear", "log")


@dataclass(frozen=True)
class Goal:
    """When a search ends: at the goal, or when its budget is spent.

    Attributes:
        accuracy: On the validation split, 0 to 1; the search stops when a trial reaches it.
        trials: At most so many.
        minutes: At most so long, counted from the search's start.
        epochs: Length of one trial; 0 chooses by the count of training rows.
    """

    accuracy: float
    trials: int
    minutes: float
    epochs: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.accuracy <= 1:
            raise ParameterError(f"The goal must be an accuracy above 0 and at most 1, found {self.accuracy}", step="give 0.98 for 98 %")
        if self.trials < 1 or self.minutes <= 0 or self.epochs < 0:
            raise ParameterError(
                f"The budget needs trials >= 1, minutes > 0 and epochs >= 0, found {self.trials}, {self.minutes} and {self.epochs}",
                step="give such values",
            )

    def epochs_for(self, rows: int) -> int:
        """Return the length of a trial: about 300,000 examples seen, in 6 to 40 epochs."""
        return self.epochs or max(6, min(40, 300_000 // rows))


def check(space: Mapping[str, Mapping[str, Any]], known: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the space with every default filled in.

    Args:
        space: Hyperparameter name to `{type: int|float|choice|bool, min, max, step, sampling, values, default}`.
        known: The hyperparameters that the network has.

    Raises:
        ParameterError: A name, key, range or default cannot be used.
    """
    unknown = sorted(set(space) - set(known))
    if unknown:
        raise ParameterError(f"The space names {unknown[0]!r}, which this network does not have", step=f"use some of {', '.join(known)}")
    return {name: _checked(name, entry) for name, entry in space.items()}


def _checked(name: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise ParameterError(
            f"{name!r} must be a range such as {{'type': 'int', 'min': 1, 'max': 3}}", found=repr(entry), step="mend the space"
        )
    entry = dict(entry)
    kind = entry.get("type")
    if kind not in _KEYS:
        raise ParameterError(f"The type of {name!r} must be int, float, choice or bool", found=repr(kind), step="mend the space")
    needed, optional = _KEYS[kind]
    given = set(entry) - {"type"}
    if not needed <= given or given - needed - optional:
        odd = sorted((needed - given) or (given - needed - optional))
        raise ParameterError(
            f"{name!r} of type {kind} needs {sorted(needed)} and may have {sorted(optional)}; {odd[0]!r} is wrong", step="mend the space"
        )
    return _range(name, entry) if kind in ("int", "float") else _values(name, entry)


def _values(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    values = entry.get("values", [False, True])
    if not values or entry.get("default", values[0]) not in values:
        raise ParameterError(
            f"The default of {name!r} must be one of its values {values}", found=repr(entry.get("default")), step="mend the space"
        )
    return {**entry, "values": values, "default": entry.get("default", values[0])}


def _range(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    low, high, default = entry["min"], entry["max"], entry.get("default", entry["min"])
    kinds = (int,) if entry["type"] == "int" else (int, float)
    if not all(isinstance(value, kinds) and not isinstance(value, bool) for value in (low, high, default, entry.get("step", 1))):
        raise ParameterError(
            f"Range, step and default of {name!r} must be of type {entry['type']}", found=str(entry), step="mend the space"
        )
    if not low <= default <= high or entry.get("step", 1) <= 0:
        raise ParameterError(f"{name!r} needs min <= default <= max and step > 0", found=str(entry), step="mend the space")
    sampling = entry.get("sampling", "linear")
    if sampling not in _SAMPLINGS or (sampling == "log" and low <= 0):
        raise ParameterError(f"The sampling of {name!r} must be linear, or log with min > 0", found=str(entry), step="mend the space")
    return {**entry, "default": default, "sampling": sampling}
