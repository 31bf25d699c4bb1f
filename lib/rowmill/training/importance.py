"""Which hyperparameters mattered: what a forest that predicts the trials' scores loses when one is shuffled."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rowmill.records import Trial

FEWEST = 10  # of fewer trials, a forest's out-of-bag share says next to nothing
_TREES, _SHUFFLES = 200, 20


def table(trials: Sequence[Trial]) -> pd.DataFrame:
    """Return the trials that ended with a score, one row each: its hyperparameters as columns, then `score`."""
    ended = [trial for trial in trials if np.isfinite(trial.score)]
    return pd.DataFrame([{**trial.hyperparameters, "score": trial.score} for trial in ended])


def of(trials: Sequence[Trial]) -> tuple[pd.Series, float]:
    """Measure how much each hyperparameter that varied mattered to the score.

    A random forest predicts the score from the hyperparameters; the importance of one is the fall of the forest's R^2 when its
    values are shuffled (Breiman, 2001, Machine Learning 45:5), shares of their sum.

    Returns:
        The share per hyperparameter, 0 to 1, the largest first, and the forest's R^2 on trials left out of its trees: at 0 or
        below, the shares mean nothing. Empty, with NaN, for fewer than `FEWEST` trials or where nothing varied.
    """
    known = table(trials)
    varied = [name for name in known.columns.drop("score", errors="ignore") if known[name].astype(str).nunique() > 1]
    if len(known) < FEWEST or not varied or known["score"].nunique() < 2:
        return pd.Series(dtype=float), np.nan
    # Imported when used: 90 MB that a page which draws everything else need not have.
    from sklearn.ensemble import RandomForestRegressor  # pylint: disable=import-outside-toplevel
    from sklearn.inspection import permutation_importance  # pylint: disable=import-outside-toplevel

    inputs = np.column_stack([places(known[name]) for name in varied])
    forest = RandomForestRegressor(_TREES, oob_score=True, random_state=0).fit(inputs, known["score"])
    shuffled = permutation_importance(forest, inputs, known["score"], n_repeats=_SHUFFLES, random_state=0)
    lost = np.maximum(shuffled.importances_mean, 0)
    shares = pd.Series(lost / (lost.sum() or 1), index=varied).sort_values(ascending=False)
    return shares, float(forest.oob_score_)


def places(values: pd.Series) -> np.ndarray:
    """Return numbers as they are, and other values as their place in order; float64, (trials,)."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().all() and not any(isinstance(value, bool) for value in values):
        return np.asarray(numbers, np.float64)
    return values.astype(str).astype("category").cat.codes.to_numpy(np.float64)
