"""Rows become arrays: the splits, the versions, the fingerprint."""

import hashlib
import math
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from rowmill import settings
from rowmill.data import cache, contract
from rowmill.data.contract import HOLDOUT, TRAIN, VALIDATION, Report
from rowmill.data.reading import Source
from rowmill.data.rows import as_binary, bytes_of, take
from rowmill.data.warehouse import Warehouse
from rowmill.errors import NotFoundError
from rowmill.records import DatasetVersion, check_service, now
from rowmill.tables import EXAMPLES, TABLES, from_row, to_row


@dataclass(frozen=True)
class Examples:
    """Examples as arrays.

    Attributes:
        keys: One per example.
        images: uint8, (examples, height, width, channels).
        targets: int64, (examples,): each label's place in the version's label set.
    """

    keys: list[str]
    images: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """What training may see of a data set version."""

    version: DatasetVersion
    train: Examples
    validation: Examples


def assign_splits(keys: Sequence[str], declared_holdout: npt.NDArray[np.bool_]) -> list[str]:
    """Return each key's split: by its SHA-256, 60 % train, 20 % validation, 20 % holdout.

    Where the source declares a test part, that part is the holdout and the rest is 80 % train, 20 % validation. A key's
    split never depends on the other keys, so that an example stays where it was when the source grows.
    """
    declared = bool(declared_holdout.any())
    splits = []
    for key, is_holdout in zip(keys, declared_holdout, strict=True):
        tenth = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 10
        if is_holdout or (tenth in (2, 3) and not declared):
            splits.append(HOLDOUT)
        else:
            splits.append(VALIDATION if tenth in (0, 1) else TRAIN)
    return splits


def examine(source: Source, repeats: float = 0.0) -> Report:
    """Hold a source's examples against the contract, and store nothing.

    Args:
        source: The examples.
        repeats: The share of examples, 0 to 1, whose pixels may be in another split, too, or have another label elsewhere.

    Raises:
        SourceError: The examples cannot train and judge a classifier.
        ParameterError: `repeats` is no share.
    """
    return _checked(source, repeats)[1]


def ingest(warehouse: Warehouse, source: Source, service: str = "", repeats: float = 0.0) -> DatasetVersion:
    """Store a source's examples as a data set version; for unchanged ones return the version that is there, with its corrections.

    They are examined first, and read back before the version's row is written, which is last: an ingest that is cut off or
    changed on its way leaves nothing that a reader sees.

    Args:
        warehouse: Where to.
        source: The examples.
        service: Whose examples they are; the source's name when empty.
        repeats: As in `examine`.

    Raises:
        SourceError: The examples cannot train and judge a classifier.
        ParameterError: No service can have this name, or `repeats` is no share.
        IntegrityError: The warehouse does not hold what it was sent.
    """
    service = check_service(service or source.name)
    rows, report = _checked(source, repeats)
    fingerprint = contract.fingerprint(rows, source.images.shape[1:])
    known = versions(warehouse, service)
    for same in known:
        if same.fingerprint == fingerprint:
            # Corrections of labels stay when the source that they correct has not changed.
            return _renew(warehouse, [heir for heir in known if heir.ingest_ids[: len(same.ingest_ids)] == same.ingest_ids][-1])
    version = DatasetVersion(
        version=fingerprint[:12],
        service=service,
        ingest_ids=(rows["ingest_id"].iloc[0],),
        fingerprint=fingerprint,
        source=source.origin,
        labels=tuple(sorted(rows["label"].unique(), key=_label_order)),
        shape=source.images.shape[1:],
        counts=_counts(rows),
        actor=settings.actor(),
        reason="ingested",
        checks=report.checks,
        label_counts=contract.label_counts(rows),
    )
    warehouse.append(EXAMPLES, rows)
    contract.check_stored(rows, stored(warehouse, version))
    warehouse.append(TABLES[DatasetVersion], pd.DataFrame([to_row(version)]))
    return version


