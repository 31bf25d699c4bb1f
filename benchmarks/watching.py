"""How soon the Monitor page opens on a day of a million requests: real Voila, a real browser.

It is open when it shows that day's figures. Warm: the kernel waited, as it does for whoever comes; cold: another viewer took it a moment
ago, and a new one must start first. Reading is measured in this process's CPU seconds, for other work on the machine does not change them.
"""

import datetime
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from playwright.sync_api import Browser, sync_playwright
from rowmill import jobs, settings
from rowmill.data import dataset, sources
from rowmill.data.warehouse import Warehouse, connect
from rowmill.monitoring import watch
from rowmill.pages import host
from rowmill.records import now
from rowmill.registry import connected
from rowmill.serving import release
from rowmill.settings import Settings
from rowmill.tables import PREDICTIONS

from benchmarks.figures import Figure

ROWS, PART, RUNS = 1_000_000, 100_000, 5
SECONDS = 3.0
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
OPEN = f"() => document.querySelector('.rm-monitor dd b')?.textContent == '{ROWS:,}' && document.querySelector('.rm-beside')"


def figures() -> list[Figure]:
    """Measure."""
    state = Path(tempfile.mkdtemp())
    ports = {"ROWMILL_TARGET_PORT": str(jobs.free_port()), "ROWMILL_DASHBOARD_PORT": str(jobs.free_port())}
    os.environ.update({"ROWMILL_STATE": str(state), **ports})
    project = settings.load()
    try:
        reading = _fill(project)
        address = host.start(project).replace("/?", "/monitor?")
        with sync_playwright() as playwright:
            path = next(found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name)))
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            warm, cold = _measure(browser, address)
            browser.close()
    finally:
        jobs.stop(project.state, host.JOB)
        shutil.rmtree(state)
        for name in ("ROWMILL_STATE", *ports):
            del os.environ[name]
    return [
        _within(f"the page opens on {ROWS:,} requests, warm", warm, SECONDS),
        _within(f"the page opens on {ROWS:,} requests, cold", cold, SECONDS),
        _within(f"{ROWS:,} requests read and compared, CPU", reading, SECONDS),
    ]


def _fill(project: Settings) -> list[float]:
    """Make a model and a day of its requests; return how long it takes to read and to compare them, in CPU seconds."""
    from rowmill.training import artefact, search  # pylint: disable=import-outside-toplevel

    models = connected(project)
    data = dataset.load(models.warehouse, dataset.ingest(models.warehouse, sources.load("")))
    plan = search.Plan("mlp", {}, search.Goal(1.0, trials=1, minutes=5, epochs=2), seed=1)
    model = artefact.export(search.run(data, models, plan), data, models)
    store = connect(project)
    for part in range(ROWS // PART):
        _append(store, model.model_id, model.labels, part)
    service = release.open_service(project, data.version.service)
    watch.look(service, watch.days_ago(1.0))  # answers the holdout, once
    found = []
    for _ in range(RUNS):
        started = time.process_time()
        assert watch.look(service, watch.days_ago(1.0)).asked.total == ROWS
        found.append(time.process_time() - started)
    return found


def _append(store: Warehouse, model_id: str, labels: tuple[str, ...], part: int) -> None:
    chance, numbers = np.random.default_rng(part), range(part * PART, (part + 1) * PART)
    # Within the last twenty hours, so that none is too old when the page has opened for the last time.
    moments = [now() - datetime.timedelta(seconds=(ROWS - number) * 72_000 / ROWS) for number in numbers]
    rows = pd.DataFrame({"answered_at": moments, "request_id": [f"3f9c01d2a4b5e6f7-{number}" for number in numbers]})
    codes = np.where(chance.random(PART) < 0.01, 400, 200).tolist()
    drawn = {
        "labels": [labels[place] for place in chance.integers(0, len(labels), PART)],
        "confidences": chance.beta(20, 1, PART).round(6).tolist(),
        "means": chance.normal(4.9, 0.5, PART).round(3).tolist(),
        "deviations": chance.normal(6.0, 0.4, PART).round(3).tolist(),
    }
    lists = {
        name: ["[]" if code != 200 else json.dumps([value]) for value, code in zip(values, codes, strict=True)]
        for name, values in drawn.items()
    }
    latencies = chance.lognormal(0.0, 0.5, PART).round(3).tolist()
    same = {"service": "digits", "model_id": model_id, "images": "[]", "hash": "", "log": f"{part:08d}-bench"}
    told = {"code": codes, "instances": [int(code == 200) for code in codes], "latency_ms": latencies, "log_end": list(numbers)}
    store.append(PREDICTIONS, rows.assign(**same, **told, **lists))


def _measure(browser: Browser, address: str) -> tuple[list[float], list[float]]:
    warm: list[float] = []
    cold: list[float] = []
    for _ in range(RUNS):
        time.sleep(8)  # until a kernel waits, and the machine is at rest
        context = browser.new_context()
        for runs in (warm, cold):
            page = context.new_page()
            started = time.perf_counter()
            page.goto(address, wait_until="commit")
            page.wait_for_function(OPEN, polling=20)
            runs.append(time.perf_counter() - started)
        context.close()
    return warm, cold


def _within(figure: str, runs: list[float], most: float) -> Figure:
    value = statistics.median(runs)
    return Figure(figure, value, "s", most, value / most, runs, "<= 1", value <= most)
