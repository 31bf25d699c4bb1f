"""Lines of the function become rows, once each, while it writes; they leave in time, and when asked to."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import pytest
from rowmill.__main__ import main
from rowmill.data import warehouse
from rowmill.data.warehouse import Warehouse
from rowmill.errors import NotFoundError, WarehouseError
from rowmill.sections import Cloud, Monitor
from rowmill.serving import bundle as bundles
from rowmill.serving import lines, predictions, release
from rowmill.serving.commands import Commands
from rowmill.serving.predictions import Taken
from rowmill.serving.release import Service
from rowmill.settings import Settings
from rowmill.tables import PREDICTIONS

from tests.google.stub import Google
from tests.requests import line


@pytest.fixture(params=["sqlite", "bigquery"])
def place(request: pytest.FixtureRequest, project: Settings) -> tuple[Settings, Warehouse]:
    """A project and its warehouse, of each kind."""
    made = request.getfixturevalue("on_bigquery") if request.param == "bigquery" else project
    return made, warehouse.connect(made)


@pytest.fixture
def log(place: tuple[Settings, Warehouse]) -> Path:
    """The file that the host writes."""
    folder = lines.folder(place[0].state, "digits")
    folder.mkdir(parents=True)
    return folder / "00000001-aaaaaaaaaaaa.jsonl"


def add(path: Path, content: bytes) -> None:
    """Write at a file's end."""
    with path.open("ab") as file:
        file.write(content)


def ids(store: Warehouse) -> list[str]:
    """Return the ids of the requests on record."""
    return list(store.read(PREDICTIONS)["request_id"])


def test_each_line_becomes_one_row_whatever_stands_beside_it(place: tuple[Settings, Warehouse], log: Path) -> None:
    settings, store = place
    whole, garbage = line("c"), [b"Traceback\n", b"\xff\xfe\n", b"[1]\n", b'{"kind": "prediction"}\n', line("x", code="200"), b"\n", b"{\n"]
    add(log, line("a", hash="ab", images=["AAA="]) + b"".join(garbage) + line("b", code=400, instances=0, labels=[]) + whole[:50])
    assert predictions.take_in(settings, store, "digits") == Taken(rows=2, garbage=6, torn=1)
    assert predictions.take_in(settings, store, "digits") == Taken(torn=1), "Twice makes no double."
    add(log, whole[50:] + line("d", age_days=-1) + line("a"))
    assert predictions.take_in(settings, store, "digits") == Taken(rows=3)
    assert ids(store) == ["a", "b", "c", "d", "a"], "One id may ask twice, and a clock go backwards."
    first = store.read(PREDICTIONS).iloc[0]
    assert json.loads(first["labels"]) == ["7"] and json.loads(first["images"]) == ["AAA="] and first["hash"] == "ab"
    assert first["model_id"] == "aaaaaaaa-t001" and first["latency_ms"] == 1.5 and first["code"] == 200


def test_rows_leave_with_their_lines(place: tuple[Settings, Warehouse], log: Path) -> None:
    settings, store = place
    add(log, line("old", age_days=20) + line("a") + line("b") + line("a"))
    predictions.take_in(settings, store, "digits")
    assert predictions.forget(settings, store, "digits", "a") == 2 and ids(store) == ["old", "b"]
    assert b'"a"' not in log.read_bytes() and predictions.take_in(settings, store, "digits") == Taken()
    with pytest.raises(NotFoundError, match="no request 'a'"):
        predictions.forget(settings, store, "digits", "a")
    add(log, line("c"))
    shorter = dataclasses.replace(settings, monitor=Monitor(days=10))
    assert predictions.take_in(shorter, store, "digits") == Taken(rows=1, old=1) and ids(store) == ["b", "c"]
    assert b'"old"' not in log.read_bytes() and predictions.take_in(settings, store, "digits") == Taken()


