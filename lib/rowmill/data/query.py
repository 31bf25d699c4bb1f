"""A BigQuery table or query, with columns for key, image and label, as a source."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from google.cloud import bigquery

from rowmill.data import images, refusals
from rowmill.data.client import Access
from rowmill.data.reading import Reading, Source, is_query, same_shape, service_of_table
from rowmill.data.refusals import Asked
from rowmill.errors import SettingsError, SourceError
from rowmill.records import now
from rowmill.settings import Settings

_KINDS = {
    "key": ("STRING", "INTEGER"),
    "image": ("BYTES",),
    "label": ("STRING", "INTEGER", "BOOLEAN"),
    "holdout": ("BOOLEAN",),
}
_ENCODED = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # how PNG and JPEG files begin
_TABLE = re.compile(r"(?:(?P<project>[a-z0-9.:-]+)\.)?(?P<dataset>\w+)\.(?P<table>[\w-]+)")


def load(wanted: str, reading: Reading, project: Settings) -> Source:
    """Read a table or query; what it will read is printed before, and it is refused where that is more than the project allows.

    Images are all PNG and JPEG files, or all raw: uint8 pixels row by row, channels last, laid out by `reading.size`.

    Args:
        wanted: `project.dataset.table`, `dataset.table` of the settings' project, or a query in GoogleSQL.
        reading: Its columns, and the images' size and colour.
        project: The settings; their project pays, or else the table's own.

    Raises:
        SourceError: A column is missing or of another kind, there are no rows, or an image cannot be read; named with its key.
        SettingsError: No project pays.
        WarehouseError: Google refuses, or the query would be billed more than is allowed.
    """
    access, origin, asked = _place(wanted, project)
    with refusals.told(asked):
        query = _select(asked, _roles(reading), origin, access.dry_run(f"SELECT * FROM {origin}").schema or [])
        access.announce(asked.what, access.dry_run(query).total_bytes_processed or 0)
        rows = access.read(query).sort_values("key", kind="stable", ignore_index=True)
    if rows.empty:
        raise SourceError(f"BigQuery's {_noun(asked)} has no rows", step="give one that has some")
    keys, origin = _texts(rows["key"]), f"BigQuery's {_noun(asked)}"
    declared = _holdout(rows["holdout"], origin) if "holdout" in rows else np.zeros(len(rows), dtype=bool)
    pixels = _pixels(keys, rows["image"].tolist(), origin, reading)
    labels = _texts(rows["label"]) if reading.labelled else [""] * len(rows)
    return Source(service_of_table(wanted), origin, keys, pixels, labels, declared)


def mark(wanted: str, project: Settings) -> str:
    """Return what is another text when a table has changed, free of cost; for a query, of which only a run can tell, always another.

    Args:
        wanted: As in `load`.
        project: As in `load`.

    Raises:
        SourceError: It is no table and no query.
        SettingsError: No project pays.
        WarehouseError: Google refuses.
    """
    access, origin, asked = _place(wanted, project)
    if is_query(wanted):
        return now().isoformat()
    with refusals.told(asked):
        table = access.client.get_table(origin.strip("`"))
        return f"{table.num_rows} rows, modified {table.modified}"


def _place(wanted: str, project: Settings) -> tuple[Access, str, Asked]:
    """Return the way to a table or query, how a query names it, and what it is called in sentences."""
    found = _TABLE.fullmatch(wanted)
    if not found and not is_query(wanted):
        raise SourceError(f"{wanted!r} is no table of BigQuery", step="give project.dataset.table, or a query that begins with SELECT")
    payer = project.warehouse_project or (found and found["project"])
    if not payer:
        raise SettingsError(
            f"No project pays for the query {' '.join(wanted.split())[:60]!r}",
            step="set warehouse.project in rowmill.toml to one that `gcloud projects list` shows",
        )
    # Without a location: Google runs a query where its tables lie.
    access = Access(payer, "", project.warehouse_maximum_bytes_billed, project.warehouse_emulator)
    if not found:
        return access, f"(\n{wanted.strip().rstrip(';')}\n)", Asked("the query", payer, "", "BigQuery Data Viewer on its tables")
    owner = found["project"] or payer
    name = f"{owner}.{found['dataset']}.{found['table']}"
    return access, f"`{name}`", Asked(f"table {name}", payer, "", f"BigQuery Data Viewer on data set {owner}.{found['dataset']}")


def _roles(reading: Reading) -> dict[str, str]:
    """Return which columns are wanted as what."""
    return {role: name for role, name in vars(reading.columns).items() if name and (reading.labelled or role in ("key", "image"))}


def _select(asked: Asked, roles: Mapping[str, str], origin: str, schema: list[bigquery.SchemaField]) -> str:
    """Return the query of the wanted columns alone, once they are known to be there."""
    there = {field.name: f"ARRAY of {field.field_type}" if field.mode == "REPEATED" else field.field_type for field in schema}
    for role, name in roles.items():
        if name not in there:
            names = ", ".join(there)
            raise SourceError(f"BigQuery's {_noun(asked)} has no column {name!r} for the {role}", found=names, step=f"give {role}_column")
        if there[name] not in _KINDS[role]:
            raise SourceError(
                f"Column {name!r} of BigQuery's {_noun(asked)} must be {' or '.join(_KINDS[role])} to be the {role}",
                found=there[name],
                step=f"convert it in a query, or give another {role}_column",
            )
    return f"SELECT {', '.join(f'`{name}` AS {role}' for role, name in roles.items())} FROM {origin}"


def _noun(asked: Asked) -> str:
    return asked.what.removeprefix("the ")


def _texts(values: pd.Series) -> list[Any]:
    """Return whole numbers, truth values and texts as texts; what is missing stays None, for the contract to name."""
    return [None if pd.isna(value) else str(value) for value in values]


def _pixels(keys: list[str], values: list[Any], origin: str, reading: Reading) -> npt.NDArray[np.uint8]:
    missing = [key for key, value in zip(keys, values, strict=True) if not value]
    if missing:
        raise SourceError(
            f"{origin} must have an image in each row",
            found=f"{len(missing)} without one, first {', '.join(map(repr, missing[:3]))}",
            step="take these rows out, by a query",
        )
    raw = reading.shape and {len(value) for value in values} <= {math.prod(reading.shape) * channels for channels in (1, 3)}
    if not raw and any(value.startswith(_ENCODED) for value in values):
        decoded = [images.decode(value, f"the image of key {key!r}", reading) for key, value in zip(keys, values, strict=True)]
        return same_shape([f"The image of key {key!r}" for key in keys], decoded)
    return _raw(keys, values, origin, reading)


def _holdout(values: pd.Series, origin: str) -> npt.NDArray[np.bool_]:
    """Return which rows only judge."""
    if values.isna().any() or not values.any():
        found = f"{int(values.isna().sum())} nulls" if values.isna().any() else "no true"
        raise SourceError(
            f"The holdout column of {origin} must be true or false in each row, and true in some", found=found, step="mend it by a query"
        )
    return values.to_numpy(bool)


def _raw(keys: list[str], values: list[bytes], origin: str, reading: Reading) -> npt.NDArray[np.uint8]:
    if not reading.shape:
        raise SourceError(
            f"The images of {origin} are neither PNG nor JPEG files, and raw pixels need their size",
            found=f"{len(values[0])} bytes for key {keys[0]!r}",
            step="give size, such as size='28x28'",
        )
    pixels = math.prod(reading.shape)
    channels = {"grey": 1, "rgb": 3}.get(reading.colour, 3 if len(values[0]) == 3 * pixels else 1)
    wrong = [(key, len(value)) for key, value in zip(keys, values, strict=True) if len(value) != channels * pixels]
    if wrong:
        raise SourceError(
            f"Raw images of {origin} must have {channels * pixels} bytes, {channels} for each of {reading.size} pixels",
            found=f"{len(wrong)} that have not, the first {wrong[0][1]} for key {wrong[0][0]!r}",
            step="give their size and colour, or take these rows out",
        )
    return np.frombuffer(b"".join(values), np.uint8).reshape(-1, *reading.shape, channels)
