"""Rows become arrays: the splits, the versions, the fingerprint."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from rowmill import settings
from rowmill.data import contract
from rowmill.data.contract import HOLDOUT, TRAIN, VALIDATION, Report
from rowmill.data.reading import Source
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
    rows, _ = _checked(source, repeats)
    fingerprint = contract.fingerprint(rows)
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
    )
    warehouse.append(EXAMPLES, rows)
    contract.check_stored(rows, _stored(warehouse, version))
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
    return Dataset(version, _load_split(warehouse, version, TRAIN), _load_split(warehouse, version, VALIDATION))


def label_counts(warehouse: Warehouse, version: DatasetVersion) -> pd.DataFrame:
    """Return the rows per label (index, in the version's order) and split (columns train, validation, holdout), without reading pixels."""
    rows = rows_of(warehouse, version, ("example_id", "label", "split"))
    counts = contract.summary(rows).unstack("split", fill_value=0)
    return counts.reindex(index=list(version.labels), columns=[TRAIN, VALIDATION, HOLDOUT], fill_value=0)


def load_holdout(warehouse: Warehouse, version: DatasetVersion) -> Examples:
    """Return the holdout. For `judging.validation` alone: what training has seen cannot judge it."""
    return _load_split(warehouse, version, HOLDOUT)


def rows_of(warehouse: Warehouse, version: DatasetVersion, columns: Sequence[str] = (), split: str = "") -> pd.DataFrame:
    """Return a version's rows, of one split or of all; of rows of one key the last ingest's."""
    only = {"split": split} if split else {}
    parts = [warehouse.read(EXAMPLES, {"ingest_id": ingest_id, **only}, columns) for ingest_id in version.ingest_ids]
    rows = pd.concat(parts, ignore_index=True)
    # Each key stays at its first place, so that a correction changes labels and nothing else.
    latest = rows.drop_duplicates("example_id", keep="last").set_index("example_id")
    return latest.loc[rows["example_id"].unique()].reset_index()


def _load_split(warehouse: Warehouse, version: DatasetVersion, split: str) -> Examples:
    rows = rows_of(warehouse, version, ("example_id", "image", "label"), split)
    if len(rows) != version.counts[split]:
        raise NotFoundError(
            f"Version {version.version} lists {version.counts[split]} {split} rows",
            found=f"{len(rows)} in the warehouse",
            step="ingest its source again",
        )
    images = np.frombuffer(b"".join(rows["image"]), np.uint8).reshape(-1, *version.shape)
    place = {label: index for index, label in enumerate(version.labels)}
    return Examples(rows["example_id"].tolist(), images, rows["label"].map(place).to_numpy().astype(np.int64))


def _renew(warehouse: Warehouse, version: DatasetVersion) -> DatasetVersion:
    """Make a version that is there already the newest one again."""
    if find(warehouse) != version:
        warehouse.append(TABLES[DatasetVersion], pd.DataFrame([to_row(version)]))
    return version


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    return {split: int((rows["split"] == split).sum()) for split in (TRAIN, VALIDATION, HOLDOUT)}


def _rows(source: Source) -> pd.DataFrame:
    pixels = [image.tobytes() for image in source.images]
    height, width, channels = source.images.shape[1:]
    return pd.DataFrame(
        {
            "ingest_id": secrets.token_hex(8),
            "example_id": source.keys,
            "image": pixels,
            "height": height,
            "width": width,
            "channels": channels,
            "label": source.labels,
            "split": assign_splits(source.keys, source.declared_holdout),
            "sha256": [hashlib.sha256(image).hexdigest() for image in pixels],
            "ingested_at": now(),
        }
    )


def _checked(source: Source, repeats: float) -> tuple[pd.DataFrame, Report]:
    contract.check_source(source)
    rows = _rows(source)
    return rows, contract.check_rows(rows, source, repeats)


def _stored(warehouse: Warehouse, version: DatasetVersion) -> pd.DataFrame:
    """Return an ingest's rows as they are stored, without pixels, their SHA-256 computed anew; one split in memory at a time."""
    parts = []
    for split in (TRAIN, VALIDATION, HOLDOUT):
        where = {"ingest_id": version.ingest_ids[-1], "split": split}
        rows = warehouse.read(EXAMPLES, where, ("example_id", "label", "split", "image"))
        parts.append(rows.assign(sha256=[hashlib.sha256(image).hexdigest() for image in rows["image"]]).drop(columns="image"))
    return pd.concat(parts)


def _label_order(label: str) -> tuple[int, str]:
    return (int(label) if label.isdecimal() else 10**9, label)
