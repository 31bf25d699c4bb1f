"""The contract: each violation is named with counts and first keys, and nothing of it becomes visible."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rowmill.data import dataset, sources, warehouse
from rowmill.data.sources import Source
from rowmill.data.sqlite import SqliteWarehouse
from rowmill.errors import IntegrityError, ParameterError, SourceError
from rowmill.settings import Settings
from rowmill.tables import EXAMPLES, Table


@pytest.fixture(name="digits", scope="module")
def fixture_digits() -> Source:
    """The bundled digits."""
    return sources.load("digits")


def changed(source: Source, field: str, values: dict[int, Any]) -> Source:
    """Return the source with some entries of a field replaced."""
    entries = list(getattr(source, field))
    for row, value in values.items():
        entries[row] = value
    return dataclasses.replace(source, **{field: np.stack(entries) if field == "images" else entries})


def rows_of(source: Source, split: str, label: str) -> list[int]:
    """Return the rows of a label in a split."""
    splits = dataset.assign_splits(source.keys, source.declared_holdout)
    return [row for row in range(len(source.keys)) if (splits[row], source.labels[row]) == (split, label)]


def repeated(source: Source, origin: int, copies: list[int]) -> Source:
    """Return the source with some images replaced by another one."""
    return changed(source, "images", {row: source.images[origin] for row in copies})


def test_digits_keep_the_contract(digits: Source) -> None:
    report = dataset.examine(digits)
    assert report.notes == () and "1,797 examples of 8 x 8 pixels in grey keep the contract" in report._repr_html_()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(
            lambda s: changed(s, "labels", {4: None, 9: None}), "found 2 that are not, the first null, for first 'digits/00004'", id="null"
        ),
        pytest.param(lambda s: changed(s, "labels", {4: float("nan")}), "1 that are not, the first null", id="nan-label"),
        pytest.param(lambda s: changed(s, "labels", {4: ""}), "the first empty, for first 'digits/00004'", id="empty"),
        pytest.param(lambda s: changed(s, "labels", {4: "x" * 101}), "of 101 characters, for first 'digits/00004'", id="long"),
        pytest.param(lambda s: changed(s, "labels", {4: "a\nb"}), r"the first 'a\\nb'", id="unprintable"),
        pytest.param(lambda s: changed(s, "labels", {4: 3}), "the first 3, of type int", id="number"),
        pytest.param(lambda s: changed(s, "keys", {4: None}), "The keys of .* found 1 that are not, the first null", id="null-key"),
        pytest.param(lambda s: changed(s, "keys", {0: "digits/00001"}), "1 repeated, first 'digits/00001'", id="doubled-key"),
        pytest.param(lambda s: dataclasses.replace(s, keys=s.keys[1:]), "found 1796 keys, 1797 labels, 1797 images", id="counts"),
        pytest.param(lambda s: dataclasses.replace(s, images=s.images[..., 0]), r"found \(1797, 8, 8\)", id="shape"),
        pytest.param(lambda s: dataclasses.replace(s, images=s.images.repeat(2, axis=3)), r"found \(1797, 8, 8, 2\)", id="channels"),
        pytest.param(lambda s: dataclasses.replace(s, images=s.images.astype(int) * 16), "found 256 for key 'digits/000", id="256"),
        pytest.param(lambda s: dataclasses.replace(s, images=s.images - 1.0), "found -1.0 for key 'digits/00000'", id="minus"),
        pytest.param(lambda s: dataclasses.replace(s, images=s.images / 16), "found 0.3125 for key 'digits/00000'", id="fraction"),
        pytest.param(lambda s: dataclasses.replace(s, images=s.images * np.nan), "found nan for key 'digits/00000'", id="nan"),
        pytest.param(lambda s: dataclasses.replace(s, images=s.images.astype(int)), "as uint8; found int64", id="dtype"),
        pytest.param(lambda s: dataclasses.replace(s, labels=["0"] * 1797), "needs at least two labels; found '0' only", id="one-label"),
    ],
)
def test_a_violation_stops_before_anything_is_stored(
    project: Settings, digits: Source, damage: Callable[[Source], Source], words: str
) -> None:
    store = warehouse.connect(project)
    with pytest.raises(SourceError, match=words):
        dataset.ingest(store, damage(digits))
    assert not len(store.read(EXAMPLES)) and not dataset.versions(store)


def test_all_kinds_of_violations_are_named_at_once(digits: Source) -> None:
    odd = dataclasses.replace(digits, images=digits.images.astype(int))
    odd.images[3, 0, 0, 0], odd.images[3, 1, 0, 0], odd.images[7, 0, 0, 0] = -1, 300, 256
    odd = changed(changed(odd, "labels", {4: None, 9: ""}), "keys", {0: "digits/00001", 5: None})
    with pytest.raises(SourceError) as raised:
        dataset.examine(odd)
    origin = "scikit-learn's bundled digits"
    texts = "must be texts of {} characters that can be printed, without blanks around them, found"
    assert str(raised.value) == (
        "The examples break the contract in 4 ways: "
        f"(1) Pixels of {origin} must be whole numbers from 0 to 255, as uint8, found -1 for key 'digits/00003'; "
        "there are 3 such pixels in 2 images, first 'digits/00003', 'digits/00007'; "
        f"(2) The keys of {origin} {texts.format('1 to 500')} 1 that are not, the first null; "
        f"(3) The labels of {origin} {texts.format('1 to 100')} 2 that are not, the first null, for first 'digits/00004', 'digits/00009'; "
        f"(4) Keys in {origin} must be unique, found 1 repeated, first 'digits/00001'; "
        "(1) convert them first; (2) mend these keys, or take the examples out; (3) mend these labels, or take the examples out; "
        "(4) give each example its own key."
    )


def test_what_only_the_whole_shows_is_named_at_once(digits: Source) -> None:
    three, eight = rows_of(digits, "train", "3"), rows_of(digits, "train", "8")
    odd = changed(digits, "labels", {three[5]: "cat"})
    odd = repeated(repeated(odd, three[0], [rows_of(digits, "holdout", "3")[0]]), three[1], [eight[0]])
    words = (
        r"in 3 ways: \(1\) .* has too few examples of 1 of its 11 labels, found 1 of 'cat' in the train split \(at least 5\), 0 of 'cat' in "
        r"the validation split .*; \(2\) In .*, 2 of 1797 examples .* with another label, first .*; \(3\) In .* in another split, first "
        r"'digits/.*; \(1\) add examples of them, or take the labels out; \(2\) take the repeats out, .* repeats=0.002; \(3\) take the rep"
    )
    with pytest.raises(SourceError, match=words):
        dataset.examine(odd)


def test_a_version_says_what_was_checked(project: Settings, digits: Source) -> None:
    rows = rows_of(digits, "train", "3")
    version = dataset.ingest(warehouse.connect(project), repeated(digits, rows[0], rows[1:3]), repeats=0.01)
    stored = dataset.find(warehouse.connect(project)).checks
    assert stored == version.checks and stored[0] == "1797 images are uint8 of one shape."
    assert stored[3] == "Images with another label or in another split are at most 1 %."
    assert stored[-1].startswith("3 of 1797 examples (0.17 %) have the pixels of another example in the same split, first 'digits/")


@pytest.mark.parametrize(("split", "least"), [("train", 5), ("validation", 1), ("holdout", 2)])
def test_too_few_of_a_label_are_named(digits: Source, split: str, least: int) -> None:
    rows = rows_of(digits, split, "3")
    words = f"too few examples of 1 of its 10 labels; found {least - 1} of '3' in the {split} split \\(at least {least}\\), first 'digits/0"
    with pytest.raises(SourceError, match=words):
        dataset.examine(changed(digits, "labels", dict.fromkeys(rows[least - 1 :], "4")))
    dataset.examine(changed(digits, "labels", dict.fromkeys(rows[least:], "4")))


def test_one_image_in_two_splits_is_named_and_stops(digits: Source) -> None:
    origin, copy = rows_of(digits, "train", "3")[0], rows_of(digits, "holdout", "3")[0]
    leaking = repeated(digits, origin, [copy])
    first = ", ".join(repr(digits.keys[row]) for row in sorted((origin, copy)))
    words = f"2 of 1797 examples \\(0.11 %\\) have the pixels of another example in another split, first {first}; .* repeats=0.002"
    with pytest.raises(SourceError, match=words):
        dataset.examine(leaking)
    assert "in another split" in dataset.examine(leaking, repeats=0.002).notes[0]


def test_one_image_with_two_labels_is_named_and_stops(digits: Source) -> None:
    contradicting = repeated(digits, rows_of(digits, "train", "3")[0], [rows_of(digits, "train", "8")[0]])
    with pytest.raises(SourceError, match="2 of 1797 examples .* of another example with another label, first 'digits/0"):
        dataset.examine(contradicting)


def test_few_repeats_in_one_split_are_a_note_and_many_stop(digits: Source) -> None:
    rows = rows_of(digits, "train", "3")
    report = dataset.examine(repeated(digits, rows[0], rows[1:17]))
    assert len(report.notes) == 1 and report.notes[0].startswith(
        "17 of 1797 examples (0.95 %) have the pixels of another example in the same"
    )
    assert "Note: 17 of 1797" in report._repr_html_()
    with pytest.raises(SourceError, match="18 of 1797 examples .* in the same split, .* repeats=0.011"):
        dataset.examine(repeated(digits, rows[0], rows[1:18]))


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_repeats_are_a_share(digits: Source, share: float) -> None:
    with pytest.raises(ParameterError, match="must be from 0 to 1; found"):
        dataset.examine(digits, share)


def lose_a_row(rows):
    return rows.iloc[1:]


def change_a_pixel(rows):
    image = bytes([rows["image"].iloc[0][0] ^ 1]) + rows["image"].iloc[0][1:]
    return rows.assign(image=[image, *rows["image"].iloc[1:]])


def swap_two_labels(rows):
    train = rows.index[rows["split"] == "train"]
    labels = rows["label"].tolist()
    other = next(place for place in train if labels[place] != labels[train[0]])
    labels[train[0]], labels[other] = labels[other], labels[train[0]]
    return rows.assign(label=labels)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lose_a_row, "must hold the 1797 rows it was sent, .* rows of label '0'; found 1796 rows, "),
        (change_a_pixel, "must hold the rows as they were sent; found 1 changed, first 'digits/00000'; ingest again"),
        (swap_two_labels, "must hold the rows as they were sent; found 2 changed, first 'digits/0"),
    ],
)
def test_what_the_warehouse_changes_is_never_a_version(
    project: Settings, digits: Source, monkeypatch: pytest.MonkeyPatch, damage: Callable[..., Any], words: str
) -> None:
    whole = SqliteWarehouse.append

    def append(self: SqliteWarehouse, table: Table, rows: Any) -> None:
        whole(self, table, damage(rows) if table == EXAMPLES else rows)

    store = warehouse.connect(project)
    monkeypatch.setattr(SqliteWarehouse, "append", append)
    with pytest.raises(IntegrityError, match=words):
        dataset.ingest(store, digits)
    assert not dataset.versions(store)


def test_labels_are_counted_per_split(project: Settings, digits: Source) -> None:
    store = warehouse.connect(project)
    version = dataset.ingest(store, digits)
    assert dataset.find(store) == version
    counts = dataset.label_counts(version)
    assert counts.index.tolist() == [str(label) for label in range(10)] and counts.columns.tolist() == ["train", "validation", "holdout"]
    assert all(counts.loc["3", split] == len(rows_of(digits, split, "3")) for split in counts.columns)
