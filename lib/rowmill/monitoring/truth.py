"""What requests truly were, where it becomes known later: labels by request id, the accuracy that they show, new examples to train on."""

import base64
import binascii
import datetime
import html
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rowmill import settings, shown
from rowmill.data import dataset, versions
from rowmill.data.sources import Source
from rowmill.data.warehouse import Warehouse
from rowmill.errors import NotFoundError, SourceError
from rowmill.monitoring import log
from rowmill.records import DatasetVersion, now
from rowmill.serving import predictions
from rowmill.serving.endpoint import CHECK
from rowmill.serving.release import Service
from rowmill.tables import PREDICTIONS, TRUTHS, Span

GIVEN, CHANCE, UNSURE, DIFFER = "given", "by chance", "least confident", "models differ"
CHOSEN = (GIVEN, CHANCE, UNSURE, DIFFER)
IMAGES = "set images = true under [monitor] in rowmill.toml and deploy again: requests from then on keep theirs"
_KEY = ["request_id", "place"]
_READ = ("request_id", "answered_at", "model_id", "labels", "confidences", "images")
_FIRST = 3


@dataclass(frozen=True)
class Said:
    """What somebody says that an instance is; an empty label takes back what the same one said before. As in table `truths`."""

    request_id: str
    place: int
    label: str
    chosen: str
    labelled_by: str
    labelled_at: datetime.datetime = field(default_factory=now)


@dataclass(frozen=True)
class Truth:
    """Answers whose truth is known.

    Attributes:
        rows: Columns `request_id`, `place`, `model_id`, `answered`, `truth`, `chosen`, `image` (bytes, or None).
        notes: What could not be used and why, each a sentence; it stays on record.
    """

    rows: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def accuracy(self) -> pd.DataFrame:
        """Accuracy of each model, 0 to 1, with its 95 % interval, by how the labelled requests were chosen.

        Columns `model_id`, `chosen`, `labelled`, `right` (counts), `accuracy`, `low`, `high`.
        """
        # Imported when used: scipy.stats takes 57 MB, and pages that label compute nothing.
        from rowmill.judging import statistics  # pylint: disable=import-outside-toplevel

        right = (self.rows["answered"] == self.rows["truth"]).groupby([self.rows["model_id"], self.rows["chosen"]]).agg(["size", "sum"])
        found = [
            (*place, int(size), int(count), count / size, *statistics.proportion(int(size), int(count)))
            for place, (size, count) in zip(right.index, right.to_numpy(), strict=True)
        ]
        return pd.DataFrame(found, columns=["model_id", "chosen", "labelled", "right", "accuracy", "low", "high"])

    def _repr_html_(self) -> str:
        found = self.accuracy
        cells = [[f"{value:.1%}" if isinstance(value, float) else str(value) for value in row] for row in found.itertuples(index=False)]
        table = shown.table_html(list(found.columns), cells) if cells else "<p>No answer's truth is known yet.</p>"
        picked = set(self.rows["chosen"]) & {UNSURE, DIFFER}
        caution = f"Requests labelled as {' or '.join(sorted(picked))} are harder than others: their accuracy is not that of all requests."
        return table + "".join(f"<p>{html.escape(note)}</p>" for note in (*([caution] if picked else []), *self.notes))


