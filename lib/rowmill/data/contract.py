"""What examples must be before they are stored, and what the warehouse must hold after; violations named with counts and first keys."""

import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rowmill.data.reading import Source
from rowmill.errors import IntegrityError, ParameterError, SourceError

TRAIN, VALIDATION, HOLDOUT = "train", "validation", "holdout"

# Training on fewer than five of a label is chance, and five folds cannot be cut from them. Validation guides, and must have
# seen each label; the holdout judges, and of a single row a label would be either all right or all wrong.
FEWEST = {TRAIN: 5, VALIDATION: 1, HOLDOUT: 2}
# Repeats with the same label in one split only weigh a little more; up to 1 % of the rows this stays below what a test on the
# holdout, which counts each row as a case of its own, can see.
HARMLESS_REPEATS = 0.01
LONGEST_KEY, LONGEST_LABEL = 500, 100
_FIRST = 3


@dataclass(frozen=True)
class Report:
    """What was found of examples that keep the contract.

    Attributes:
        rows: Count of examples.
        shape: (height, width, channels) in pixels.
        notes: What is allowed and yet worth knowing, each a sentence with counts and first keys.
    """

    rows: int
    shape: tuple[int, ...]
    notes: tuple[str, ...]

    def _repr_html_(self) -> str:
        height, width, channels = self.shape
        colour = "in grey" if channels == 1 else "in colour"
        kept = f"<p>{self.rows:,} examples of {height} x {width} pixels {colour} keep the contract.</p>"
        return kept + "".join(f"<p>Note: {html.escape(note)}</p>" for note in self.notes)


def check_source(source: Source) -> None:
    """Check shape, dtype, range, keys and labels, one by one.

    Raises:
        SourceError: One of them cannot be stored; named with counts and first keys.
    """
    counts = [len(source.keys), len(source.labels), len(source.images), len(source.declared_holdout)]
    if len(set(counts)) > 1 or not counts[0]:
        found = f"{counts[0]} keys, {counts[1]} labels, {counts[2]} images and {counts[3]} marks of the holdout"
        raise SourceError(f"{source.origin} must have as many keys as labels and images, at least one", found=found, step="give each all")
    _check_images(source)
    _check_texts(source, "keys", source.keys, LONGEST_KEY)
    _check_texts(source, "labels", source.labels, LONGEST_LABEL)
    doubled = pd.Series(source.keys)[pd.Series(source.keys).duplicated()].tolist()
    if doubled:
        raise SourceError(
            f"Keys in {source.origin} must be unique",
            found=f"{len(doubled)} repeated, {_first(doubled)}",
            step="give each example its own key",
        )


def check_rows(rows: pd.DataFrame, source: Source, repeats: float) -> Report:
    """Check what only the whole shows: labels per split, and images that are there twice.

    Args:
        rows: Columns example_id, label, split, sha256 (of the pixels).
        source: Where they come from.
        repeats: The share of rows, 0 to 1, whose pixels may be in another split, too, or have another label elsewhere.

    Raises:
        SourceError: A label has too few examples in a split, or more images are repeated than allowed.
        ParameterError: `repeats` is no share.
    """
    if not 0 <= repeats <= 1:
        raise ParameterError("The share of repeats must be from 0 to 1", found=f"{repeats!r}", step="give one such as 0.01")
    _check_labels(rows, source.origin)
    twice = rows[rows["sha256"].duplicated(keep=False)]
    groups = twice.groupby("sha256", sort=False)
    differing = groups["label"].transform("nunique") > 1
    across = ~differing & (groups["split"].transform("nunique") > 1)
    kinds = (
        ("with another label", twice[differing], repeats),
        ("in another split", twice[across], repeats),
        ("in the same split", twice[~differing & ~across], max(repeats, HARMLESS_REPEATS)),
    )
    notes = tuple(_repeated(source.origin, found, where, (len(rows), allowed)) for where, found, allowed in kinds if len(found))
    return Report(len(rows), source.images.shape[1:], notes)


def summary(rows: pd.DataFrame) -> pd.Series:
    """Return the count of rows per (split, label); columns split and label."""
    return rows.groupby(["split", "label"]).size()


