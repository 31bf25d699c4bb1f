"""The processes of revisions: functions-framework on the uploaded source, as Cloud Run would start its container."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.google.services import Revision, Service


@dataclass(frozen=True)
class Image:
    """What a build made: the unpacked source and the function in it."""

    folder: Path
    target: str


@dataclass
class Instance:
    """One process and where it listens; the lock is held while it starts."""

    log: Path
    process: subprocess.Popen[bytes] | None = None
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def lines(self) -> list[str]:
        """Return the lines of the log that say something."""
        text = self.log.read_text("utf-8", "replace") if self.log.is_file() else ""
        return [line.strip() for line in text.splitlines() if line.strip()]


class Instances:
    """One instance for each revision, as long as the revision lives.

    Attributes:
        startup_seconds: How long a container may take until it listens; 240 at Google.
    """

    def __init__(self, folder: Path) -> None:
        self.startup_seconds = 30.0
        self._folder = folder
        self._lock = threading.Lock()
        self._all: dict[str, Instance] = {}

    def start(self, service: Service, revision: Revision, image: Image) -> str:
        """Return the instance's address, started where it does not run yet; an empty text where it does not start."""
        instance = self._of(service, revision)
        with instance.lock:
            if not instance.alive:
                instance.port = _free_port()
                instance.process = self._spawn(service, revision, image, instance)
                if not self._listening(instance):
                    _kill(instance)
                    return ""
        return f"http://127.0.0.1:{instance.port}"

    def lines(self, service: Service, revision: Revision) -> list[str]:
        """Return what the revision wrote to its log."""
        return self._of(service, revision).lines()

    def stop(self, service: Service, name: str = "") -> None:
        """End the instance of one revision, of all when the name is empty; the next request starts it again, if the revision lives."""
        prefix = f"{service.resource}/{name}"
        with self._lock:
            stopped = [self._all.pop(key) for key in list(self._all) if key == prefix or (not name and key.startswith(prefix))]
        for instance in stopped:
            _kill(instance)

    def stop_all(self) -> None:
        """End all instances."""
        with self._lock:
            stopped = list(self._all.values())
            self._all.clear()
        for instance in stopped:
            _kill(instance)

    def running(self) -> list[str]:
        """Return the names of the revisions that have a running instance."""
        with self._lock:
            return [key.rsplit("/", 1)[1] for key, instance in self._all.items() if instance.alive]

    def _of(self, service: Service, revision: Revision) -> Instance:
        key = f"{service.resource}/{revision.name}"
        with self._lock:
            return self._all.setdefault(key, Instance(self._folder / f"{service.project}-{revision.name}.log"))

    def _spawn(self, service: Service, revision: Revision, image: Image, instance: Instance) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "functions_framework", "--target", image.target, "--source", str(image.folder / "main.py")]
        given = {variable["name"]: variable.get("value", "") for variable in revision.container.get("env", [])}
        platform = {"K_SERVICE": service.name, "K_CONFIGURATION": service.name, "K_REVISION": revision.name, "PORT": str(instance.port)}
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with instance.log.open("ab") as log:
            return subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(instance.port)],
                cwd=image.folder,
                env={**kept, **given, **platform},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _listening(self, instance: Instance) -> bool:
        """Wait until the instance listens, as Google's start-up probe does; False where it ends or takes too long."""
        deadline = time.monotonic() + self.startup_seconds
        while instance.alive and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", instance.port), 0.2).close()
                return True
            except OSError:
                time.sleep(0.02)
        return False


def _kill(instance: Instance) -> None:
    """End the process and its workers."""
    if instance.process is None:
        return
    try:
        os.killpg(instance.process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    instance.process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
