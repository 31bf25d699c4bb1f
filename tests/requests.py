"""Requests on record: the lines that a function writes, on this machine and as Cloud Logging's sink delivers them."""

import datetime
import json
from typing import Any

from google.cloud import bigquery
from rowmill.data import sink
from rowmill.data.client import Access
from rowmill.records import now

MODEL = "aaaaaaaa-t001"


def line(request_id: str, age_days: float = 0.0, **changed: Any) -> bytes:
    """Return a line as the function writes it."""
    moment = now() - datetime.timedelta(days=age_days)
    told = {"kind": "prediction", "service": "digits", "model": MODEL, "answered_at": moment.isoformat()}
    told |= {"request_id": request_id, "code": 200, "latency_ms": 1.5, "instances": 1, "labels": ["7"], "confidences": [0.9]}
    return json.dumps({**told, "means": [12.5], "deviations": [3.0], **changed}).encode() + b"\n"


def refusal(request_id: str, code: int = 400, **changed: Any) -> bytes:
    """Return the line of a request that was not answered: nothing of its input is in it."""
    told = json.loads(line(request_id, **changed)) | {"code": code, "instances": 0}
    return json.dumps({name: value for name, value in told.items() if not isinstance(value, list)}).encode() + b"\n"


def deliver(access: Access, dataset: str, lines: list[bytes], twice: tuple[int, ...] = ()) -> None:
    """Write lines as a sink does: into columns for what they have, numbers as FLOAT64, those at the places `twice` two times."""
    payloads = [json.loads(each) for each in lines]
    values = {name: value for payload in payloads for name, value in payload.items() if value != []}
    payload_fields = [_field(name, value) for name, value in sorted(values.items())]
    whole = {"insertId": "STRING", "logName": "STRING", "timestamp": "TIMESTAMP", "receiveTimestamp": "TIMESTAMP", "severity": "STRING"}
    labels = [bigquery.SchemaField(name, "STRING") for name in ("service_name", "revision_name", "location", "project_id")]
    resource = [bigquery.SchemaField("type", "STRING"), bigquery.SchemaField("labels", "RECORD", fields=labels)]
    schema = [
        *(bigquery.SchemaField(name, kind) for name, kind in whole.items()),
        bigquery.SchemaField("resource", "RECORD", fields=resource),
        bigquery.SchemaField("jsonPayload", "RECORD", fields=payload_fields),
    ]
    table = bigquery.Table(f"{access.project}.{dataset}.{sink.TABLE}", schema)
    table.time_partitioning = bigquery.TimePartitioning(field="timestamp")
    access.client.create_dataset(f"{access.project}.{dataset}", exists_ok=True)
    made = access.client.create_table(table, exists_ok=True)
    entries = [_entry(place, payload) for place, payload in enumerate(payloads)]
    config = bigquery.LoadJobConfig(schema=schema)
    access.client.load_table_from_json([*entries, *(entries[place] for place in twice)], made, job_config=config).result()


def _field(name: str, value: Any) -> bigquery.SchemaField:
    one = value[0] if isinstance(value, list) else value
    return bigquery.SchemaField(
        name, "STRING" if isinstance(one, str) else "FLOAT64", "REPEATED" if isinstance(value, list) else "NULLABLE"
    )


def _entry(place: int, payload: dict[str, Any]) -> dict[str, Any]:
    moment = payload["answered_at"]
    labels = {"service_name": payload["service"], "revision_name": "r", "location": "europe-west1", "project_id": "p"}
    head = {"insertId": f"entry-{place:04d}", "logName": "projects/p/logs/run.googleapis.com%2Fstdout", "severity": "DEFAULT"}
    resource = {"type": "cloud_run_revision", "labels": labels}
    return {**head, "timestamp": moment, "receiveTimestamp": moment, "resource": resource, "jsonPayload": payload}
