"""What happens to data set versions after their ingest: labels are corrected, examples are added, two versions are compared."""

import dataclasses
import secrets
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from rowmill import settings
from rowmill.data import contract, dataset
from rowmill.data.reading import Source
from rowmill.data.warehouse import Warehouse
from rowmill.errors import NotFoundError, ParameterError, SourceError
from rowmill.records import DatasetVersion, now
from rowmill.tables import EXAMPLES, TABLES, to_row


def table(warehouse: Warehouse, service: str) -> pd.DataFrame:
    """Return a service's data set versions, the newest first.

    Returns:
        Columns `version`, `at` (UTC), `actor`, `reason`, `source`, `train`, `validation`, `holdout` (rows), `labels` (count).
    """
    known = reversed(dataset.versions(warehouse, service))
    named = ("version", "at", "actor", "reason", "source")
    rows = [{**{name: getattr(v, name) for name in named}, **v.counts, "labels": len(v.labels)} for v in known]
    return pd.DataFrame(rows, columns=[*named, contract.TRAIN, contract.VALIDATION, contract.HOLDOUT, "labels"])


def changes(warehouse: Warehouse, version: DatasetVersion) -> pd.DataFrame:
    """Return what differs from the version that came before it; see `difference`. For a service's first one, nothing."""
    known = sorted(dataset.versions(warehouse, version.service), key=lambda v: v.at)
    before = [v for v in known if v.at < version.at and v.ingest_ids != version.ingest_ids]
    return difference(warehouse, before[-1] if before else version, version)


def correct(warehouse: Warehouse, version: DatasetVersion, labels: Mapping[str, str], reason: str) -> DatasetVersion:
    """Make a version in which some keys have other labels; only the changed rows are stored anew.

    Args:
        warehouse: Where to.
        version: The version to start from; it stays as it is.
        labels: Key to its right label.
        reason: Why, in the words of whoever corrects.

    Raises:
        NotFoundError: A key is not in the version.
        ParameterError: There is no reason, or a key or label is no text.
        SourceError: A label is not in the version's label set, or would have too few rows in a split.
    """
    if not isinstance(labels, Mapping) or not all(isinstance(text, str) for pair in labels.items() for text in pair):
        raise ParameterError("Corrections must be keys with their right labels, both texts", found=repr(labels)[:80], step="quote them")
    if not labels:
        return version
    if not reason.strip():
        raise ParameterError(f"{len(labels)} corrections of labels need a reason", step="give one, such as reason='seen by eye'")
    rows = dataset.rows_of(warehouse, version)
    unknown = sorted(set(labels) - set(rows["example_id"]))
    if unknown:
        raise NotFoundError(f"Version {version.version} has no key {unknown[0]!r}", step="give keys as the doctor lists them")
    foreign = sorted(set(labels.values()) - set(version.labels))
    if foreign:
        raise SourceError(f"Version {version.version} has no label {foreign[0]!r}", step=f"use one of {', '.join(version.labels)}")
    corrected = rows.assign(label=[labels.get(key, label) for key, label in zip(rows["example_id"], rows["label"], strict=True)])
    changed = corrected[corrected["label"] != rows["label"]].assign(ingest_id=secrets.token_hex(8), ingested_at=now())
    if changed.empty:
        return version
    contract.check_labels(corrected, version.labels, f"Version {version.version}, corrected,")
    fingerprint = contract.fingerprint(corrected, version.shape)
    made = dataclasses.replace(
        version,
        version=fingerprint[:12],
        fingerprint=fingerprint,
        label_counts=contract.label_counts(corrected),
        ingest_ids=(*version.ingest_ids, changed["ingest_id"].iloc[0]),
        actor=settings.actor(),
        reason=reason,
        at=now(),
    )
    warehouse.append(EXAMPLES, changed)
    warehouse.append(TABLES[DatasetVersion], pd.DataFrame([to_row(made)]))
    return made


