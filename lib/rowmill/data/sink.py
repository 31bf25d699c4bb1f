"""The lines of a function on Google Cloud, in the table that Cloud Logging's sink fills, as rows of `predictions`."""

import datetime
import json
from typing import Any

import numpy as np
import pandas as pd
from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from rowmill.data import refusals
from rowmill.data.client import Access
from rowmill.data.rows import as_kinds
from rowmill.tables import PREDICTIONS

TABLE = "run_googleapis_com_stdout"  # the log's name, as a sink with partitioned tables writes it
_RENAMED = {"model_id": "model", "log": "insertId"}
_EMPTY = {"STRING": "", "INT64": 0, "FLOAT64": 0.0}


def read(access: Access, dataset: str, service: str, since: datetime.datetime) -> pd.DataFrame:
    """Return a service's requests since a moment, each once, in the order of their answers.

    A sink's table has a column for what a line has had so far: without any kept image there is no `images`. Numbers are FLOAT64 in it, and
    a line that was delivered twice stands there twice.

    Args:
        access: The way to BigQuery.
        dataset: The data set that the sink writes to, in the project of `access`.
        service: Whose requests.
        since: The first moment, by Cloud Logging's clock; what lies before is not read, and not billed.

    Returns:
        The columns of `predictions`; `log` is the entry's id, `log_end` 0. Empty where nothing was delivered yet.

    Raises:
        WarehouseError: BigQuery refuses, or cannot be reached.
    """
    name = f"{access.project}.{dataset}.{TABLE}"
    with refusals.told(refusals.Asked(name, access.project, access.location, f"BigQuery Data Viewer on data set {dataset}")):
        try:
            schema = {field.name: field for field in access.client.get_table(name).schema}
        except NotFound:
            return _rows(pd.DataFrame())
        there = {field.name for field in schema["jsonPayload"].fields}
        wanted = [column for column in PREDICTIONS.columns if _RENAMED.get(column, column) in there]
        picked = ", ".join(f"jsonPayload.{_RENAMED.get(column, column)} AS {column}" for column in wanted)
        query = f"SELECT {picked}, insertId AS log FROM `{name}` WHERE timestamp >= @since AND jsonPayload.service = @service"
        parameters = [
            bigquery.ScalarQueryParameter("since", "TIMESTAMP", since),
            bigquery.ScalarQueryParameter("service", "STRING", service),
        ]
        return _rows(access.read(query, parameters))


def _rows(found: pd.DataFrame) -> pd.DataFrame:
    columns = {
        name: [_value(kind, value) for value in found[name]] if name in found else [_value(kind, None)] * len(found)
        for name, kind in PREDICTIONS.columns.items()
    }
    once = as_kinds(PREDICTIONS, pd.DataFrame(columns, dtype=object)).drop_duplicates("log")
    return once.sort_values("answered_at", kind="stable", ignore_index=True)


def _value(kind: str, value: Any) -> Any:
    """Return a value in its kind; Cloud Logging leaves out what is empty."""
    if kind == "JSON":
        return json.dumps([] if value is None else np.asarray(value).tolist())
    return _EMPTY.get(kind, value) if pd.isna(value) else value
