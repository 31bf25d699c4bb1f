"""The tables that keep the records: schemas as values, and the way from a record to a row and back."""

import dataclasses
import datetime
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass

from rowmill.records import DatasetVersion, Deployment, HoldoutUse, ModelRecord, Report, Trial, Verdict
from rowmill.run import Run

Record = typing.TypeVar("Record")


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: Its name.
        columns: Name to one of STRING, INT64, FLOAT64, TIMESTAMP, BYTES, JSON.
        age: The column of kind TIMESTAMP by which rows grow old, where rows may leave the table; empty: they never do.
        indexes: Columns by which a large table is looked up, each a tuple of names.
    """

    name: str
    columns: Mapping[str, str]
    age: str = ""
    indexes: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Span:
    """Some rows of a table with an age.

    Attributes:
        since, until: From this moment on, and before that one; an end that is None is open.
        where: Column name to the value it must equal.
        unlike: Column of texts to what they must not begin with.
    """

    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    where: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unlike: Mapping[str, str] = dataclasses.field(default_factory=dict)


_KINDS = {str: "STRING", int: "INT64", float: "FLOAT64", datetime.datetime: "TIMESTAMP"}


def _table(name: str, record: type) -> Table:
    hints = typing.get_type_hints(record)
    stored = [f.name for f in dataclasses.fields(record) if "table" not in f.metadata]
    return Table(name, {field: _KINDS.get(hints[field], "JSON") for field in stored})


EXAMPLES = Table(
    "examples",
    {
        "ingest_id": "STRING",
        "example_id": "STRING",
        "image": "BYTES",
        "height": "INT64",
        "width": "INT64",
        "channels": "INT64",
        "label": "STRING",
        "split": "STRING",
        "sha256": "STRING",
        "ingested_at": "TIMESTAMP",
    },
)
# One row per request; lists of one value per instance are JSON.
PREDICTIONS = Table(
    "predictions",
    {
        "answered_at": "TIMESTAMP",
        "request_id": "STRING",
        "service": "STRING",
        "model_id": "STRING",
        "code": "INT64",  # of HTTP; what is not 200 has no instances
        "instances": "INT64",
        "latency_ms": "FLOAT64",
        "labels": "JSON",
        "confidences": "JSON",  # 0 to 1
        "means": "JSON",  # of an instance's pixels, 0 to 255, and their deviation
        "deviations": "JSON",
        "images": "JSON",  # the pixels' bytes in base64, where they are kept
        "hash": "STRING",  # HMAC-SHA256 of all pixels, where there is a key
        "log": "STRING",  # the file that the line stood in, and where it ended there, in bytes
        "log_end": "INT64",
    },
    age="answered_at",
    # How far a file was taken in; and, without a look at the rows, how many requests there were of what kind.
    indexes=(("log", "log_end"), ("service", "answered_at", "request_id", "model_id", "code")),
)
# What instances of requests truly are, as it becomes known; of one who labels, the latest counts, and an empty label takes it back.
TRUTHS = Table(
    "truths",
    {
        "service": "STRING",
        "request_id": "STRING",
        "place": "INT64",  # of the instance in its request, from 0
        "label": "STRING",
        "chosen": "STRING",  # how it came to be labelled, as `truth.CHOSEN` has it
        "labelled_by": "STRING",
        "labelled_at": "TIMESTAMP",
    },
    age="labelled_at",
)
# One row per row of a batch; of two with one batch and row, the latest counts.
SCORES = Table(
    "scores",
    {
        "batch_id": "STRING",
        "row": "INT64",  # its place in the source, from 0
        "rows": "INT64",  # of the source: as many has the batch when it is whole
        "key": "STRING",
        "label": "STRING",
        "confidence": "FLOAT64",  # 0 to 1
        "probabilities": "JSON",  # in the order of the model's labels
        "service": "STRING",
        "model_id": "STRING",
        "source": "STRING",  # where the rows came from, in words
        "scored_by": "STRING",
        "scored_at": "TIMESTAMP",
    },
)
TABLES: dict[type, Table] = {
    DatasetVersion: _table("dataset_versions", DatasetVersion),
    Trial: _table("trials", Trial),
    ModelRecord: _table("models", ModelRecord),
    Verdict: _table("verdicts", Verdict),
    Report: _table("reports", Report),
    HoldoutUse: _table("holdout_uses", HoldoutUse),
    Deployment: _table("deployments", Deployment),
    Run: _table("runs", Run),
}


def to_row(record: typing.Any) -> dict[str, typing.Any]:
    """Return the record as one row of its table; tuples and dicts become JSON text."""
    columns = TABLES[type(record)].columns
    values = {name: getattr(record, name) for name in columns}
    return {name: json.dumps(value) if columns[name] == "JSON" else value for name, value in values.items()}


def from_row(kind: type[Record], row: Mapping[typing.Any, typing.Any]) -> Record:
    """Return the record that `to_row` made this row of."""
    hints = typing.get_type_hints(kind)
    values: dict[str, typing.Any] = {}
    for name, column in TABLES[kind].columns.items():
        if column == "JSON":
            loaded = json.loads(row[name])
            values[name] = tuple(loaded) if typing.get_origin(hints[name]) is tuple else loaded
        elif column == "TIMESTAMP":
            values[name] = row[name].to_pydatetime()
        else:
            values[name] = hints[name](row[name])
    return kind(**values)
