"""Answer AWS Lambda's events, of a function URL or API Gateway's HTTP API; the handler is `aws_lambda.handle`."""

import base64
from pathlib import Path
from typing import Any

import functions_framework

APP = functions_framework.create_app("predict", str(Path(__file__).with_name("main.py")))  # type: ignore[no-untyped-call]
FUNCTION = APP.test_client()


def handle(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Answer one event of payload version 2.0."""
    body = event.get("body") or ""
    data = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    headers = {name: value for name, value in event.get("headers", {}).items() if name.lower() not in ("content-length", "host")}
    method = event["requestContext"]["http"]["method"]
    answer = FUNCTION.open(event["rawPath"], method=method, headers=headers, data=data)
    return {"statusCode": answer.status_code, "headers": dict(answer.headers), "body": answer.get_data(as_text=True)}
