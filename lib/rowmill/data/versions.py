"""What happens to data set versions after their ingest: labels are corrected, two versions are compared."""

import dataclasses
import secrets
from collections.abc import Mapping

import numpy as np
import pandas as pd

from rowmill import settings
from rowmill.data import contract, dataset
from rowmill.data.warehouse import Warehouse
from rowmill.errors import NotFoundError, SourceError
from rowmill.records import DatasetVersion, now
from rowmill.tables import EXAMPLES, TABLES, to_row


def correct(warehouse: Warehouse, version: DatasetVersion, labels: Mapping[str, str], reason: str) -> DatasetVersion:
    """Make a version in which some keys have other labels; only the changed rows are stored anew.

    Args:
        warehouse: Where to.
        version: The version to start from; it stays as it is.
        labels: Key to its right label.
        reason: Why, in the words of whoever corrects.

    Raises:
        NotFoundError: A key is not in the version.
        SourceError: A label is not in the version's label set.
    """
    rows = dataset.rows_of(warehouse, version)
    unknown = sorted(set(labels) - set(rows["example_id"]))
    if unknown:
        raise NotFoundError(f"Version {version.version} has no key {unknown[0]!r}", step="give keys as the doctor lists them")
    foreign = sorted(set(labels.values()) - set(version.labels))
    if foreign:
        raise SourceError(f"Version {version.version} has no label {foreign[0]!r}", step=f"use one of {', '.join(version.labels)}")
    corrected = rows.assign(label=rows["example_id"].map(labels).fillna(rows["label"]))
    changed = corrected[corrected["label"] != rows["label"]].assign(ingest_id=secrets.token_hex(8), ingested_at=now())
    if changed.empty:
        return version
    fingerprint = contract.fingerprint(corrected)
    made = dataclasses.replace(
        version,
        version=fingerprint[:12],
        fingerprint=fingerprint,
        ingest_ids=(*version.ingest_ids, changed["ingest_id"].iloc[0]),
        actor=settings.actor(),
        reason=reason,
        at=now(),
    )
    warehouse.append(EXAMPLES, changed)
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
