"""BigQuery in a process of its own, for the tests."""

import contextlib
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = "rowmill-tests"


@dataclass(frozen=True)
class Emulator:
    """A running emulator."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def warehouse(self) -> dict[str, str]:
        """The settings of a warehouse on it, with a data set that nobody else uses."""
        names = {"project": PROJECT, "dataset": f"set_{secrets.token_hex(4)}", "emulator": self.address}
        return {f"warehouse_{name}": value for name, value in names.items()}

    @property
    def environment(self) -> dict[str, str]:
        """What Google's client and rowmill's settings read to find it, with a data set that nobody else uses."""
        return {
            "BIGQUERY_EMULATOR_HOST": self.address,
            "ROWMILL_WAREHOUSE_KIND": "bigquery",
            "ROWMILL_WAREHOUSE_PROJECT": PROJECT,
            "ROWMILL_WAREHOUSE_DATASET": f"set_{secrets.token_hex(4)}",
        }


@contextlib.contextmanager
def running(log: Path) -> Iterator[Emulator]:
    """Start an emulator on free ports, and stop it in the end."""
    port = free_pair()
    command = [sys.executable, str(Path(__file__).with_name("launch.py")), str(port)]
    with log.open("wb") as written, subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT, cwd=log.parent) as process:
        emulator = Emulator(f"http://127.0.0.1:{port}", process, log)
        try:
            wait_for(emulator)
            yield emulator
        finally:
            process.kill()


def wait_for(emulator: Emulator) -> None:
    """Return when the emulator answers."""
    for _ in range(600):
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"{emulator.address}/bigquery/v2/projects/{PROJECT}/datasets", timeout=5).close()
            return
        if emulator.process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"The emulator did not start: {emulator.log.read_text()[-2000:]}")


def free_pair() -> int:
    """Return a free port whose next one is free too."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first, contextlib.suppress(OSError, OverflowError):
            port = int(first.getsockname()[1])
            socket.create_server(("127.0.0.1", port + 1)).close()
            return port