def versions(warehouse: Warehouse, service: str = "") -> list[DatasetVersion]:
    """Return the data set versions of a service (of all when empty), the one that was ingested last, or again, at the end."""
    rows = warehouse.read(TABLES[DatasetVersion], {"service": service} if service else None)
    known: dict[tuple[str, ...], DatasetVersion] = {}
    for row in rows.to_dict("records"):
        version = from_row(DatasetVersion, row)
        known.pop(version.ingest_ids, None)
        known[version.ingest_ids] = version
    return list(known.values())


def find(warehouse: Warehouse, service: str = "", version: str = "") -> DatasetVersion:
    """Return one data set version; the latest when `version` is empty.

    Raises:
        NotFoundError: There is none.
    """
    known = versions(warehouse, service)
    for candidate in reversed(known):
        if version in ("", candidate.version):
            return candidate
    wanted = f"data set version {version!r}" if version else "data set"
    of_service = f" of service {service!r}" if service else ""
    raise NotFoundError(
        f"There is no {wanted}{of_service}",
        found=", ".join(v.version for v in known),
        step="run notebook 01_ingest first, or give one that is there",
    )


def load(warehouse: Warehouse, version: DatasetVersion) -> Dataset:
    """Return the train and validation splits of a version; the holdout stays where it is."""
    return Dataset(version, *_load(warehouse, version, (TRAIN, VALIDATION)))


def label_counts(version: DatasetVersion) -> pd.DataFrame:
    """Return the rows per label (index, in the version's order) and split (columns train, validation, holdout)."""
    return pd.DataFrame(version.label_counts).T.reindex(index=list(version.labels), columns=[TRAIN, VALIDATION, HOLDOUT], fill_value=0)


def load_holdout(warehouse: Warehouse, version: DatasetVersion) -> Examples:
    """Return the holdout. For `judging.validation` alone: what training has seen cannot judge it."""
    return _load(warehouse, version, (HOLDOUT,))[0]


def rows_of(warehouse: Warehouse, version: DatasetVersion, columns: Sequence[str] = (), split: str = "") -> pd.DataFrame:
    """Return a version's rows, of one split or of all; of rows of one key the last ingest's."""
    only = {"split": split} if split else {}
    parts = [warehouse.read(EXAMPLES, {"ingest_id": ingest_id, **only}, columns) for ingest_id in version.ingest_ids]
    rows = pd.concat(parts, ignore_index=True)
    return rows.iloc[_latest(rows["example_id"])].reset_index(drop=True)


def _load(warehouse: Warehouse, version: DatasetVersion, splits: Sequence[str]) -> list[Examples]:
    # The last ingest is of this version alone: two versions with one fingerprint may have their rows in another order.
    path = warehouse.cache and warehouse.cache / f"{version.version}-{version.ingest_ids[-1]}" / f"{'-'.join(splits)}.npz"
    names = [f"{split} {what}" for split in splits for what in ("keys", "images", "targets")]
    arrays = cache.kept(path, names, lambda: _read(warehouse, version, splits))
    keys = [arrays[f"{split} keys"].tobytes().decode().split("\n") for split in splits]
    return [Examples(key, arrays[f"{split} images"], arrays[f"{split} targets"]) for key, split in zip(keys, splits, strict=True)]


def _read(warehouse: Warehouse, version: DatasetVersion, splits: Sequence[str]) -> cache.Arrays:
    """Return each split's `images` and `targets` as in `Examples`, and its `keys`: UTF-8 lines as uint8."""
    wanted = ("example_id", "label", "split", "image")
    rows = pa.concat_tables([warehouse.scan(EXAMPLES, {"ingest_id": [i], "split": splits}, wanted) for i in version.ingest_ids])
    if len(version.ingest_ids) > 1:
        rows = take(rows, _latest(rows["example_id"].to_pylist()))
    place = _places(rows["split"], splits)
    chosen = [place == number for number in range(len(splits))]
    for split, mask in zip(splits, chosen, strict=True):
        if mask.sum() != version.counts[split]:
            raise NotFoundError(
                f"Version {version.version} lists {version.counts[split]} {split} rows",
                found=f"{mask.sum()} in the warehouse",
                step="ingest its source again",
            )
    keys, targets = rows["example_id"].to_numpy(), _places(rows["label"], version.labels)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for split, mask, images in zip(splits, chosen, _pixels(rows["image"], chosen, version.shape), strict=True):
        arrays[f"{split} keys"] = np.frombuffer("\n".join(keys[mask]).encode(), np.uint8)
        arrays[f"{split} images"], arrays[f"{split} targets"] = images, targets[mask]
    return arrays


