"""Recorded requests, asked again: what another model would have answered, and which of two models is right where they differ."""

import html
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rowmill import shown
from rowmill.errors import NotFoundError
from rowmill.judging import statistics, words
from rowmill.judging.finding import Comparison
from rowmill.monitoring import truth
from rowmill.monitoring.truth import Truth
from rowmill.serving import bundle as bundles
from rowmill.serving.release import Service

_KEY = ["request_id", "place"]


@dataclass(frozen=True)
class Replay:
    """What a model answers to recorded instances.

    Attributes:
        model_id: The model.
        rows: Columns of `truth.answers`, and `then` (what was answered when it came) and `then_confidence`; `answered` and `confidence`
            are the model's.
        left_out: How many recorded instances were not asked, for their images were not kept.
    """

    model_id: str
    rows: pd.DataFrame
    left_out: int = 0

    @property
    def differing(self) -> pd.DataFrame:
        """The rows that it answers otherwise than was answered, the surest first."""
        return self.rows[self.rows["answered"] != self.rows["then"]].sort_values("confidence", ascending=False, kind="stable")

    def __str__(self) -> str:
        count, of = len(self.differing), len(self.rows)
        without = f"; {self.left_out:,} more have no image on record" if self.left_out else ""
        return f"{self.model_id} answers {count:,} of {of:,} recorded instances ({count / of:.1%}) otherwise than was answered{without}."

    def _repr_html_(self) -> str:
        columns = ["request_id", "place", "model_id", "then", "answered", "confidence"]
        return f"<p>{html.escape(str(self))}</p>{_table(self.differing, columns)}"


@dataclass(frozen=True)
class Pair:
    """What two models answer to the same instances.

    Attributes:
        ours, theirs: Their ids.
        rows: Columns `request_id`, `place`, `ours`, `theirs` (labels), `confidence` (the lower of the two), `answered` (ours), `image`.
    """

    ours: str
    theirs: str
    rows: pd.DataFrame

    @property
    def differing(self) -> pd.DataFrame:
        """The rows on which they differ: only these can show which is better; `truth.queue` takes them."""
        return self.rows[self.rows["ours"] != self.rows["theirs"]]

    def _repr_html_(self) -> str:
        said = f"{self.ours} and {self.theirs} differ on {len(self.differing):,} of {len(self.rows):,} instances."
        return f"<p>{html.escape(said)}</p>{_table(self.differing, ['request_id', 'place', 'ours', 'theirs', 'confidence'])}"


@dataclass(frozen=True)
class Outcome:
    """Which of two models is right where they differ.

    Attributes:
        outcome: `better`, `worse` or `cannot tell`, of ours against theirs.
        sentence: The same with figures.
        comparison: The counts; None where no difference is labelled.
    """

    outcome: str
    sentence: str
    comparison: Comparison | None = None

    def _repr_html_(self) -> str:
        return f"<h3>{html.escape(self.outcome)}</h3><p>{html.escape(self.sentence)}</p>"


def run(service: Service, answered: pd.DataFrame, model_id: str) -> Replay:
    """Ask a registered model, through its own bundle in this process, what was asked.

    Args:
        service: Whose model.
        answered: As `truth.answers` returns them; an instance that several models were asked is asked once.
        model_id: Which model; the newest when empty.

    Raises:
        NotFoundError: There is no such model, or no image of its size was kept.
        IntegrityError: Its files are not what was registered.
    """
    model = service.registry.model(model_id, service.name)
    once = answered.drop_duplicates(_KEY, keep="last")
    size = math.prod(model.shape)
    kept = once[[image is not None and len(image) == size for image in once["image"]]]
    if kept.empty:
        what = f"None of {len(once)} recorded instances has an image of {size} bytes on record, as {model.model_id} takes them"
        raise NotFoundError(what, step=truth.IMAGES)
    images = np.frombuffer(b"".join(kept["image"]), np.uint8).reshape(-1, *model.shape)
    with bundles.open_in_process(bundles.build(service.settings, service.registry, model)) as endpoint:
        probabilities, _ = endpoint.predict(images)
    then = kept.rename(columns={"answered": "then", "confidence": "then_confidence"})
    said = [model.labels[place] for place in probabilities.argmax(axis=1)]
    rows = then.assign(answered=said, confidence=probabilities.max(axis=1)).reset_index(drop=True)
    return Replay(model.model_id, rows, len(once) - len(kept))


