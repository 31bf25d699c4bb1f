"""What examples must be before they are stored, and what the warehouse must hold after; violations named with counts and first keys."""

import hashlib
import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
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
class Violation:
    """One way in which examples break the contract: the clauses of an error's sentence, see `RowmillError`."""

    what: str
    found: str
    step: str


@dataclass(frozen=True)
class Report:
    """What was found of examples that keep the contract.

    Attributes:
        rows: Count of examples.
        shape: (height, width, channels) in pixels.
        notes: What is allowed and yet worth knowing, each a sentence with counts and first keys.
        repeats: The share of repeated images that was allowed.
    """

    rows: int
    shape: tuple[int, ...]
    notes: tuple[str, ...]
    repeats: float = 0.0

    @property
    def checks(self) -> tuple[str, ...]:
        """What was checked and held, and the notes, each a sentence."""
        least = ", ".join(f"{count} in {split}" for split, count in FEWEST.items())
        return (
            f"{self.rows} images are uint8 of one shape.",
            "Keys are unique; keys and labels are printable texts.",
            f"Each label has at least {least}.",
            f"Images with another label or in another split are at most {100 * self.repeats:g} %.",
            "Read back, the rows are as they were sent.",
            *self.notes,
        )

    def _repr_html_(self) -> str:
        height, width, channels = self.shape
        colour = "in grey" if channels == 1 else "in colour"
        kept = f"<p>{self.rows:,} examples of {height} x {width} pixels {colour} keep the contract.</p>"
        return kept + "".join(f"<p>Note: {html.escape(note)}</p>" for note in self.notes)


def check_source(source: Source, labelled: bool = True) -> None:
    """Check shape, dtype, range, keys and, where they must have them, labels of each example.

    Raises:
        SourceError: Some cannot be stored; each kind of violation is named with counts and first keys.
    """
    counts = [len(source.keys), len(source.labels), len(source.images), len(source.declared_holdout)]
    if len(set(counts)) > 1 or not counts[0]:
        found = f"{counts[0]} keys, {counts[1]} labels, {counts[2]} images and {counts[3]} marks of the holdout"
        raise SourceError(f"{source.origin} must have as many keys as labels and images, at least one", found=found, step="give each all")
    violations = [
        *_of_images(source),
        *_of_texts(source, "keys", source.keys, LONGEST_KEY),
        *(_of_texts(source, "labels", source.labels, LONGEST_LABEL) if labelled else ()),
    ]
    keys = pd.Series(source.keys, dtype=object).dropna()
    doubled = keys[keys.duplicated()].tolist()
    if doubled:
        found = f"{len(doubled)} repeated, {_first(doubled)}"
        violations.append(Violation(f"Keys in {source.origin} must be unique", found, "give each example its own key"))
    _refuse(violations)


def check_rows(rows: pd.DataFrame, source: Source, repeats: float) -> Report:
    """Check what only the whole shows: labels per split, and images that are there twice.

    Args:
        rows: Columns example_id, label, split, sha256 (of the pixels).
        source: Where they come from.
        repeats: The share of rows, 0 to 1, whose pixels may be in another split, too, or have another label elsewhere.

    Raises:
        SourceError: Labels have too few examples in a split, or more images are repeated than allowed; each kind is named.
        ParameterError: `repeats` is no share.
    """
    if not 0 <= repeats <= 1:
        raise ParameterError("The share of repeats must be from 0 to 1", found=f"{repeats!r}", step="give one such as 0.01")
    violations, notes = _of_labels(rows, source.origin), []
    for share, allowed, told in _repeats(rows, repeats):
        if share > allowed:
            step = f"take the repeats out, or accept them with repeats={min(1.0, np.ceil(share * 1000) / 1000):g}"
            violations.append(Violation(f"In {source.origin}, {told}", "", step))
        else:
            notes.append(f"{told}.")
    _refuse(violations)
    return Report(len(rows), source.images.shape[1:], tuple(notes), repeats)


def summary(rows: pd.DataFrame) -> pd.Series:
    """Return the count of rows per (split, label); columns split and label."""
    return rows.groupby(["split", "label"]).size()


