"""Whether a model's answers got worse than they were on its holdout, by labels of its requests: drift alone never says so."""

from dataclasses import dataclass

import numpy as np

from rowmill.errors import NotFoundError
from rowmill.monitoring.truth import CHANCE, GIVEN, Truth
from rowmill.serving.release import Service
from rowmill.shown import Shown

LEVEL = 0.05


@dataclass(frozen=True)
class Harm(Shown):
    """What labels say of a model.

    Attributes:
        state: `harmed`, `no harm shown` or `silent`.
        labelled, right: Requests whose truth is known, and those of them that were answered rightly.
        p_value: Of the test; NaN where there is nothing to compare.
        sentence: All of it in words.
    """

    model_id: str
    state: str
    labelled: int
    right: int
    p_value: float
    sentence: str


def of(service: Service, known: Truth) -> list[Harm]:
    """Return of each model with labelled requests whether they were answered worse than its holdout was.

    Fisher's exact test, one-sided at 5 %, of right and wrong answers to requests and to the holdout (Fisher 1935, Journal of the Royal
    Statistical Society 98:39). Requests that were labelled because they are hard do not count: they would make any model look harmed.

    Args:
        service: Which.
        known: Its answers whose truth is known.
    """
    rows = known.rows[known.rows["chosen"].isin([GIVEN, CHANCE])]
    right = rows["answered"] == rows["truth"]
    return [_of(service, str(model_id), int(mine.size), int(mine.sum())) for model_id, mine in right.groupby(rows["model_id"])]


def _of(service: Service, model_id: str, labelled: int, right: int) -> Harm:
    # Imported when used: pages that tell nothing of harm do without its 57 MB.
    from scipy.stats import fisher_exact  # pylint: disable=import-outside-toplevel

    try:
        verdict = service.registry.verdict(model_id, service.name)
    except NotFoundError as error:
        return Harm(model_id, "silent", labelled, right, float("nan"), f"Nothing is said of harm to {model_id}: {error}")
    share = f"{right / labelled:.1%} of {labelled:,} labelled requests to {model_id} were answered rightly"
    if not verdict.rows:
        said = f"{share}; its verdict compared no rows of the holdout, so nothing is said of harm."
        return Harm(model_id, "silent", labelled, right, float("nan"), said)
    before = round(verdict.candidate_accuracy * verdict.rows)
    table = np.array([[right, labelled - right], [before, verdict.rows - before]])
    p_value = float(fisher_exact(table, alternative="less").pvalue)
    what = f"{share}, and {verdict.candidate_accuracy:.1%} of {verdict.rows:,} images of its holdout"
    told = f"by labels that is shown: it is harmed (p = {p_value:.2g})" if p_value < LEVEL else f"no harm is shown (p = {p_value:.2g})"
    return Harm(model_id, "harmed" if p_value < LEVEL else "no harm shown", labelled, right, p_value, f"{what}: {told}.")
