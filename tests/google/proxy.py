"""The HTTP proxy that gcloud is told to use: routes each call to what answers it, keeps a list of them, and lets faults happen."""

import contextlib
import json
import re
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from werkzeug import Request, Response
from werkzeug.exceptions import ClientDisconnected, HTTPException
from werkzeug.routing import BaseConverter, Map, Rule
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.google.faults import Faults, Refused
from tests.google.wire import ApiError, Call, Routes

HOST = re.compile(r"(?:([a-z]+-[a-z]+\d+)-)?([a-z0-9]+)\.googleapis\.com")
OPEN = ("oauth2/", "storage/signed/")  # asked without an access token


@dataclass
class Seen:
    """One call that came; `status` is 0 as long as it is not answered, and where the connection was reset."""

    method: str
    url: str
    account: str = ""
    status: int = 0

    def __str__(self) -> str:
        return f"{self.method} {self.url} {self.status}"


class Proxy:
    """The server.

    Attributes:
        requests: All calls that came, in their order.
        unknown: Those among them that have no route here.
        broken: Tracebacks of what the stub itself did wrong.
        faults: What goes wrong on purpose.
    """

    def __init__(self, routes: Routes, caller: Callable[[str], str], secure: ssl.SSLContext) -> None:
        self.requests: list[Seen] = []
        self.unknown: list[str] = []
        self.broken: list[str] = []
        self.faults = Faults()
        self._caller = caller
        self._map = Map(converters={"default": _Name})
        for line, handler in routes.items():
            method, path = line.split(" ")
            self._map.add(Rule(f"/{path}", endpoint=handler, methods=[method]))
        handler = type("_SecureHandler", (_Handler,), {"secure": secure})
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=handler)
        self.port = int(self._server.server_port)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self.faults.clear()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        seen = Seen(request.method, request.url.split("://", 1)[1])
        self.requests.append(seen)
        try:
            response = self._routed(request, seen)
        except Refused:
            connection: socket.socket = environ["werkzeug.socket"]
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError from None
        except ApiError as error:
            response = _json(error.content, error.code)
        except ClientDisconnected:
            raise ConnectionResetError from None
        except Exception:
            self.broken.append(f"{seen}: {traceback.format_exc()}")
            raise
        seen.status = response.status_code
        return response(environ, start_response)

    def _routed(self, request: Request, seen: Seen) -> Response:
        host = HOST.fullmatch(request.host)
        path = f"/{host[2] if host else request.host}{request.path}"
        try:
            handler, names = self._map.bind("stub").match(path, method=request.method)
        except HTTPException:
            self.unknown.append(str(seen))
            raise ApiError(404, f"The stub has no route for {seen.method} {seen.url}") from None
        seen.account = self._caller(request.headers.get("Authorization", ""))
        if not seen.account and not path.startswith(tuple(f"/{api}" for api in OPEN)):
            raise ApiError(401, "Request had invalid authentication credentials. Expected OAuth 2 access token.")
        call = Call(request, host[2] if host else "", (host[1] or "") if host else "", seen.account, dict(names))
        answer = self.faults.act(call, late=False)
        if answer is None:
            answer = handler(call)
            answer = self.faults.act(call, late=True) or answer
        return answer if isinstance(answer, Response) else _json(answer, 200)


def _json(content: Any, code: int) -> Response:
    return Response(json.dumps(content), code, content_type="application/json; charset=UTF-8")


class _Name(BaseConverter):
    """A part of a path without a custom verb behind it, as `services` in `services:batchGet`."""

    regex = "[^/:]+"


class _Handler(WSGIRequestHandler):
    """Takes requests as a proxy does; at the end of the tunnel that https asks for it answers itself."""

    secure: ssl.SSLContext
    disable_nagle_algorithm = True

    def do_CONNECT(self) -> None:  # pylint: disable=invalid-name  # http.server's way
        """Begin TLS; what comes then is read from inside it."""
        self.send_response_only(200)
        self.end_headers()
        self.connection = self.secure.wrap_socket(self.connection, server_side=True)
        self.rfile.close()
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", 0)

    def finish(self) -> None:
        """End TLS, too."""
        super().finish()
        self.connection.close()

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Say nothing."""