def read(path: str) -> pd.DataFrame:
    """Return a CSV file of labels, all columns as texts; see `add`.

    Raises:
        SourceError: It cannot be read.
    """
    try:
        return pd.read_csv(Path(path).expanduser(), dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' own errors of parsing are ValueErrors
        raise SourceError(
            f"The labels in {path} cannot be read: {error}", step="give a CSV file with columns request_id and label"
        ) from error


def add(warehouse: Warehouse, service: str, given: pd.DataFrame) -> str:
    """Put labels on record, also those of requests that are not there yet; say how many were new.

    Args:
        warehouse: Where to.
        service: Whose requests they are.
        given: Columns `request_id` and `label`; where there are any, `place` (the instance in its request, from 0), `labelled_by`,
            `labelled_at` (UTC) and `chosen` (one of `CHOSEN`).

    Raises:
        SourceError: A column is missing, or holds what it cannot; nothing was written.
        WarehouseError: The warehouse refuses.
    """
    rows = _checked(given).assign(service=service)
    there = set(latest(warehouse, service)[[*_KEY, "label", "labelled_by"]].itertuples(index=False, name=None))
    is_new = [row not in there for row in rows[[*_KEY, "label", "labelled_by"]].itertuples(index=False, name=None)]
    fresh = rows[is_new].drop_duplicates([*_KEY, "label", "labelled_by"])
    if len(fresh):
        warehouse.append(TRUTHS, fresh)
    return f"{len(fresh)} labels are new; {len(rows) - len(fresh)} were on record already."


def append(warehouse: Warehouse, service: str, said: Sequence[Said]) -> None:
    """Put on record what somebody said by eye.

    Raises:
        WarehouseError: The warehouse refuses, and nothing was written.
    """
    warehouse.append(TRUTHS, pd.DataFrame([vars(each) for each in said]).assign(service=service))


def latest(warehouse: Warehouse, service: str) -> pd.DataFrame:
    """Return the labels that hold: of each who labels the latest one of an instance, unless it was taken back."""
    rows = warehouse.read(TRUTHS, {"service": service})
    newest = rows.groupby([*_KEY, "labelled_by"])["labelled_at"].transform("max")
    return rows[(rows["labelled_at"] == newest) & (rows["label"] != "")].reset_index(drop=True)


def recorded(service: Service, since: datetime.datetime | None = None, most: int = 0) -> pd.DataFrame:
    """Return what each instance of a service's recorded requests was answered; see `answers`. This machine's lines are taken in first.

    Without rowmill's own requests: probes of a deployment, and verdicts' questions to what serves.

    Args:
        service: Which.
        since: The first moment; all that is on record when not given.
        most: About how many requests, where there are more, to draw by chance; 0 for all.

    Raises:
        BusyError: Another process takes lines in, and does not end.
        WarehouseError: The place where they are cannot be asked.
    """
    if service.target.embedded:
        predictions.take_in(service.settings, service.registry.warehouse, service.name)
    span = Span(since, None, {"service": service.name}, {"request_id": CHECK})
    place = log.opened(service)
    total = int(place.count(PREDICTIONS, span, [], "day")["rows"].sum()) if most else 0
    return answers(place.draw(PREDICTIONS, span, _READ, min(1.0, most / total) if total else 1.0))


def of(service: Service, answered: pd.DataFrame) -> Truth:
    """Return the answers of a service whose truth is known by the labels on record; see `match`."""
    known = {label for model in service.registry.models(service.name) for label in model.labels}
    return match(answered, latest(service.registry.warehouse, service.name), known)


def answers(requests: pd.DataFrame) -> pd.DataFrame:
    """Return what each instance of recorded requests was answered.

    Args:
        requests: Columns of the table `predictions`.

    Returns:
        Columns `request_id`, `place`, `answered_at`, `model_id`, `answered`, `confidence` (0 to 1), `image` (its pixels' bytes; None
        where it was not kept). An id that asked one model twice is there once, as it was answered last.
    """
    found = []
    for row in requests.to_dict("records"):
        labels, kept = json.loads(row["labels"]), json.loads(row["images"])
        for place, (label, confidence) in enumerate(zip(labels, json.loads(row["confidences"]), strict=False)):
            image = _pixels(kept[place]) if len(kept) == len(labels) else None
            found.append((row["request_id"], place, row["answered_at"], row["model_id"], label, confidence, image))
    columns = [*_KEY, "answered_at", "model_id", "answered", "confidence", "image"]
    return pd.DataFrame(found, columns=columns).drop_duplicates([*_KEY, "model_id"], keep="last", ignore_index=True)


def match(answered: pd.DataFrame, labels: pd.DataFrame, known: Collection[str]) -> Truth:
    """Return the answers whose truth is known.

    Args:
        answered: As `answers` returns them.
        labels: As `latest` returns them.
        known: The labels that the service's models know.
    """
    there = pd.MultiIndex.from_frame(answered[_KEY])
    is_lost = ~pd.MultiIndex.from_frame(labels[_KEY]).isin(there)
    is_foreign = ~labels["label"].isin(list(known))
    distinct = labels.drop_duplicates([*_KEY, "label"])
    is_disputed = labels.set_index(_KEY).index.isin(distinct[distinct.duplicated(_KEY, keep=False)].set_index(_KEY).index)
    notes = [
        _note(labels[is_lost], "are of requests that are not on record, not yet or no more"),
        _note(labels[is_disputed & ~is_lost], "contradict each other, and count for nothing until one is taken back"),
        _note(labels[is_foreign & ~is_lost & ~is_disputed], "are none that the models know, and count for nothing", "label"),
    ]
    usable = labels[~is_lost & ~is_foreign & ~is_disputed].drop_duplicates(_KEY)
    rows = answered.merge(usable[[*_KEY, "label", "chosen"]], on=_KEY).rename(columns={"label": "truth"})
    return Truth(rows[[*_KEY, "model_id", "answered", "truth", "chosen", "image"]], tuple(note for note in notes if note))


def queue(service: Service, answered: pd.DataFrame, chosen: str, count: int, seed: int = 0) -> pd.DataFrame:
    """Return which instances to label next, of those whose images were kept and that have no label yet.

    Args:
        service: Whose they are.
        answered: As `answers` returns them; for `DIFFER` those on which two models differ.
        chosen: `UNSURE` for those of least confidence; `CHANCE` and `DIFFER` for an order by chance, so that those that were labelled stand
            for the rest.
        count: How many.
        seed: Of the order by chance.

    Raises:
        NotFoundError: No image was kept.
    """
    kept = answered[answered["image"].notna()].drop_duplicates(_KEY)
    if kept.empty:
        raise NotFoundError(
            f"None of {len(answered)} answered instances has its image on record, and none can be labelled by eye", step=IMAGES
        )
    labelled = pd.MultiIndex.from_frame(latest(service.registry.warehouse, service.name)[_KEY])
    left = kept[~pd.MultiIndex.from_frame(kept[_KEY]).isin(labelled)]
    ordered = left.sort_values("confidence", kind="stable") if chosen == UNSURE else left.sample(frac=1, random_state=seed)
    return ordered.head(count).assign(chosen=chosen).reset_index(drop=True)


def ingest(service: Service, found: Truth, reason: str) -> DatasetVersion:
    """Make a data set version that has the labelled requests, too, where their images were kept.

    Those that were chosen for being hard are trained on alone: in the holdout they would judge models on other requests than come.

    Raises:
        NotFoundError: No image was kept, or there is no version to add to.
        SourceError: Labels or images do not fit the version.
        IntegrityError: The warehouse does not hold what it was sent.
    """
    store = service.registry.warehouse
    version = dataset.find(store, service.name)
    size = math.prod(version.shape)
    rows = found.rows.drop_duplicates(_KEY)
    usable = rows[[image is not None and len(image) == size for image in rows["image"]]]
    if usable.empty:
        what = f"None of {len(rows)} labelled instances has an image of {size} bytes on record, so nothing can be ingested"
        raise NotFoundError(what, step=IMAGES)
    keys = [f"request/{request_id}/{place}" for request_id, place in usable[_KEY].itertuples(index=False)]
    pixels = np.frombuffer(b"".join(usable["image"]), np.uint8).reshape(-1, *version.shape)
    source = Source(service.name, "labelled requests", keys, pixels, usable["truth"].tolist(), np.zeros(len(keys), bool))
    hard = [key for key, chosen in zip(keys, usable["chosen"], strict=True) if chosen in (UNSURE, DIFFER)]
    return versions.extend(store, version, source, reason, hard)


def _checked(given: pd.DataFrame) -> pd.DataFrame:
    """Return labels in the columns of the table, but for the service."""
    missing = [name for name in ("request_id", "label") if name not in given]
    if missing:
        there = ", ".join(map(str, given.columns)) or "none"
        raise SourceError(f"Labels need a column {missing[0]!r}", found=there, step="give columns request_id and label")
    filled: dict[str, Any] = {"place": 0, "chosen": GIVEN, "labelled_by": settings.actor(), "labelled_at": now()}
    rows = given.assign(**{name: value for name, value in filled.items() if name not in given})[[*TRUTHS.columns][1:]].reset_index(
        drop=True
    )
    for name in ("request_id", "label", "labelled_by"):
        rows[name] = ["" if pd.isna(value) else str(value).strip() for value in rows[name]]
        _refuse(rows, rows[name] == "", f"Each label needs a text as its {name}", "mend these rows, or take them out")
    places = pd.to_numeric(rows["place"], errors="coerce")
    _refuse(rows, ~((places >= 0) & (places % 1 == 0)), "A place is a whole number from 0", "count the instances of a request from 0")
    moments = pd.to_datetime(rows["labelled_at"], utc=True, errors="coerce")
    _refuse(rows, moments.isna(), "A labelled_at is a moment", "give such as 2026-11-21T18:00:00Z")
    _refuse(rows, ~rows["chosen"].isin(CHOSEN), f"A chosen is one of {', '.join(map(repr, CHOSEN))}", "leave the column out")
    return rows.assign(place=places.astype("int64"), labelled_at=moments)


def _refuse(rows: pd.DataFrame, is_bad: pd.Series, what: str, step: str) -> None:
    if is_bad.any():
        first = int(np.flatnonzero(is_bad)[0])
        raise SourceError(
            what, found=f"{int(is_bad.sum())} rows without, the first row {first + 1}: {rows.iloc[first, :3].tolist()}", step=step
        )


def _note(labels: pd.DataFrame, what: str, named: str = "request_id") -> str:
    if labels.empty:
        return ""
    first = ", ".join(map(repr, dict.fromkeys(labels[named].head(_FIRST))))
    return f"{len(labels)} labels {what}: first {first}."


def _pixels(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        return None
