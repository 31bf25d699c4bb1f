"""The lines of a function on Google Cloud, in the table that Cloud Logging's sink fills, read as rows of `predictions`.

A sink writes LogEntry's own fields by their names, and what is in a structured line under `jsonPayload`, in small letters
(https://cloud.google.com/logging/docs/export/bigquery). Its tables are partitioned by the column `timestamp`; older sinks', by the time
of delivery.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from google.api_core.exceptions import NotFound

from rowmill.data import refusals, spans
from rowmill.data.client import Access
from rowmill.tables import Span, Table

TABLE = "run_googleapis_com_stdout"  # the log's name, as a sink with partitioned tables writes it
_PLACES = {"model_id": "jsonPayload.model", "log": "insertId", "log_end": "0", "answered_at": "CAST(jsonPayload.answered_at AS TIMESTAMP)"}
_EMPTY = {"STRING": "''", "JSON": "NULL", "INT64": "0", "FLOAT64": "0.0"}


class Sink:
    """A sink's table, in the part of `Warehouse` that asks for rows in time; its only table is `predictions`.

    It has a column for what lines have had so far: without any kept image there is no `images`. Numbers are FLOAT64 in it, and a line that
    was delivered twice stands there twice. Of rows, `log` is the entry's id.

    Args:
        access: The way to BigQuery.
        dataset: The data set that the sink writes to, in the project of `access`.
    """

    def __init__(self, access: Access, dataset: str) -> None:
        self._access = access
        self._name = f"{access.project}.{dataset}.{TABLE}"
        self._asked = refusals.Asked(self._name, access.project, access.location, f"BigQuery Data Viewer on data set {dataset}")

    def count(self, table: Table, span: Span, by: Sequence[str], step: str) -> pd.DataFrame:
        """Count lines by their age; see `Warehouse.count`."""
        with refusals.told(self._asked):
            there = self._there()
            query = spans.count(table, span, by, step, self._dialect(table, there))
            return spans.counted(self._access.ask(query) if there else pd.DataFrame(), table, by)

    def draw(self, table: Table, span: Span, columns: Sequence[str], share: float) -> pd.DataFrame:
        """Return a share of lines, each once; see `Warehouse.draw`."""
        with refusals.told(self._asked):
            there = self._there()
            query = spans.draw(table, span, [*(columns or table.columns), "log"], share, self._dialect(table, there))
            found = self._access.ask(query).drop_duplicates("log") if there else pd.DataFrame()
        texts = {str(name): [_json(value) for value in found[name]] for name in found if table.columns[str(name)] == "JSON"}
        return spans.drawn(found.assign(**texts), table, columns)

    def _there(self) -> set[str]:
        """Return what lines have had so far; nothing where none was delivered yet."""
        try:
            schema = {field.name: field for field in self._access.client.get_table(self._name).schema}
        except NotFound:
            return set()
        return {field.name for field in schema["jsonPayload"].fields}

    def _dialect(self, table: Table, there: set[str]) -> spans.Dialect:
        def column(name: str) -> str:
            kind = table.columns[name]
            if name in _PLACES:
                return _PLACES[name]
            if name not in there:
                return _EMPTY[kind]
            said = f"CAST(jsonPayload.{name} AS INT64)" if kind == "INT64" else f"jsonPayload.{name}"
            return said if kind == "JSON" else f"IFNULL({said}, {_EMPTY[kind]})"

        # By Cloud Logging's clock: what lies outside is not read, and not billed.
        said = spans.google(f"`{self._name}`", "insertId")
        return spans.Dialect(said.name, said.moment, said.drawn, "COUNT(DISTINCT insertId)", column, age="timestamp")


def _json(value: Any) -> str:
    """Return a repeated field as JSON; Cloud Logging leaves out what is empty."""
    return json.dumps(np.asarray(value).tolist() if isinstance(value, list | np.ndarray) else [])