def _places(texts: pa.ChunkedArray, known: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return where each text is in `known`."""
    return pd.Index(known).get_indexer(texts.to_pandas()).astype(np.int64)


def _latest(keys: Iterable[str]) -> list[int]:
    """Return the last row of each key; a key stays at its first place, so that a correction changes labels and nothing else."""
    return list({key: row for row, key in enumerate(keys)}.values())


def _pixels(column: pa.ChunkedArray, chosen: Sequence[npt.NDArray[np.bool_]], shape: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
    """Return the images of the rows that each mask chooses, (rows, *shape), copied once.

    Raises:
        IntegrityError: One has not the bytes of its shape.
    """
    found = [np.empty((int(mask.sum()), math.prod(shape)), np.uint8) for mask in chosen]
    filled, first = [0] * len(found), 0
    for chunk in column.chunks:
        pixels = bytes_of(chunk, math.prod(shape))
        for number, mask in enumerate(chosen):
            mine = mask[first : first + len(chunk)]
            end = filled[number] + int(mine.sum())
            np.compress(mine, pixels, axis=0, out=found[number][filled[number] : end])
            filled[number] = end
        first += len(chunk)
    return [images.reshape(-1, *shape) for images in found]


def _renew(warehouse: Warehouse, version: DatasetVersion) -> DatasetVersion:
    """Make a version that is there already the newest one again."""
    if find(warehouse) != version:
        warehouse.append(TABLES[DatasetVersion], pd.DataFrame([to_row(version)]))
    return version


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    return {split: int((rows["split"] == split).sum()) for split in (TRAIN, VALIDATION, HOLDOUT)}


def rows_from(source: Source) -> pd.DataFrame:
    """Return a source's examples as rows of the table `examples`: a new ingest, which nobody has checked yet."""
    pixels = np.ascontiguousarray(source.images).reshape(len(source.images), -1)
    height, width, channels = source.images.shape[1:]
    return pd.DataFrame(
        {
            "ingest_id": secrets.token_hex(8),
            "example_id": source.keys,
            "image": as_binary(pixels),
            "height": height,
            "width": width,
            "channels": channels,
            "label": source.labels,
            "split": assign_splits(source.keys, source.declared_holdout),
            "sha256": [hashlib.sha256(image.data).hexdigest() for image in pixels],
            "ingested_at": now(),
        }
    )


def _checked(source: Source, repeats: float) -> tuple[pd.DataFrame, Report]:
    contract.check_source(source)
    rows = rows_from(source)
    return rows, contract.check_rows(rows, source, repeats)


def stored(warehouse: Warehouse, version: DatasetVersion) -> pd.DataFrame:
    """Return a version's last ingest as it is stored, without pixels, whose SHA-256 is computed anew; one split in memory at a time."""
    parts = []
    for split in (TRAIN, VALIDATION, HOLDOUT):
        where = {"ingest_id": version.ingest_ids[-1], "split": split}
        rows = warehouse.read(EXAMPLES, where, ("example_id", "label", "split", "image"))
        parts.append(rows.assign(sha256=[hashlib.sha256(image).hexdigest() for image in rows["image"]]).drop(columns="image"))
    return pd.concat(parts)


def _label_order(label: str) -> tuple[int, str]:
    return (int(label) if label.isdecimal() else 10**9, label)