def pair(ours: Replay, theirs: Replay) -> Pair:
    """Lay two models' answers to the same instances beside each other."""
    both = ours.rows[[*_KEY, "answered", "confidence", "image"]].merge(
        theirs.rows[[*_KEY, "answered", "confidence"]], on=_KEY, suffixes=("", "_theirs")
    )
    rows = both.assign(
        ours=both["answered"], theirs=both["answered_theirs"], confidence=both[["confidence", "confidence_theirs"]].min(axis=1)
    )
    return Pair(ours.model_id, theirs.model_id, rows[[*_KEY, "ours", "theirs", "confidence", "answered", "image"]])


def judge(service: Service, found: Pair, known: Truth) -> Outcome:
    """Decide between two models by the gate's exact McNemar test, level and least effect, from labels of their disagreements alone.

    Where they agree, both are right or both are wrong, and neither gains: those rows need no labels. Where only some of the
    disagreements are labelled, they stand for as large a share of all rows, but for those that were labelled as the least sure.
    These requests are no holdout: nothing is spent of its level, and what is found here deploys nothing. One look is at the level; to
    look after each label until one likes what is seen is not.

    Args:
        service: Whose gate.
        found: The two models' answers.
        known: The labels, as `truth.match` returns them.
    """
    differing = found.differing.merge(known.rows.drop_duplicates(_KEY)[[*_KEY, "truth", "chosen"]], on=_KEY)
    if len(differing) < len(found.differing):
        differing = differing[differing["chosen"] != truth.UNSURE]
    if found.differing.empty:
        return Outcome("cannot tell", f"{found.ours} and {found.theirs} answer all {len(found.rows):,} instances alike.")
    if differing.empty:
        said = f"None of the {len(found.differing):,} disagreements of {found.ours} and {found.theirs} has a label yet"
        return Outcome("cannot tell", f"{said} that stands for the others.")
    gained, lost = (int((differing[side] == differing["truth"]).sum()) for side in ("ours", "theirs"))
    rows = round(len(found.rows) * len(differing) / len(found.differing))
    comparison = Comparison(rows, gained, lost, float("nan"), float("nan"))
    gate = service.settings.gate
    outcome = comparison.outcome(gate.level, gate.minimal_effect / 100)
    return Outcome(outcome, _sentence(found, len(differing), comparison, outcome, gate.level), comparison)


def _sentence(found: Pair, labelled: int, comparison: Comparison, outcome: str, level: float) -> str:
    phrase = {
        "better": f"{found.ours} is better than {found.theirs} on these requests",
        "worse": f"{found.ours} is worse than {found.theirs} on these requests",
        "cannot tell": f"Cannot tell whether {found.ours} is better than {found.theirs} on these requests",
    }[outcome]
    figures = (
        f"{words.between(comparison)}; of {len(found.differing):,} disagreements in {len(found.rows):,} instances "
        f"{labelled:,} are labelled, {comparison.gained:,} of them right by {found.ours} alone, "
        f"{comparison.lost:,} by {found.theirs} alone (exact McNemar p = {comparison.p_value:.2g}, level {level:.2g})"
    )
    least = statistics.fewest(level)
    more = f"; at least {least} that one alone has right are needed" if comparison.gained + comparison.lost < least else ""
    return f"{phrase}: {figures}{more}."


def _table(rows: pd.DataFrame, columns: list[str]) -> str:
    cells = [
        [f"{value:.1%}" if isinstance(value, float) else str(value) for value in row]
        for row in rows[columns].head(20).itertuples(index=False)
    ]
    return shown.table_html(columns, cells) if cells else ""
