"""What a verdict's charts draw, as JSON keeps it: classes, confusion, reliability, disagreements."""

from typing import Any

import numpy as np

from rowmill.judging import checks, statistics
from rowmill.judging.checks import Sides

MOST_LABELS, MOST_EXAMPLES = 40, 48


def of(sides: Sides, drop: float) -> dict[str, Any]:
    """Return what charts draw of two sides' answers.

    Args:
        sides: The answers.
        drop: How much of one class's accuracy may be lost, in points.

    Returns:
        `labels`; `classes`: label, rows, gained, lost, points, state, moved; `confusion`: candidate's counts less the
        incumbent's, (true, answered), where there are at most 40 labels; `reliability`: of each side, (15, 3) as
        `statistics.reliability` says; `disagreements`: at most 48 rows on which the two answer different labels, those that
        one side alone has right first: row (its place in the holdout), label, ours, theirs, and how sure each is.
    """
    few = len(sides.labels) <= MOST_LABELS
    return {
        "labels": list(sides.labels),
        "classes": [vars(found) | {"points": found.points} for found in checks.by_class(sides, drop)],
        "confusion": (_confusion(sides, sides.ours) - _confusion(sides, sides.theirs)).tolist() if few else [],
        "reliability": [statistics.reliability(side, sides.targets).tolist() for side in (sides.ours, sides.theirs)],
        "disagreements": _disagreements(sides),
    }


def _confusion(sides: Sides, answers: np.ndarray) -> np.ndarray:
    count = len(sides.labels)
    return np.bincount(sides.targets * count + answers.argmax(axis=1), minlength=count * count).reshape(count, count)


def _disagreements(sides: Sides) -> list[dict[str, Any]]:
    ours, theirs = sides.ours.argmax(axis=1), sides.theirs.argmax(axis=1)
    places = np.flatnonzero(ours != theirs)
    # The surest first: where a side errs surely, its rows are worth a look.
    sure = np.maximum(sides.ours.max(axis=1), sides.theirs.max(axis=1))[places]
    decided = ((ours == sides.targets) | (theirs == sides.targets))[places]
    return [
        {
            "row": int(place),
            "label": sides.labels[sides.targets[place]],
            "ours": sides.labels[ours[place]],
            "theirs": sides.labels[theirs[place]],
            "our confidence": float(sides.ours[place].max()),
            "their confidence": float(sides.theirs[place].max()),
        }
        for place in places[np.lexsort((-sure, ~decided))][:MOST_EXAMPLES]
    ]
