"""Switching: how long it takes, what it loses under load, and whether what is reported is true whatever call of Google's fails.

On this machine: the function's own host, asked by wrk from 8 connections, half of which are kept. On Google: the real gcloud over the
tests' stub of Google's APIs, so that its seconds are gcloud's own and say nothing of Google's network and builds. By itself each of the
calls of a switch fails in one way, with `FULL=1` in each.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from rowmill import jobs, settings
from rowmill.data import dataset, sources
from rowmill.errors import RowmillError
from rowmill.records import Deployment
from rowmill.registry import connected
from rowmill.sections import Cloud
from rowmill.serving import bundle as bundles
from rowmill.serving import release
from rowmill.serving.release import Service
from rowmill.serving.target import model_of
from rowmill.settings import Settings
from rowmill.training import artefact, search

from benchmarks.figures import ROOT, Figure, conclude
from tests.google import smoke, stub
from tests.google.stub import Google

FULL = os.environ.get("FULL") == "1"
SWITCHES = int(os.environ.get("RUNS", "50"))
FAULTS: tuple[int | str, ...] = (403, 404, 409, 429, 500, "refused", "hangs")


def main() -> None:
    """Measure, print, write, and fail where a target is missed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = on_this_machine(folder / "local")
        if shutil.which("gcloud"):
            figures += on_google(folder)
        else:
            print("NO GCLOUD: Google as a place to serve was NOT measured.")
        conclude("release", figures)


def two_models(project: Settings) -> tuple[str, str]:
    """Train and register two networks on the bundled digits; return their ids."""
    models = connected(project)
    data, ids = dataset.load(models.warehouse, dataset.ingest(models.warehouse, sources.load(""))), []
    for epochs in (8, 2):
        plan = search.Plan("mlp", {}, search.Goal(1.0, trials=1, minutes=5, epochs=epochs), seed=7)
        ids.append(artefact.export(search.run(data, models, plan), data, models).model_id)
    return ids[0], ids[1]


def project_in(state: Path) -> Settings:
    """Return a project of its own."""
    return dataclasses.replace(settings.load(ROOT), state=state, artefacts_root=state / "artefacts", target_port=jobs.free_port())


def deploy(service: Service, model_id: str, *steps: int) -> Deployment:
    """Deploy by force."""
    return release.deploy(service, model_id, "measured", force=True, steps=steps or (100,))


def on_this_machine(state: Path) -> list[Figure]:
    """Switch between two models under load."""
    project = project_in(state)
    models = two_models(project)
    service = release.open_service(project, "digits")
    try:
        deploy(service, models[0])
        with loaded(service, project.state) as lost, smoke.Load(service, clients=2) as watched:
            done = [release.deploy(service, models[turn % 2], "measured", force=True) for turn in range(1, SWITCHES + 1)]
        return _local_figures(done, lost(), watched)
    finally:
        for name in jobs.names(project.state):
            jobs.stop(project.state, name)


def _local_figures(done: list[Deployment], lost: tuple[int, int], watched: smoke.Load) -> list[Figure]:
    shifts = [row.steps["shift 100 %"] for row in done]
    whole = [row.seconds for row in done]
    seconds, slowest, (bad, asked) = statistics.median(shifts), max(shifts), map(float, lost)
    mixed, seen = float(len(watched.wrong)), len(watched.answered)
    return [
        Figure("local: the shift of one switch", seconds, "s", 1.0, seconds, shifts, "<= 1", seconds <= 1),
        Figure("local: the slowest shift", slowest, "s", 1.0, slowest, shifts, "<= 1", slowest <= 1),
        Figure("local: a whole switch, with its dark start and probes", statistics.median(whole), "s", 0, 0, whole, "", True),
        Figure(
            f"local: answers of {seen:,} that were not wholly those of the model they name", mixed, "", 0, 0, [mixed], "<= 0", not mixed
        ),
        Figure(f"local: requests lost of {asked:,.0f} in {SWITCHES} switches", bad, "", 0, 0, [bad], "<= 0", bad == 0 and asked > 0),
    ]


