"""What a call of one of Google's APIs is here, and how it is answered or refused."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from werkzeug import Request, Response

Json = dict[str, Any]
NUMBER = "123456789012"  # the number of whichever project; some calls name a project by it
STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ApiError(Exception):
    """A refusal in the form that all of Google's APIs share."""

    def __init__(self, code: int, message: str, status: str = "") -> None:
        super().__init__(message)
        self.code, self.status = code, status or STATUS.get(code, "UNKNOWN")

    @property
    def content(self) -> Json:
        """The body of the answer."""
        return {"error": {"code": self.code, "message": str(self), "status": self.status}}


@dataclass(frozen=True)
class Call:
    """One call: `api` is such as `run`, `region` is empty for global hosts, `names` are the variables in the route's path."""

    request: Request
    api: str
    region: str
    account: str = ""
    names: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The body as it came."""
        return self.request.get_data()

    @property
    def content(self) -> Json:
        """The body's JSON object.

        Raises:
            ApiError: It is none.
        """
        try:
            content = json.loads(self.body or b"{}")
        except ValueError:
            raise ApiError(400, "Invalid JSON payload received.") from None
        if not isinstance(content, dict):
            raise ApiError(400, "Invalid JSON payload received.")
        return content

    def query(self, name: str) -> str:
        """Return a parameter of the address, or an empty text."""
        return self.request.args.get(name, "")


Answer = Json | Response
Handler = Callable[[Call], Answer]
Routes = dict[str, Handler]  # "METHOD api/path/<name>" to what answers


def now() -> str:
    """Return the time as Google writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def done(name: str, kind: str, response: Json | None = None) -> Json:
    """Return a long-running operation that has ended well, `kind` such as `run.v2.Service`."""
    return {"name": name, "done": True, "metadata": {}, "response": {"@type": f"type.googleapis.com/{kind}", **(response or {})}}
