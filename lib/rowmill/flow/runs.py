"""The runs: each a file in its own folder while it goes on, and a row of the table `runs` when it has ended, however."""

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rowmill import jobs
from rowmill.data.warehouse import Warehouse, connect
from rowmill.records import now
from rowmill.run import Run
from rowmill.settings import Settings, actor
from rowmill.tables import TABLES, from_row, to_row

LOCK = "run"  # of all runs of this machine: one at a time
_FILE = "run.json"


def note(settings: Settings, run: Run) -> None:
    """Put a run on file as it is now; its folder is made."""
    folder = folder_of(settings, run.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"{_FILE}.new"
    written.write_text(json.dumps({**to_row(run), "started": run.started.isoformat(), "at": run.at.isoformat()}), "utf-8")
    written.replace(folder / _FILE)


def end(settings: Settings, run: Run) -> Run:
    """Put a run that has ended on record; a step in which it ended was broken off."""
    states = {name: "broken off" if state == "running" else state for name, state in run.states.items()}
    ended = dataclasses.replace(run, states=states, at=now())
    connect(settings).append(TABLES[Run], pd.DataFrame([to_row(ended)]))
    with contextlib.suppress(FileNotFoundError):
        (folder_of(settings, run.run_id) / _FILE).unlink()
    return ended


def new(service: str, trigger: str, parameters: dict[str, Any]) -> Run:
    """Return a run that begins now."""
    moment = now()
    return Run(f"{moment:%Y%m%dT%H%M%S%f}", service, actor(), trigger, "running", parameters=parameters, started=moment)


def recover(settings: Settings) -> None:
    """Put runs on record that were killed; for the holder of the lock alone."""
    for run in on_file(settings):
        begun = next((name for name, state in run.states.items() if state == "running"), "")
        end(settings, dataclasses.replace(run, outcome="broken off", reason=f"broken off in step {begun}" if begun else "broken off"))


def on_file(settings: Settings) -> list[Run]:
    """Return this machine's runs that did not end by themselves yet, newest first: the one that goes on, and killed ones."""
    found = []
    for path in sorted((settings.state / "runs").glob(f"*/{_FILE}"), reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError):
            found.append(_read(path))
    return found


def goes_on(settings: Settings) -> bool:
    """Return whether a run goes on on this machine."""
    return jobs.held(settings.state, LOCK)


def known(settings: Settings, warehouse: Warehouse) -> Sequence[Run]:
    """Return all runs, newest first, the one that goes on among them; one that was killed is `broken off`."""
    rows = [from_row(Run, row) for row in warehouse.read(TABLES[Run], None).to_dict("records")]
    ended = {run.run_id: run for run in rows}
    filed = [run for run in on_file(settings) if run.run_id not in ended]
    if filed and not goes_on(settings):
        filed = [dataclasses.replace(run, outcome="broken off") for run in filed]
    return sorted([*filed, *ended.values()], key=lambda run: run.run_id, reverse=True)


def folder_of(settings: Settings, run_id: str) -> Path:
    """Return where a run's executed notebooks lie, on the machine that ran it."""
    return settings.state / "runs" / run_id


def _read(path: Path) -> Run:
    row = json.loads(path.read_text("utf-8"))
    times = {name: pd.Timestamp(row[name]) for name in ("started", "at")}
    return from_row(Run, {**row, **times})
