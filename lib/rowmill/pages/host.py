"""The dashboard's host: Voila as a job of this machine, on 127.0.0.1 and behind a token."""

import os
import secrets
import stat
import sys
import time
from pathlib import Path

import psutil

from rowmill import jobs
from rowmill.errors import BusyError, EndpointError, IntegrityError
from rowmill.settings import Settings

JOB = "dashboard"
# In the order of the navigation; a page is there when its notebook is.
PAGES = ("models", "search", "monitor", "runs")
_START_SECONDS = 60.0


def start(settings: Settings) -> str:
    """Start the dashboard if it does not run yet, and return the address that opens the Models page.

    Raises:
        BusyError: Another program has the port.
        EndpointError: Voila does not start; the sentence has the last line of its log.
        IntegrityError: Others than its owner may read the token's file.
    """
    with jobs.lock(settings.state, JOB, what="a start of the dashboard", wait=_START_SECONDS):
        secret = token(settings)
        check(settings)
        _wait(settings, jobs.find(settings.state, JOB) or _launch(settings))
    return f"http://127.0.0.1:{settings.dashboard_port}/?token={secret}"


def check(settings: Settings) -> None:
    """Do nothing when the dashboard runs or its port is free.

    Raises:
        BusyError: Another program has the port.
    """
    if jobs.find(settings.state, JOB) is None and jobs.listening(settings.dashboard_port):
        raise BusyError(
            f"Port {settings.dashboard_port} of 127.0.0.1 is in use by another program",
            step="stop that program, or set dashboard.port in rowmill.toml to a free one",
        )


def pages(settings: Settings) -> list[str]:
    """Return the names of the pages that the project has, as they stand in the navigation and in their addresses."""
    return [name for name in PAGES if (settings.root / "dashboards" / f"{name}.ipynb").is_file()]


def token(settings: Settings) -> str:
    """Return the word that opens the dashboard; made once, and kept in a file that only its owner may read.

    Raises:
        IntegrityError: Others may read the file, so that the word is no secret any more.
    """
    path = settings.state / "token"
    with jobs.lock(settings.state, "token", what="the making of the dashboard's token", wait=5.0):
        if not path.is_file() or not path.stat().st_size:
            _write_private(path, secrets.token_urlsafe(32))
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise IntegrityError(
                f"Only its owner may read {path}",
                found=f"mode {mode:04o}",
                step="run `make stop`, remove that file and start the dashboard anew: it gets a new token",
            )
        return path.read_text("utf-8")


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    # The mode is given at creation: there is no moment at which others could open it.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _launch(settings: Settings) -> psutil.Process:
    folder = settings.root / "dashboards"
    # -P: without it the folder's voila.py, Voila's settings, would be imported in place of Voila.
    command = [sys.executable, "-P", "-m", "voila"]
    own = str(settings.state / "jupyter")
    # The user's own Jupyter is left alone, and cannot change what the dashboard does.
    variables = {"JUPYTER_PATH": str(folder / "share"), "JUPYTER_CONFIG_DIR": own, "JUPYTER_DATA_DIR": own, "IPYTHONDIR": own}
    # Else Voila would shrug at settings that it cannot read, and start without any: without token, for all.
    variables["TRAITLETS_APPLICATION_RAISE_CONFIG_FILE_ERROR"] = "1"
    return jobs.start(settings.state, JOB, command, folder, variables)


def _wait(settings: Settings, process: psutil.Process) -> None:
    """Wait until the port accepts connections; the page itself is not asked, for each GET of it starts a kernel."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if jobs.listening(settings.dashboard_port):
            return
        time.sleep(0.05)
    reason = jobs.last_line(settings.state, JOB) or "no word in its log"
    raise EndpointError(
        f"The dashboard does not answer on port {settings.dashboard_port} of 127.0.0.1",
        found=reason,
        step=f"run `make stop` and read {jobs.log_path(settings.state, JOB)}",
    )
