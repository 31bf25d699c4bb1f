"""The embedded place to serve: functions-framework under gunicorn on one stable port of 127.0.0.1; a target.

gunicorn does not preload, so that each worker imports the bundle behind the `current` link when it starts: replacing the
link and a HUP switch the model, and requests that are under way are answered by the worker that took them.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from rowmill import jobs, settings
from rowmill.errors import BusyError, EndpointError, IntegrityError, ParameterError, RowmillError, SettingsError
from rowmill.records import Bundle
from rowmill.registry import CARD_FILE
from rowmill.serving import lines
from rowmill.serving.bundle import FUNCTION
from rowmill.serving.endpoint import Endpoint
from rowmill.serving.target import Revision
from rowmill.settings import Settings

_THREADS = 8
_START_SECONDS = 30.0
_ORPHAN_SECONDS = 3.0
_LAST_PORT = 65535


class LocalTarget:
    """One service's host on this machine; it outlives the process that started it.

    A revision is the folder of a bundle, by its name.

    Attributes:
        kind: `local`.
        embedded: True.
    """

    kind = "local"
    embedded = True

    def __init__(self, project: Settings, service: str) -> None:
        self._state, self._service, self._first_port = project.state, service, project.target_port
        self._job = f"function-{service}"
        self._folder = project.state / "serving" / service

    @property
    def _port(self) -> int:
        known = services(self._state)
        place = known.index(self._service) if self._service in known else len(known)
        if self._first_port + place > _LAST_PORT:
            raise SettingsError(
                f"Service {self._service} would need port {self._first_port + place}", step="set target.port in rowmill.toml to a lower one"
            )
        return self._first_port + place

    @property
    def address(self) -> str:
        """The stable address, whether or not something answers there."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def actor(self) -> str:
        """The machine's user."""
        return settings.actor()

    def open(self, address: str = "") -> Endpoint:
        """Return a client of a revision's address, or of the stable one."""
        return Endpoint(address or self.address)

    def traffic(self) -> dict[str, int]:
        """Return the one revision that serves; the host is started with it if it is down.

        Raises:
            BusyError: Another program has the port.
            EndpointError: The model does not start.
        """
        self.wake()
        return {self._current.resolve().name: 100} if self._current.exists() else {}

    @property
    def _current(self) -> Path:
        return self._folder / "current"

    def wake(self) -> None:
        """Start the host with the model that served, if it is down and one served.

        Raises:
            BusyError: Another program has the port.
            EndpointError: The model does not start.
        """
        # Two who find it down at once must not both start it.
        with jobs.lock(self._state, f"start-{self._job}", what=f"the start of {self._job}", wait=_START_SECONDS):
            if jobs.find(self._state, self._job) is None:
                self._start_host()

    def _start_host(self) -> None:
        # A worker whose host was killed lets go of the port within a second or two.
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while jobs.listening(self._port) and time.monotonic() < deadline:
            time.sleep(0.1)
        if jobs.listening(self._port):
            raise BusyError(
                f"Port {self._port} of 127.0.0.1 is in use by another program",
                step="stop that program, or set target.port in rowmill.toml to a free one",
            )
        if self._current.exists():
            process = self._start(self._job, self._command(), self._current)
            try:
                self._wait(self._job, process, self.address, "")
            except EndpointError:
                jobs.stop(self._state, self._job)  # else gunicorn would start its worker again and again
                raise

    @contextlib.contextmanager
    def dark(self, bundle: Bundle) -> Iterator[Revision]:
        """Serve the bundle at an address that nobody else knows, as long as the context lasts.

        Raises:
            EndpointError: The bundle does not start.
        """
        name, port = f"dark-{self._service}", jobs.free_port()
        # As the cloud starts it: the handler is imported before the port opens, so that a refusal ends the process.
        command = [sys.executable, "-m", "functions_framework", "--host", "127.0.0.1", "--port", str(port)]
        jobs.stop(self._state, name)  # left over from a deployment that was killed
        process = self._start(name, command, bundle.folder)
        address = f"http://127.0.0.1:{port}"
        try:
            self._wait(name, process, address, bundle.model_id)
            yield Revision(bundle.folder.name, address)
        finally:
            jobs.stop(self._state, name)

    def shift(self, shares: Mapping[str, int]) -> None:
        """Give the stable address to one revision, and return when it answers there; to nothing without any.

        Raises:
            ParameterError: There are several.
            EndpointError: It does not answer there; what served before serves again.
            BusyError: Another program has the port.
        """
        if not shares:
            jobs.stop(self._state, self._job)
            self._point(None)
            return
        if len(shares) > 1:
            raise ParameterError(
                f"This machine's host switches at once, it cannot share the traffic of {self._service}",
                found=" and ".join(f"{percent} %" for percent in shares.values()),
                step="leave the steps out, or serve on Google Cloud",
            )
        _register(self._state, self._service)
        self._switch(self._state / "bundles" / next(iter(shares)))

    def _switch(self, folder: Path) -> None:
        before = self._current.resolve() if self._current.exists() else None
        self._point(folder)
        try:
            process = jobs.find(self._state, self._job)
            if process is None:
                self.wake()
            else:
                self._reload(process, _model_in(folder))
        except (RowmillError, psutil.Error):
            self._point(before)
            raise

    def _reload(self, process: psutil.Process, model_id: str) -> None:
        old = {worker.pid for worker in process.children()}
        process.send_signal(signal.SIGHUP)
        self._wait(self._job, process, self.address, model_id)
        # The old worker takes connections until it is gone.
        deadline = time.monotonic() + _START_SECONDS
        while old & {worker.pid for worker in process.children()} and time.monotonic() < deadline:
            time.sleep(0.01)

    def _point(self, folder: Path | None) -> None:
        """Let the `current` link lead to the folder, in one step; None removes it."""
        if folder is None:
            self._current.unlink(missing_ok=True)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        link = self._folder / f".next-{os.getpid()}"
        link.unlink(missing_ok=True)
        # Relative, so that the project may be moved.
        link.symlink_to(os.path.relpath(folder.resolve(), self._folder.resolve()))
        link.replace(self._current)

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{self._port}", "--worker-class", "gthread"]
        return [
            *command,
            "--threads",
            str(_THREADS),
            "--log-level",
            "warning",
            "--no-control-socket",
            f"rowmill.serving.hosted:create_app({str(lines.folder(self._state, self._service))!r})",
        ]

    def _start(self, name: str, command: list[str], folder: Path) -> psutil.Process:
        # gunicorn would take the SCRIPT_NAME of a dashboard's request for its own prefix.
        variables = {"SCRIPT_NAME": "", "FUNCTION_TARGET": FUNCTION, "FUNCTION_SOURCE": str(folder / "main.py")}
        return jobs.start(self._state, name, command, self._state, variables)

    def _wait(self, name: str, process: psutil.Process, address: str, model_id: str) -> None:
        """Wait until the model (any when the id is empty) answers at the address."""
        deadline = time.monotonic() + _START_SECONDS
        with Endpoint(address) as endpoint:
            while time.monotonic() < deadline:
                with contextlib.suppress(EndpointError):
                    if endpoint.describe()["model"] == model_id or not model_id:
                        return
                if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                    break
                time.sleep(0.02)
        reason = jobs.last_line(self._state, name) or "no word in its log"
        raise EndpointError(
            f"Model {model_id or 'that served'} does not answer at {address}", found=reason, step=f"read {jobs.log_path(self._state, name)}"
        )


def _model_in(folder: Path) -> str:
    try:
        return str(json.loads((folder / CARD_FILE).read_text("utf-8"))["model"])
    except (OSError, ValueError, KeyError) as error:
        raise IntegrityError(f"The bundle {folder} cannot be read", found=str(error), step="deploy the model anew") from error


def services(state: Path) -> list[str]:
    """Return the services of this machine in the order in which they were first deployed."""
    path = state / "serving" / "services.json"
    known: list[str] = json.loads(path.read_text("utf-8")) if path.is_file() else []
    return known


def _register(state: Path, service: str) -> None:
    """Give the service its place in the order in which services were first deployed; it never changes."""
    path = state / "serving" / "services.json"
    with jobs.lock(state, "services", what="the start of a service", wait=5.0):
        known = services(state)
        if service not in known:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            new.write_text(json.dumps([*known, service]), "utf-8")
            new.replace(path)
