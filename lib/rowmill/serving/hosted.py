"""The function as this machine's host serves it: under the names of this machine alone.

A page of another site can let its own name lead to 127.0.0.1 and ask from a visitor's browser; what it sends then says its own name.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import functions_framework
from werkzeug.sansio.utils import host_is_trusted

from rowmill.serving import lines

_OWN = ["127.0.0.1", "localhost"]
_Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def create_app(lines_folder: str) -> _Wsgi:
    """Return the function that `FUNCTION_SOURCE` names, for gunicorn; its lines go into files of a folder."""
    writer = lines.Writer(Path(lines_folder))
    function: _Wsgi = functions_framework.create_app()  # type: ignore[no-untyped-call]

    def guarded(request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        host = str(request.get("HTTP_HOST", ""))
        if host_is_trusted(host, _OWN):
            writer.turn()
            return function(request, start_response)
        message = f"This host answers as 127.0.0.1 and localhost alone; found {host[:80]!r}; ask it by one of these names."
        body = json.dumps({"error": {"code": 421, "message": message, "status": "FAILED_PRECONDITION"}}).encode()
        start_response("421 Misdirected Request", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return guarded
