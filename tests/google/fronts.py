"""The addresses of services and tags: one port of 127.0.0.1 each, and what stands before an instance.

Google's front end asks for an identity token, keeps strangers out, chooses the revision, and only then a container sees the request.
A port stays what it is as long as the stub runs, so that a deleted service's address answers 404 and a new one of its name has it again.
"""

import random
import re
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

PAGE = (
    '<html><head>\n<meta http-equiv="content-type" content="text/html;charset=utf-8">\n<title>{code} {title}</title>\n</head>\n'
    "<body text=#000000 bgcolor=#ffffff>\n<h1>Error: {title}</h1>\n<h2>{sentence}</h2>\n<h2></h2>\n</body></html>\n"
)
TITLES = {401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 500: "Server Error", 503: "Service Unavailable", 504: "Gateway Timeout"}
HOP_BY_HOP = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers", "transfer-encoding", "upgrade"}
HEADERS = list[tuple[str, str]]


@dataclass(frozen=True)
class Asked:
    """One request at an address."""

    service: tuple[str, str, str]
    tag: str
    method: str
    path: str
    authorization: str


@dataclass(frozen=True)
class Chosen:
    """Where a request goes, or the code of the page that answers instead."""

    address: str = ""
    refusal: int = 0
    seconds: float = 300.0


Choose = Callable[[Asked], Chosen]


class Fronts:
    """All addresses; `choose` says for each request where it goes."""

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self._lock = threading.Lock()
        self._servers: dict[tuple[tuple[str, str, str], str], _Server] = {}
        # gunicorn closes what was idle for two seconds; a connection that it is about to close must not be used again.
        self._client = httpx.Client(limits=httpx.Limits(max_connections=None, keepalive_expiry=1.0), trust_env=False)
        self._client.headers.clear()

    def address(self, service: tuple[str, str, str], tag: str = "") -> str:
        """Return the address of a service or of one of its tags; it listens from the first time it is asked for."""
        with self._lock:
            server = self._servers.get((service, tag))
            if server is None:
                server = self._servers[service, tag] = _Server(self, service, tag)
                threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        threads = [threading.Thread(target=server.shutdown) for server in self._servers.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for server in self._servers.values():
            server.server_close()
        self._client.close()

    def answer(self, asked: Asked, headers: HEADERS, body: bytes) -> tuple[int, HEADERS, bytes]:
        """Answer one request: a page of the front end's own, or what the instance says."""
        chosen = self._choose(asked)
        if chosen.refusal:
            return _page(chosen.refusal, asked.path)
        kept = [(name, value) for name, value in headers if name.lower() not in HOP_BY_HOP]
        request = self._client.build_request(asked.method, chosen.address + asked.path, headers=kept, content=body, timeout=chosen.seconds)
        try:
            response = self._client.send(request, stream=True)
            content = b"".join(response.iter_raw())
            response.close()
        except httpx.TimeoutException:
            return _page(504, asked.path)
        except httpx.HTTPError:
            return _page(503, asked.path)
        answered = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in {*HOP_BY_HOP, "content-length"}]
        return response.status_code, answered, content


def split(targets: Iterable[dict[str, Any]]) -> str:
    """Return the revision of one request, by the percentages; an empty text where there is no traffic."""
    shares = [(target["revisionName"], target.get("percent", 0)) for target in targets]
    shares = [(name, percent) for name, percent in shares if percent]
    return random.choices(*zip(*shares, strict=True))[0] if shares else ""


def _page(code: int, path: str) -> tuple[int, HEADERS, bytes]:
    sentence = f"Your client does not have permission to get URL <code>{re.sub('[<>&]', '', path)}</code> from this server."
    if code not in (401, 403):
        sentence = "The requested URL was not found on this server." if code == 404 else "The service cannot answer now."
    content = PAGE.format(code=code, title=TITLES[code], sentence=sentence).encode()
    return code, [("Content-Type", "text/html; charset=UTF-8"), ("Server", "Google Frontend")], content


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, fronts: Fronts, service: tuple[str, str, str], tag: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fronts, self.service, self.tag = fronts, service, tag

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that is gone."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:  # pylint: disable=redefined-builtin
        """Say nothing."""

    def _answer(self) -> None:
        asked = Asked(self.server.service, self.server.tag, self.command, self.path, self.headers.get("Authorization", ""))
        code, headers, content = self.server.fronts.answer(asked, self.headers.items(), self._body())
        self.send_response_only(code)
        for name, value in [*headers, ("Content-Length", str(len(content)))]:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)
