"""Rows become versions and arrays: splits are disjoint, stored and stable; pixels are exact."""

import dataclasses

import numpy as np
import pytest
from rowmill.data import dataset, sources, versions, warehouse
from rowmill.data.sqlite import SqliteWarehouse
from rowmill.errors import IntegrityError, NotFoundError, ParameterError, RowmillError, SourceError
from rowmill.records import DatasetVersion
from rowmill.settings import Settings
from rowmill.tables import EXAMPLES, TABLES

from tests.data.test_sources import write_folder

DIGITS_FINGERPRINT = "c1e5e1737e1903d6e974288ed66e0aafa0fad9a4b3528b0106068be3c3250e11"


@pytest.fixture
def store(project: Settings) -> warehouse.Warehouse:
    """An empty warehouse."""
    return warehouse.connect(project)


def test_images_come_back_exactly(store: warehouse.Warehouse) -> None:
    source = sources.load("digits")
    version = dataset.ingest(store, source)
    data, holdout = dataset.load(store, version), dataset.load_holdout(store, version)
    place = {key: row for row, key in enumerate(source.keys)}
    for examples in (data.train, data.validation, holdout):
        rows = [place[key] for key in examples.keys]
        assert np.array_equal(examples.images, source.images[rows])
        assert [version.labels[target] for target in examples.targets] == [source.labels[row] for row in rows]


def test_splits_are_disjoint_and_whole(store: warehouse.Warehouse) -> None:
    version = dataset.ingest(store, sources.load("digits"))
    data, holdout = dataset.load(store, version), dataset.load_holdout(store, version)
    keys = [set(examples.keys) for examples in (data.train, data.validation, holdout)]
    assert len(set.union(*keys)) == sum(map(len, keys)) == 1797
    assert version.counts == {"train": 1078, "validation": 361, "holdout": 358}


def test_the_digits_have_one_fingerprint(store: warehouse.Warehouse) -> None:
    assert dataset.ingest(store, sources.load("digits")).fingerprint == DIGITS_FINGERPRINT


def test_a_declared_test_part_is_the_holdout(store: warehouse.Warehouse, tmp_path) -> None:
    version = dataset.ingest(store, sources.load(str(write_folder(tmp_path / "shapes"))))
    holdout = dataset.load_holdout(store, version)
    assert all(key.startswith("t10k/") for key in holdout.keys) and len(holdout.keys) == 12
    assert version.counts["train"] + version.counts["validation"] == 30 and version.counts["validation"] > 0


def test_a_key_stays_in_its_split_when_the_source_grows() -> None:
    keys = [f"k{n}" for n in range(1000)]
    none = np.zeros(1000, dtype=bool)
    assert dataset.assign_splits(keys, none)[:500] == dataset.assign_splits(keys[:500], none[:500])
    shares = [dataset.assign_splits(keys, none).count(split) / 1000 for split in ("train", "validation", "holdout")]
    assert np.allclose(shares, (0.6, 0.2, 0.2), atol=0.04)


def test_unchanged_examples_make_no_new_version(store: warehouse.Warehouse) -> None:
    first = dataset.ingest(store, sources.load("digits"))
    assert dataset.ingest(store, sources.load("digits")) == first
    assert len(store.read(EXAMPLES, None, ("label",))) == 1797


def test_what_was_ingested_last_is_the_newest(store: warehouse.Warehouse) -> None:
    source = sources.load("digits")
    first = dataset.ingest(store, source)
    second = dataset.ingest(store, source, "other")
    assert dataset.find(store) == second
    assert dataset.ingest(store, source) == first == dataset.find(store)
    assert dataset.versions(store) == [second, first] and len(store.read(EXAMPLES, None, ("label",))) == 2 * 1797


def test_one_changed_label_makes_another_version(store: warehouse.Warehouse) -> None:
    source = sources.load("digits")
    first = dataset.ingest(store, source)
    second = dataset.ingest(store, dataclasses.replace(source, labels=["1", *source.labels[1:]]))
    assert second.version != first.version and dataset.find(store, "digits") == second
    assert dataset.find(store, "digits", first.version) == first