def test_what_fails_half_way_is_taken_in_the_next_time(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    store, folder = warehouse.connect(project), lines.folder(project.state, "digits")
    folder.mkdir(parents=True)
    for number in (1, 2, 3):
        add(folder / f"{number:08d}-aaaaaaaaaaaa.jsonl", line(f"a{number}") + line(f"b{number}"))
    add(folder / "00000002-aaaaaaaaaaaa.jsonl", b'{"torn by a kill')
    append, calls = type(store).append, iter([True, False])

    def refuse_second(self: Warehouse, *rows: Any) -> None:
        if not next(calls):
            raise WarehouseError("The disk is full", step="make room")
        append(self, *rows)

    with monkeypatch.context() as patched:
        patched.setattr(type(store), "append", refuse_second)
        with pytest.raises(WarehouseError):
            predictions.take_in(project, store, "digits")
    assert [path.name[7] for path in lines.files(folder)] == ["2", "3"]
    assert predictions.take_in(project, store, "digits") == Taken(rows=4, garbage=1)
    assert ids(store) == ["a1", "b1", "a2", "b2", "a3", "b3"] and [path.name[7] for path in lines.files(folder)] == ["3"]


def write(folder: Path, folder_bytes: int) -> None:
    """Write 600 lines as a host's worker does, by threads, into small files, and end as by kill -9."""
    writer = lines.Writer(folder, file_bytes=3_000, folder_bytes=folder_bytes)

    def answer(number: int) -> None:
        writer.turn()
        os.write(1, line(f"{os.getpid()}-{number}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(answer, range(600)))
    os.kill(os.getpid(), 9)


def start(folder: Path, folder_bytes: int) -> BaseProcess:
    """Start a worker."""
    worker = multiprocessing.get_context("spawn").Process(target=write, args=(folder, folder_bytes))
    worker.start()
    return worker


def test_files_turn_without_a_loss_while_they_are_taken_in(project: Settings) -> None:
    folder, store = lines.folder(project.state, "digits"), warehouse.connect(project)
    workers = [start(folder, 10**9) for _ in range(2)]
    while any(worker.is_alive() for worker in workers):
        assert not predictions.take_in(project, store, "digits").garbage
    predictions.take_in(project, store, "digits")
    assert sorted(ids(store)) == sorted(f"{worker.pid}-{number}" for worker in workers for number in range(600))
    assert len(lines.files(folder)) == 1, "What was taken in and has no writer any more is gone."


def test_files_stay_bounded_when_nobody_takes_them_in(project: Settings) -> None:
    folder, store = lines.folder(project.state, "digits"), warehouse.connect(project)
    for _ in range(2):
        start(folder, 20_000).join(60)
    assert 10_000 < sum(path.stat().st_size for path in lines.files(folder)) < 20_000 + 8 * 400
    taken = predictions.take_in(project, store, "digits")
    assert taken.rows == len(set(ids(store))) > 20 and not taken.garbage


@pytest.fixture
def served(service: Service, good: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The service with a model that serves."""
    monkeypatch.setenv("ROWMILL_HASH_KEY", "a key of the test")
    release.deploy(service, good, "for the test", force=True)
    yield service


def test_no_request_is_lost_or_doubled_while_hosts_switch_and_intakes_run(served: Service, weak: str) -> None:
    store, address = served.registry.warehouse, str(served.target.address)
    image = bundles.golden(bundles.build(served.settings, served.registry, served.registry.model(weak)))[0][:1].tolist()

    def ask(name: str) -> list[str]:
        with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
            asked = [f"{name}-{number}" for number in range(150)]
            return [client.post("/", json={"instances": image}, headers={"X-Request-Id": each}).headers["X-Request-Id"] for each in asked]

    with ThreadPoolExecutor(5) as pool:
        asking = [pool.submit(ask, name) for name in "abcd"]
        switching = pool.submit(release.deploy, served, weak, "for the test", force=True)
        while not all(done.done() for done in [*asking, switching]):
            predictions.take_in(served.settings, store, "digits")
    answered = sorted(each for done in asking for each in done.result())
    predictions.take_in(served.settings, store, "digits")
    rows = store.read(PREDICTIONS)
    assert sorted(each for each in rows["request_id"] if each[:2] in ("a-", "b-", "c-", "d-")) == answered and len(answered) == 600
    assert (rows["hash"].str.len() == 64).all() and set(rows["model_id"]) == {model.model_id for model in served.registry.models("digits")}
    shutil.rmtree(lines.folder(served.settings.state, "digits"))
    with httpx.Client(base_url=address, trust_env=False) as client:
        assert client.post("/", json={"instances": image}).status_code == 200


def test_the_command_takes_in_and_forgets(project: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ROWMILL_STATE", str(project.state))
    folder = lines.folder(project.state, "digits")
    folder.mkdir(parents=True)
    add(folder / "00000001-aaaaaaaaaaaa.jsonl", line("a") + line("b") + b"Traceback\n")
    command = ["predictions", "--service", "digits"]
    assert main(command) == 0 and "2 requests taken in" in capsys.readouterr().out
    assert main([*command, "--forget", "a"]) == 0 and ids(warehouse.connect(project)) == ["b"]
    assert main([*command, "--forget", "a"]) == 1
    assert capsys.readouterr().err.startswith("rowmill: ")


def test_google_is_told_once_where_the_lines_go(google: Google) -> None:
    told = Commands(Cloud(project=google.project), "digits").sink_lines("rowmill")
    for each in told:
        done = subprocess.run(["bash", "-c", each], env=google.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (each, done.stderr)
    (sink,) = google.projects.things("sinks")
    assert sink["destination"] == f"bigquery.googleapis.com/projects/{google.project}/datasets/rowmill"
    assert sink["bigqueryOptions"]["usePartitionedTables"] and 'service_name="digits"' in sink["filter"] and "prediction" in sink["filter"]
    assert google.accounts.members(f"projects/{google.project}", ["roles/bigquery.dataEditor"]) == {sink["writerIdentity"]}
