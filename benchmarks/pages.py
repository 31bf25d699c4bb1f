"""How soon a dashboard page opens, and what a viewer costs: real Voila, a real browser, a project with a thousand models.

A page is open when it has drawn its list and has heard from its kernel. Warm: the kernel waited; cold: everybody else took it.
Memory is the proportional set size (Linux) of the kernels of two viewers, which share what both have mapped.
"""

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil
from playwright.sync_api import Browser, Page, sync_playwright
from rowmill import jobs, settings
from rowmill.data import dataset, sources
from rowmill.pages import change, host
from rowmill.records import ModelRecord
from rowmill.registry import connected
from rowmill.settings import Settings
from rowmill.tables import TABLES, to_row

from benchmarks.figures import Figure, conclude

RUNS, MODELS = 5, 1000
WARM_SECONDS, COLD_SECONDS, BACK_SECONDS, MEGABYTES = 1.5, 4.0, 4.0, 140.0
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
OPEN = "() => document.querySelectorAll('.rm-table tbody tr').length && document.querySelector('.rm-model dl')"


def main() -> None:
    """Measure, conclude."""
    state = Path(tempfile.mkdtemp())
    ports = {"ROWMILL_TARGET_PORT": str(jobs.free_port()), "ROWMILL_DASHBOARD_PORT": str(jobs.free_port())}
    os.environ.update({"ROWMILL_STATE": str(state), **ports})
    project = settings.load()
    _fill(project)
    address = host.start(project)
    try:
        with sync_playwright() as playwright:
            path = next(found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name)))
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            warm, cold, memory = _measure(browser, address, project)
            back = _back(browser, address, project)
            browser.close()
    finally:
        jobs.stop(project.state, host.JOB)
        shutil.rmtree(state)
    conclude(
        "pages",
        [
            _within("a page opens, warm", warm, "s", WARM_SECONDS),
            _within("a page opens, cold", cold, "s", COLD_SECONDS),
            _within("a page that comes back shows what goes on", back, "s", BACK_SECONDS),
            _within("memory of a viewer", memory, "MB", MEGABYTES),
        ],
    )


def _measure(browser: Browser, address: str, project: Settings) -> tuple[list[float], list[float], list[float]]:
    warm: list[float] = []
    cold: list[float] = []
    memory: list[float] = []
    for _ in range(RUNS):
        time.sleep(8)  # until a kernel waits, and the machine is at rest
        context = browser.new_context()
        first, second = context.new_page(), context.new_page()
        warm.append(_seconds(first, address))
        cold.append(_seconds(second, address))
        time.sleep(3)
        memory.append(max(_megabytes(project, page) for page in (first, second)))
        context.close()
    return warm, cold, memory


def _back(browser: Browser, address: str, project: Settings) -> list[float]:
    """Return how long a page that is loaded again takes until it shows a change that goes on outside it."""
    name = change.job_name("digits")
    jobs.start_once(project.state, jobs.Job(name, "a deployment that takes its time", ["sleep", "300"], project.root))
    page = browser.new_context().new_page()
    _seconds(page, address)
    found = []
    for _ in range(RUNS):
        time.sleep(8)
        started = time.perf_counter()
        page.reload(wait_until="commit")
        page.wait_for_function("() => document.querySelector('.rm-change')?.textContent.includes('is under way')", polling=20)
        found.append(time.perf_counter() - started)
    jobs.stop(project.state, name)
    return found


def _seconds(page: Page, address: str) -> float:
    started = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(OPEN, polling=20)
    return time.perf_counter() - started


def _megabytes(project: Settings, page: Page) -> float:
    name = page.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
    voila = jobs.find(project.state, host.JOB)
    assert voila is not None
    kernel = next(child for child in voila.children() if any(name in word for word in child.cmdline()))
    return float(psutil.Process(kernel.pid).memory_full_info().pss) / 2**20


def _fill(project: Settings) -> None:
    registry = connected(project)
    version = dataset.ingest(registry.warehouse, sources.load(""))
    rows = [
        ModelRecord(
            model_id=f"bench{n // 100:03d}-t{n % 100 + 1:03d}",
            service=version.service,
            dataset_version=version.version,
            sha256="0" * 64,
            card_sha256="0" * 64,
            size=100_000 + n,
            shape=version.shape,
            labels=version.labels,
            accuracy=0.9 + n / 20_000,
            hyperparameters={"units": 64 + n},
        )
        for n in range(MODELS)
    ]
    registry.warehouse.append(TABLES[ModelRecord], pd.DataFrame([to_row(row) for row in rows]))


def _within(figure: str, runs: list[float], unit: str, most: float) -> Figure:
    value = statistics.median(runs)
    return Figure(figure, value, unit, most, value / most, runs, "<= 1", value <= most)


if __name__ == "__main__":
    main()