def extend(warehouse: Warehouse, version: DatasetVersion, source: Source, reason: str, training: Collection[str] = ()) -> DatasetVersion:
    """Make a version that has the examples of a source, too; those whose key or pixels are in the version already are left out.

    Args:
        warehouse: Where to.
        version: The version to start from; it stays as it is.
        source: The examples to add; its declared holdout is not read.
        reason: Why, in the words of whoever adds them.
        training: Keys of the source that do not go into the holdout.

    Raises:
        ParameterError: There is no reason.
        SourceError: The examples are not of the version's shape or labels, or break the contract.
        IntegrityError: The warehouse does not hold what it was sent.
    """
    if not reason.strip():
        raise ParameterError(f"{len(source.keys)} new examples need a reason", step="give one, such as reason='labelled requests of May'")
    contract.check_source(source)
    foreign = sorted(set(source.labels) - set(version.labels))
    if foreign or source.images.shape[1:] != version.shape:
        found = f"label {foreign[0]!r}" if foreign else f"the shape {source.images.shape[1:]}"
        what = f"Examples for version {version.version} must have its shape {version.shape} and its labels"
        raise SourceError(what, found=f"{found} in {source.origin}", step="leave these out, or ingest a source of their own")
    there = dataset.rows_of(warehouse, version, ("example_id", "label", "split", "sha256"))
    rows = dataset.rows_from(source)
    is_spared = (rows["split"] == contract.HOLDOUT) & rows["example_id"].isin(training)
    rows = rows.assign(split=rows["split"].mask(is_spared, contract.TRAIN))
    rows = rows[~rows["example_id"].isin(there["example_id"]) & ~rows["sha256"].isin(there["sha256"])].drop_duplicates("sha256")
    return _extended(warehouse, version, rows, there, f"{len(rows)} of {source.origin}: {reason}") if len(rows) else version


def _extended(warehouse: Warehouse, version: DatasetVersion, rows: pd.DataFrame, there: pd.DataFrame, reason: str) -> DatasetVersion:
    """Store rows beside those that are there, and list them all as a version."""
    whole = pd.concat([there, rows[there.columns]], ignore_index=True)
    fingerprint = contract.fingerprint(whole, version.shape)
    made = dataclasses.replace(
        version,
        version=fingerprint[:12],
        fingerprint=fingerprint,
        label_counts=contract.label_counts(whole),
        counts={split: int((whole["split"] == split).sum()) for split in version.counts},
        ingest_ids=(*version.ingest_ids, rows["ingest_id"].iloc[0]),
        actor=settings.actor(),
        reason=reason,
        at=now(),
    )
    warehouse.append(EXAMPLES, rows)
    contract.check_stored(rows, dataset.stored(warehouse, made))
    warehouse.append(TABLES[DatasetVersion], pd.DataFrame([to_row(made)]))
    return made


def difference(warehouse: Warehouse, old: DatasetVersion, new: DatasetVersion) -> pd.DataFrame:
    """Return what differs between two versions, one row per key.

    Returns:
        Columns `key`, `change` (`added`, `removed`, `relabelled`, `other pixels`), `label_before`, `label_after`, in key order.
    """
    columns = ("example_id", "label", "sha256")
    before, after = (dataset.rows_of(warehouse, version, columns).set_index("example_id") for version in (old, new))
    both = before.merge(after, how="outer", left_index=True, right_index=True, suffixes=("_before", "_after")).sort_index()
    added, removed = both["label_before"].isna(), both["label_after"].isna()
    relabelled = both["label_before"] != both["label_after"]
    change = np.select(
        [added, removed, relabelled, both["sha256_before"] != both["sha256_after"]], ["added", "removed", "relabelled", "other pixels"], ""
    )
    found = pd.DataFrame(
        {"key": both.index, "change": change, "label_before": both["label_before"].array, "label_after": both["label_after"].array}
    )
    return found[found["change"] != ""].reset_index(drop=True)