def label_counts(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return the count of rows of each label in each split: label to split to count; columns split and label."""
    counts = summary(rows).unstack("split", fill_value=0).reindex(columns=[TRAIN, VALIDATION, HOLDOUT], fill_value=0)
    return {str(label): {str(split): int(count) for split, count in row.items()} for label, row in counts.iterrows()}


def check_labels(rows: pd.DataFrame, labels: Sequence[str], origin: str) -> None:
    """Check that each label still has enough examples in each split.

    Args:
        rows: Columns example_id, label, split.
        labels: The whole label set.
        origin: What the rows are called.

    Raises:
        SourceError: One has too few.
    """
    _refuse(_of_labels(rows, origin, labels))


def fingerprint(rows: pd.DataFrame, shape: Sequence[int]) -> str:
    """Return the SHA-256 over the images' shape, and key, label, split and pixels' SHA-256 of all rows, in key order.

    Args:
        rows: Columns example_id, label, split, sha256.
        shape: (height, width, channels): the same bytes in another shape are other images.
    """
    ordered = rows.sort_values("example_id")
    lines = ordered[["example_id", "label", "split", "sha256"]].to_numpy().tolist()
    return hashlib.sha256(json.dumps([list(shape), lines]).encode()).hexdigest()


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
    if fingerprint(sent, ()) != fingerprint(stored, ()):
        both = sent.merge(stored, on="example_id", how="left", suffixes=("", "_stored"))
        keys = both["example_id"][(both["sha256"] != both["sha256_stored"]) | (both["label"] != both["label_stored"])].tolist()
        raise IntegrityError("The warehouse must hold the rows as they were sent", found=f"{len(keys)} changed, {_first(keys)}", step=step)


def _refuse(violations: Sequence[Violation]) -> None:
    """Raise one error of all violations, so that they can be mended at once."""
    if not violations:
        return
    if len(violations) == 1:
        raise SourceError(violations[0].what, found=violations[0].found, step=violations[0].step)
    clauses = [f"({number}) {v.what}{f', found {v.found}' if v.found else ''}" for number, v in enumerate(violations, 1)]
    raise SourceError(
        f"The examples break the contract in {len(violations)} ways: {'; '.join(clauses)}",
        step="; ".join(f"({number}) {v.step}" for number, v in enumerate(violations, 1)),
    )


def _of_images(source: Source) -> list[Violation]:
    shape, dtype = source.images.shape, source.images.dtype
    if len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape:
        what = f"Images of {source.origin} must have the shape (examples, height, width, channels) with 1 or 3 channels"
        return [Violation(what, f"{shape}", "reshape them")]
    if dtype == np.uint8:
        return []
    found = _outside(source) or f"{dtype}"
    return [Violation(f"Pixels of {source.origin} must be whole numbers from 0 to 255, as uint8", found, "convert them first")]


def _outside(source: Source) -> str:
    """Say which pixels no uint8 can hold; empty when there are none."""
    if source.images.dtype.kind not in "iuf":
        return ""
    flat = source.images.reshape(len(source.images), -1)
    outside = ~((flat >= 0) & (flat <= 255) & (flat % 1 == 0))
    rows = np.flatnonzero(outside.any(axis=1))
    if rows.size == 0:
        return ""
    value, keys = flat[rows[0]][outside[rows[0]]][0], [source.keys[row] for row in rows]
    return f"{value!s} for key {keys[0]!r}; there are {outside.sum()} such pixels in {len(rows)} images, {_first(keys)}"


def _of_texts(source: Source, what: str, texts: Sequence[Any], longest: int) -> list[Violation]:
    reasons = [(reason, key) for key, text in zip(source.keys, texts, strict=True) if (reason := _unusable(text, longest))]
    if not reasons:
        return []
    first = f", for {_first([key for _, key in reasons])}" if what == "labels" else ""
    return [
        Violation(
            f"The {what} of {source.origin} must be texts of 1 to {longest} characters that can be printed, without blanks around them",
            f"{len(reasons)} that are not, the first {reasons[0][0]}{first}",
            f"mend these {what}, or take the examples out",
        )
    ]


def _unusable(text: Any, longest: int) -> str:
    """Return what is wrong with a key or label; empty when it can be used."""
    if not isinstance(text, str):
        return "null" if pd.isna(text) else f"{text!r}, of type {type(text).__name__}"
    if not text.strip():
        return "empty"
    if len(text) > longest:
        return f"{text[:20]!r}... of {len(text)} characters"
    return "" if text.isprintable() and text == text.strip() else repr(text)


def _of_labels(rows: pd.DataFrame, origin: str, known: Sequence[str] = ()) -> list[Violation]:
    labels, violations = sorted({*rows["label"], *known}), []
    if len(labels) < 2:
        violations.append(Violation(f"{origin} needs at least two labels", f"{labels[0]!r} only", "add examples of another"))
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
        what = f"{origin} has too few examples of {len({label for _, label in few})} of its {len(labels)} labels"
        found = f"{', '.join(words for words, _ in few[:_FIRST])}{more}{f', {_first(of_first)}' if of_first else ''}"
        violations.append(Violation(what, found, "add examples of them, or take the labels out"))
    return violations


def _repeats(rows: pd.DataFrame, repeats: float) -> Iterator[tuple[float, float, str]]:
    """Give the share of the rows that are there twice, the share that is allowed, and words with the first keys, for each kind."""
    twice = rows[rows["sha256"].duplicated(keep=False)]
    groups = twice.groupby("sha256", sort=False)
    differing = groups["label"].transform("nunique") > 1
    across = ~differing & (groups["split"].transform("nunique") > 1)
    kinds = (
        ("with another label", twice[differing], repeats),
        ("in another split", twice[across], repeats),
        ("in the same split", twice[~differing & ~across], max(repeats, HARMLESS_REPEATS)),
    )
    for where, found, allowed in kinds:
        if not found.empty:
            share, keys = len(found) / len(rows), found["example_id"][found["sha256"] == found["sha256"].iloc[0]].tolist()
            count = f"{len(found)} of {len(rows)} examples ({100 * share:.2g} %)"
            yield share, allowed, f"{count} have the pixels of another example {where}, first {_named(keys)}"


def _first(keys: Sequence[Any]) -> str:
    return f"first {_named(keys)}"


def _named(keys: Sequence[Any]) -> str:
    return ", ".join(map(repr, keys[:_FIRST]))