def fingerprint(rows: pd.DataFrame) -> str:
    """Return the SHA-256 over key, label, split and pixels' SHA-256 of all rows, in key order.

    Args:
        rows: Columns example_id, label, split, sha256.
    """
    ordered = rows.sort_values("example_id")
    lines = ordered[["example_id", "label", "split", "sha256"]].to_numpy().tolist()
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def check_stored(sent: pd.DataFrame, stored: pd.DataFrame) -> None:
    """Compare what a warehouse holds with what it was sent: rows per split and label, then the fingerprint.

    Args:
        sent: Columns example_id, label, split, sha256.
        stored: The same, read back, with the SHA-256 computed anew from the pixels read.

    Raises:
        IntegrityError: They differ.
    """
    wanted, found = summary(sent).align(summary(stored), fill_value=0)
    step = "ingest again; nothing of this ingest is visible"
    different = wanted.index[wanted != found].tolist()
    if different:
        first = different[0]
        raise IntegrityError(
            f"The warehouse must hold the {len(sent)} rows it was sent, {int(wanted[first])} of them {first[0]} rows of label {first[1]!r}",
            found=f"{len(stored)} rows, {int(found[first])} of these",
            step=step,
        )
    if fingerprint(sent) != fingerprint(stored):
        both = sent.merge(stored, on="example_id", how="left", suffixes=("", "_stored"))
        keys = both["example_id"][(both["sha256"] != both["sha256_stored"]) | (both["label"] != both["label_stored"])].tolist()
        raise IntegrityError("The warehouse must hold the rows as they were sent", found=f"{len(keys)} changed, {_first(keys)}", step=step)


def _check_images(source: Source) -> None:
    shape, dtype = source.images.shape, source.images.dtype
    if len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape:
        raise SourceError(
            f"Images of {source.origin} must have the shape (examples, height, width, channels) with 1 or 3 channels",
            found=f"{shape}",
            step="reshape them",
        )
    if dtype != np.uint8:
        bad = _outside(source.images)
        found = f"{source.images[bad[0]].ravel()[bad[1]]!s} for key {source.keys[bad[0]]!r}" if bad else f"{dtype}"
        raise SourceError(
            f"Pixels of {source.origin} must be whole numbers from 0 to 255, as uint8", found=found, step="convert them first"
        )


def _outside(images: npt.NDArray[Any]) -> tuple[int, int] | None:
    """Return (row, place) of the first pixel that no uint8 can hold."""
    if images.dtype.kind not in "iuf":
        return None
    flat = images.reshape(len(images), -1)
    places = np.argwhere(~((flat >= 0) & (flat <= 255) & (flat % 1 == 0)))
    return (int(places[0][0]), int(places[0][1])) if len(places) else None


def _check_texts(source: Source, what: str, texts: Sequence[Any], longest: int) -> None:
    reasons = [(reason, key) for key, text in zip(source.keys, texts, strict=True) if (reason := _unusable(text, longest))]
    if reasons:
        raise SourceError(
            f"The {what} of {source.origin} must be texts of 1 to {longest} characters that can be printed, without blanks around them",
            found=f"{len(reasons)} that are not, the first {reasons[0][0]}"
            + (f", for {_first([key for _, key in reasons])}" if what == "labels" else ""),
            step=f"mend these {what}, or take the examples out",
        )


def _unusable(text: Any, longest: int) -> str:
    """Return what is wrong with a key or label; empty when it can be used."""
    if not isinstance(text, str):
        return "null" if pd.isna(text) else f"{text!r}, of type {type(text).__name__}"
    if not text.strip():
        return "empty"
    if len(text) > longest:
        return f"{text[:20]!r}... of {len(text)} characters"
    return "" if text.isprintable() and text == text.strip() else repr(text)


def _check_labels(rows: pd.DataFrame, origin: str) -> None:
    labels = sorted(rows["label"].unique())
    if len(labels) < 2:
        raise SourceError(f"{origin} needs at least two labels", found=f"{labels[0]!r} only", step="add examples of another")
    counts = summary(rows)
    few = [
        (f"{count} of {label!r} in the {split} split (at least {least})", label)
        for split, least in FEWEST.items()
        for label in labels
        if (count := int(counts.get((split, label), 0))) < least
    ]
    if few:
        of_first = rows["example_id"][rows["label"] == few[0][1]].tolist()
        more = f" and {len(few) - _FIRST} more" if len(few) > _FIRST else ""
        raise SourceError(
            f"{origin} has too few examples of {len({label for _, label in few})} of its {len(labels)} labels",
            found=f"{', '.join(words for words, _ in few[:_FIRST])}{more}, {_first(of_first)}",
            step="add examples of them, or take the labels out",
        )


def _repeated(origin: str, found: pd.DataFrame, where: str, limits: tuple[int, float]) -> str:
    """Return a note on images that are there twice; refuse them where they are more than (rows, share) allows."""
    rows, allowed = limits
    keys = found["example_id"][found["sha256"] == found["sha256"].iloc[0]].tolist()
    share = len(found) / rows
    told = f"{len(found)} of {rows} examples ({100 * share:.2g} %) have the pixels of another example {where}, first {_named(keys)}"
    if share > allowed:
        least = min(1.0, np.ceil(share * 1000) / 1000)
        raise SourceError(f"In {origin}, {told}", step=f"take the repeats out, or accept them with repeats={least:g}")
    return f"{told}."


def _first(keys: Sequence[Any]) -> str:
    return f"first {_named(keys)}"


def _named(keys: Sequence[Any]) -> str:
    return ", ".join(map(repr, keys[:_FIRST]))
