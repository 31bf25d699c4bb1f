"""Servers for a benchmark: one small model in each peer's own form, an environment for each, started and asked."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rowmill import jobs

from benchmarks.figures import ROOT

VENVS = ROOT / ".rowmill" / "bench-venvs"
PEERS = Path(__file__).parent / "peers"
_THREADS = "8"
_START_SECONDS = 120.0
Form = tuple[str, bytes]  # a body and its type


def need_wrk() -> None:
    """End this process with a sentence where wrk is not there."""
    if not shutil.which("wrk"):
        print("NOTHING WAS MEASURED: wrk is not there; bring it by `apt-get install wrk` or `brew install wrk`.")
        sys.exit(0)


@dataclass(frozen=True)
class Peer:
    """One server.

    Attributes:
        name: As the figures call it.
        venv: The environment that it runs in, with `packages`.
        command: With PORT in place of the port; the first word is found in the environment.
        path: Where it is asked.
        key: What its body calls the instances.
        variables: Of its environment.
        answers: Whether it gives probabilities.
    """

    name: str
    venv: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    path: str = "/"
    key: str = "instances"
    variables: Mapping[str, str] = field(default_factory=dict)
    answers: bool = True

    def python(self) -> Path:
        """Return its environment's Python, made and compiled the first time."""
        digest = hashlib.sha256(" ".join([*self.packages, sys.version]).encode()).hexdigest()[:8]
        folder = VENVS / f"{self.venv}-{digest}"
        python = folder / "bin" / "python"
        if not (folder / "whole").exists():
            print(f"Making the environment of {self.name} ...", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            uv = shutil.which("uv")
            installer = [uv, "pip", "install", "--no-config", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
            subprocess.run([*installer, "--quiet", *self.packages], check=True)
            subprocess.run([python, "-m", "compileall", "-q", "-j", "0", folder / "lib"], check=False, stdout=subprocess.DEVNULL)
            (folder / "whole").touch()
        return python

    def start(self, port: int, log: Path) -> "subprocess.Popen[bytes]":
        """Start it in a process group of its own."""
        python = self.python()
        program, *arguments = (word.replace("PORT", str(port)) for word in self.command)
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FUNCTION", "MLFLOW"))}
        paths = {"PATH": f"{python.parent}:{os.environ['PATH']}", "PORT": str(port), "THREADS": _THREADS, **self.variables}
        paths = {name: value.replace("PORT", str(port)) if name == "BENTOML_PORT" else value for name, value in paths.items()}
        with log.open("wb") as file:
            return subprocess.Popen(  # pylint: disable=consider-using-with  # `running` ends it
                [python.with_name(program), *arguments], env={**plain, **paths}, cwd=PEERS, stdout=file, stderr=file, start_new_session=True
            )


@dataclass
class Running:
    """A server that has answered once.

    Attributes:
        port: Of 127.0.0.1.
        cold: Seconds from the start of its process to its first answer.
    """

    peer: Peer
    port: int
    pid: int
    cold: float = 0.0

    def ask(self, form: Form, connection: http.client.HTTPConnection | None = None) -> tuple[int, bytes]:
        """Return code and body of one answer."""
        asked = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        asked.request("POST", self.peer.path, form[1], {"Content-Type": form[0]})
        response = asked.getresponse()
        return response.status, response.read()

    def megabytes(self) -> float:
        """Return the resident memory of what answers: of the workers where a master only watches them."""
        process = psutil.Process(self.pid)
        return sum(each.memory_info().rss for each in process.children(recursive=True) or [process]) / 2**20


@contextlib.contextmanager
def running(peer: Peer, form: Form, log: Path) -> Iterator[Running]:
    """Start a server, wait for its first answer, end it with all its processes."""
    port = jobs.free_port()
    peer.python()
    started = time.perf_counter()
    process = peer.start(port, log)
    server = Running(peer, port, process.pid)
    try:
        _wait(server, process, form, log)
        server.cold = time.perf_counter() - started
        yield server
    finally:
        _end(process)


def _wait(server: Running, process: "subprocess.Popen[bytes]", form: Form, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.ask(form)[0] == 200:
                return
        time.sleep(0.002)
    raise RuntimeError(f"{server.peer.name} does not answer: {log.read_text('utf-8', 'replace')[-1000:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        pass
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def probabilities(answer: bytes) -> np.ndarray[Any, Any]:
    """Return the probabilities of an answer, (instances, labels), whatever a peer calls them."""
    found = json.loads(answer)
    while isinstance(found, dict):  # MLflow names an ONNX network's output once more
        found = found.get("predictions", next(iter(found.values())))
    return np.asarray(found, float).reshape(-1, 10)


@dataclass(frozen=True)
class Load:
    """What a load showed: requests per second, the 99th percentile in milliseconds, answers that were no 200."""

    rate: float
    p99: float
    bad: int


def load(server: Running, form: Form, clients: int, seconds: float, folder: Path) -> Load:
    """Ask by wrk over kept connections."""
    (folder / "body").write_bytes(form[1])
    script = folder / "post.lua"
    body = f'local file = io.open("{folder / "body"}", "rb")\nwrk.body = file:read("*a")\nfile:close()\n'
    script.write_text(f'wrk.method = "POST"\n{body}wrk.headers["Content-Type"] = "{form[0]}"\n')
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "20s", "--latency", "-s", str(script)]
    said = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}{server.peer.path}"], check=True, capture_output=True, text=True
    ).stdout
    rate, slow = re.search(r"Requests/sec:\s+([\d.]+)", said), re.search(r"99%\s+([\d.]+)(\w+)", said)
    assert rate and slow
    milliseconds = float(slow[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[slow[2]]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    return Load(float(rate[1]), milliseconds, int(bad[1]) if bad else 0)