@contextlib.contextmanager
def loaded(service: Service, folder: Path) -> Iterator[Callable[[], tuple[int, int]]]:
    """Ask all the time from 8 connections; what is yielded tells, afterwards, how many requests were lost, and of how many."""
    if not shutil.which("wrk"):
        print("NOTHING WAS MEASURED: wrk is not there; bring it by `apt-get install wrk` or `brew install wrk`.")
        sys.exit(0)
    bundle = bundles.build(service.settings, service.registry, service.registry.models("digits")[0])
    body = (bundle.folder / bundles.EXAMPLE_FILE).read_text("utf-8")
    script = folder / "post.lua"
    head = f'wrk.method="POST"\nwrk.body={json.dumps(body)}\nwrk.headers["Content-Type"]="application/json"\n'
    stop, told, threads = threading.Event(), list[str](), list[threading.Thread]()
    for extra in ("", 'wrk.headers["Connection"]="close"\n'):
        path = script.with_stem(f"post{len(threads)}")
        path.write_text(head + extra)
        command = ["wrk", "-t1", "-c4", "-d2s", "--timeout", "10s", "-s", str(path), service.target.address]
        threads.append(threading.Thread(target=_ask, args=(command, stop, told)))
    for thread in threads:
        thread.start()
    try:
        yield lambda: (sum(map(_lost, told)), sum(int(found[1]) for text in told if (found := re.search(r"(\d+) requests in", text))))
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _ask(command: list[str], stop: threading.Event, told: list[str]) -> None:
    while not stop.is_set():
        told.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _lost(text: str) -> int:
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return int(refused[1] if refused else 0) + sum(int(count) for count in (broken.groups() if broken else ()))


def on_google(folder: Path) -> list[Figure]:
    """Deploy, share and roll back by the real gcloud over the stub, and let its calls fail."""
    project = project_in(folder / "cloud")
    models = two_models(project)
    (folder / "google").mkdir()
    (folder / "login").mkdir()
    with stub.logged_in(folder / "login") as login, stub.running(folder / "google", login) as google:
        os.environ.update(google.variables)
        place = Cloud(project=google.project, build_minutes=1)
        service = release.open_service(dataclasses.replace(project, target_kind="gcloud", cloud=place), "digits")
        for line in smoke.walk(service, *models):
            print(line, flush=True)
        rows = service.registry.deployments("digits")
        figures = [
            Figure(f"stub: {what}, from click to traffic", row.seconds, "s", 0, 0, list(row.steps.values()), "", True)
            for what, row in zip(("first deploy", "canary of 10 and 100 %", "roll back"), rows, strict=False)
        ]
        return [*figures, *_faults(service, google, models)]


def _faults(service: Service, google: Google, models: tuple[str, str]) -> list[Figure]:
    start = len(google.requests)
    deploy(service, models[1])
    calls = len(google.requests) - start
    kinds = list(itertools.product(range(calls), FAULTS)) if FULL else list(zip(range(calls), itertools.cycle(FAULTS), strict=False))
    wrong, failed, count = 0, 0, 0
    for call, fault in kinds:
        wanted = models[0] if _serves(google) == {models[1]: 100} else models[1]
        true, word = _one(service, google, wanted, (call, fault))
        wrong, failed, count = wrong + (not true), failed + (word == "failed"), count + 1
        print(f"call {call} {fault}: {word}, {'as reported' if true else 'NOT AS REPORTED'}", flush=True)
    name = f"stub: untrue reports of {count} deployments with a failing call, {failed} of which failed"
    return [Figure(name, float(wrong), "", 0, 0, [float(wrong)], "<= 0", wrong == 0)]


def _one(service: Service, google: Google, wanted: str, failing: tuple[int, int | str]) -> tuple[bool, str]:
    """Deploy while a call fails; return whether what is reported is true, and what is."""
    before, (call, fault) = _serves(google), failing
    knob = {"refused": google.refuse, "hangs": google.hang}.get(str(fault))
    if knob:
        knob("", skip=call)
    else:
        google.fail("", int(fault), skip=call)
    try:
        deploy(service, wanted)
        expected, word = {wanted: 100}, "serving"
    except RowmillError:
        expected, word = before, "failed"
    google.mend()
    return _serves(google) == expected and service.registry.deployments("digits")[-1].outcome == word, word


def _serves(google: Google) -> dict[str, int]:
    return {model_of(revision): percent for revision, percent in google.traffic("digits").items()}


if __name__ == "__main__":
    main()
