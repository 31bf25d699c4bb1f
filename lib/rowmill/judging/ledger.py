"""The ledger of a holdout: how often it was looked at, and what that leaves of the level."""

import hashlib
import math

from rowmill.data.dataset import Examples
from rowmill.judging import statistics
from rowmill.records import HoldoutUse, ModelRecord
from rowmill.registry import Registry

_WORN = 2.0


def level(look: int, alpha: float) -> float:
    """Return what the so-manyth look is given: alpha * 6 / (pi * look)^2, whose sum over all looks is alpha.

    Alpha spending by a Bonferroni-like test over an endless row of questions: whatever the order of candidates, all verdicts on one
    holdout together are wrong with a probability of at most alpha (Javanmard and Montanari 2018, Annals of Statistics
    46:526; the weights are those of the Basel problem).
    """
    return alpha * 6 / (math.pi * look) ** 2


def fingerprint(holdout: Examples) -> str:
    """Return the SHA-256 of the holdout's keys and pixels: a correction of labels makes no fresh holdout."""
    digest = hashlib.sha256("\n".join(holdout.keys).encode())
    digest.update(holdout.images.tobytes())
    return digest.hexdigest()


def entry(registry: Registry, model: ModelRecord, incumbent: str, holdout: Examples, alpha: float) -> HoldoutUse:
    """Return the row of the ledger for this pair: that of its first verdict, or the next, which is not written yet."""
    found = fingerprint(holdout)
    uses = [use for use in registry.holdout_uses(model.service) if use.holdout == found]
    for use in uses:
        if (use.candidate, use.incumbent) == (model.model_id, incumbent):
            return use
    look = len(uses) + 1
    return HoldoutUse(model.service, model.dataset_version, found, model.model_id, incumbent, look, level(look, alpha))


def write(registry: Registry, use: HoldoutUse) -> None:
    """Put a use on record, once."""
    if use not in registry.holdout_uses(use.service):
        registry.add(use)


def note(use: HoldoutUse, alpha: float) -> str:
    """Return in a sentence how often the holdout was looked at, and what follows."""
    times = "for the first time" if use.look == 1 else f"{use.look} times"
    said = f"This holdout has been looked at {times}: the level is {use.level:.2g} of {alpha:g} (alpha spending)."
    if worn(use.level, alpha):
        said += (
            f" It is worn: a verdict needs {_rows(use.level, alpha):.1f} times the rows that a fresh one needs. Ingest fresh labelled rows."
        )
    return said


def worn(spent: float, alpha: float) -> bool:
    """Say whether a verdict at this level needs more than twice the rows that the first one needed."""
    return _rows(spent, alpha) > _WORN


def _rows(spent: float, alpha: float) -> float:
    """Return how many times the rows of the first look show the same difference: rows grow as (z(level) + z(power))^2."""
    return float(((statistics.z(spent) + statistics.z_power()) / (statistics.z(level(1, alpha)) + statistics.z_power())) ** 2)