def test_a_cut_off_ingest_is_invisible(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SqliteWarehouse.append

    def cut(self: SqliteWarehouse, table, rows) -> None:
        if table == TABLES[DatasetVersion]:
            raise KeyboardInterrupt
        whole(self, table, rows)

    store = warehouse.connect(project)
    monkeypatch.setattr(SqliteWarehouse, "append", cut)
    with pytest.raises(KeyboardInterrupt):
        dataset.ingest(store, sources.load("digits"))
    monkeypatch.undo()
    assert not dataset.versions(store)
    version = dataset.ingest(store, sources.load("digits"))
    assert len(dataset.load(store, version).train.keys) == version.counts["train"]


def test_no_version_yet_says_what_to_do(store: warehouse.Warehouse) -> None:
    with pytest.raises(NotFoundError, match="There is no data set of service 'digits'; run notebook 01_ingest first"):
        dataset.find(store, "digits")


def test_a_label_missing_in_a_split_is_named(store: warehouse.Warehouse) -> None:
    source = sources.load("digits")
    with pytest.raises(SourceError, match="too few examples of 1 of its 11 labels; found 1 of '99' in the train split"):
        dataset.ingest(store, dataclasses.replace(source, labels=["99", *source.labels[1:]]))


def test_doubled_keys_are_named(store: warehouse.Warehouse) -> None:
    source = sources.load("digits")
    with pytest.raises(SourceError, match="found 1 repeated, first 'digits/00001'"):
        dataset.ingest(store, dataclasses.replace(source, keys=["digits/00001", *source.keys[1:]]))


def test_a_correction_is_a_new_version_and_the_old_one_stays(store: warehouse.Warehouse) -> None:
    old = dataset.ingest(store, sources.load("digits"))
    before = dataset.load(store, old)
    key, given = before.train.keys[3], old.labels[before.train.targets[3]]
    right = "7" if given != "7" else "1"
    new = versions.correct(store, old, {key: right, before.train.keys[4]: old.labels[before.train.targets[4]]}, "seen by eye")
    after = dataset.load(store, new)
    assert new.version != old.version and new.reason == "seen by eye" and new.actor
    assert after.train.keys == before.train.keys and np.array_equal(after.train.images, before.train.images)
    assert np.flatnonzero(after.train.targets != before.train.targets).tolist() == [3] and new.labels[after.train.targets[3]] == right
    assert np.array_equal(dataset.load(store, old).train.targets, before.train.targets)
    gained = dataset.label_counts(new) - dataset.label_counts(old)
    assert gained.loc[right].tolist() == [1, 0, 0] and gained.to_numpy().sum() == 0 and np.abs(gained.to_numpy()).sum() == 2
    assert dataset.find(store, "digits") == new and len(store.read(EXAMPLES, None, ("label",))) == 1797 + 1


def test_a_correction_survives_an_ingest_of_the_unchanged_source(store: warehouse.Warehouse) -> None:
    source = sources.load("digits")
    corrected = versions.correct(store, dataset.ingest(store, source), {"digits/00000": "5"}, "seen by eye")
    assert dataset.ingest(store, source) == corrected
    grown = dataclasses.replace(source, labels=["1", *source.labels[1:]])
    assert dataset.ingest(store, grown).ingest_ids != corrected.ingest_ids


def test_a_correction_back_has_the_first_fingerprint(store: warehouse.Warehouse) -> None:
    first = dataset.ingest(store, sources.load("digits"))
    second = versions.correct(store, first, {"digits/00000": "5"}, "wrong")
    third = versions.correct(store, second, {"digits/00000": "0"}, "right again")
    assert third.fingerprint == first.fingerprint and third.ingest_ids != first.ingest_ids
    assert versions.correct(store, third, {"digits/00000": "0"}, "nothing") == third


def test_a_correction_needs_a_reason(store: warehouse.Warehouse) -> None:
    version = dataset.ingest(store, sources.load("digits"))
    with pytest.raises(ParameterError, match="1 corrections of labels need a reason; give one, such as reason='seen by eye'"):
        versions.correct(store, version, {"digits/00000": "5"}, " ")


def test_no_corrections_read_nothing(store: warehouse.Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    version = dataset.ingest(store, sources.load("digits"))
    monkeypatch.setattr(store, "read", lambda *_: pytest.fail("read"))
    assert versions.correct(store, version, {}, "") == version


def test_versions_are_listed_with_what_changed(store: warehouse.Warehouse) -> None:
    first = dataset.ingest(store, sources.load("digits"))
    second = versions.correct(store, first, {"digits/00000": "5", "digits/00003": "8"}, "seen by eye")
    third = versions.correct(store, second, {"digits/00003": "3"}, "no, it was right")
    listed = versions.table(store, "digits")
    assert listed["version"].tolist() == [third.version, second.version, first.version]
    assert listed["reason"].tolist() == ["no, it was right", "seen by eye", "ingested"] and listed["labels"].tolist() == [10] * 3
    assert listed["train"].iloc[0] == first.counts["train"] and (listed["actor"] == first.actor).all()
    assert versions.changes(store, second).to_numpy().tolist() == [
        ["digits/00000", "relabelled", "0", "5"],
        ["digits/00003", "relabelled", "3", "8"],
    ]
    assert versions.changes(store, third)["key"].tolist() == ["digits/00003"] and versions.changes(store, first).empty
    assert versions.table(store, "nobody").empty


@pytest.mark.parametrize(
    ("labels", "words"),
    [({"digits/99999": "1"}, "has no key 'digits/99999'"), ({"digits/00000": "cat"}, "has no label 'cat'; use one of 0, 1")],
)
def test_a_wrong_correction_is_named_and_changes_nothing(store: warehouse.Warehouse, labels: dict[str, str], words: str) -> None:
    version = dataset.ingest(store, sources.load("digits"))
    with pytest.raises(RowmillError, match=words):
        versions.correct(store, version, labels, "by eye")
    assert dataset.versions(store) == [version]


def test_the_difference_of_two_versions(store: warehouse.Warehouse) -> None:
    source = sources.load("digits")
    old = dataset.ingest(store, source)
    images = source.images.copy()
    images[5, 0, 0, 0] += 1
    grown = dataclasses.replace(source, images=images[1:], labels=["3", *source.labels[2:]], keys=[*source.keys[1:1796], "digits/new"])
    grown = dataclasses.replace(grown, declared_holdout=source.declared_holdout[1:])
    found = versions.difference(store, old, dataset.ingest(store, grown))
    assert found.fillna("").to_numpy().tolist() == [
        ["digits/00000", "removed", "0", ""],
        ["digits/00001", "relabelled", "1", "3"],
        ["digits/00005", "other pixels", "5", "5"],
        ["digits/01796", "removed", "8", ""],
        ["digits/new", "added", "", "8"],
    ]
    assert versions.difference(store, old, old).empty


def test_the_same_bytes_in_another_shape_are_another_version(store: warehouse.Warehouse) -> None:
    source = sources.load("digits")
    scrambled = dataclasses.replace(source, images=source.images.reshape(-1, 16, 4, 1))
    first, second = dataset.ingest(store, scrambled), dataset.ingest(store, source)
    assert first.version != second.version and second.shape == (8, 8, 1)
    assert dataset.load(store, second).train.images.shape[1:] == (8, 8, 1)


def test_a_label_is_not_corrected_away(store: warehouse.Warehouse) -> None:
    source = sources.load("digits")
    version = dataset.ingest(store, source)
    nines = {key: "4" for key, label in zip(source.keys, source.labels, strict=True) if label == "9"}
    with pytest.raises(SourceError, match="corrected, has too few examples of 1 of its 10 labels; found 0 of '9' in the train split"):
        versions.correct(store, version, nines, "no nines")
    assert dataset.versions(store) == [version]


@pytest.mark.parametrize("labels", ["{a:9", {"digits/00000": 5}, {1: "5"}, {"digits/00000": ["5"]}])
def test_corrections_are_texts(store: warehouse.Warehouse, labels: object) -> None:
    with pytest.raises(ParameterError, match="Corrections must be keys with their right labels, both texts; found"):
        versions.correct(store, dataset.ingest(store, sources.load("digits")), labels, "by eye")  # type: ignore[arg-type]


def test_an_image_of_another_size_is_never_read_as_part_of_the_next(store: warehouse.Warehouse) -> None:
    version = dataset.ingest(store, sources.load("digits"))
    rows = dataset.rows_of(store, version)
    rows["image"] = [image[:-1] if place == 7 else image for place, image in enumerate(rows["image"])]
    store.append(EXAMPLES, rows.assign(ingest_id="odd"))
    with pytest.raises(IntegrityError, match="Each stored image must have 64 bytes; found 1 that have not"):
        dataset.load(store, dataclasses.replace(version, ingest_ids=("odd",)))
