"""A full disk: what must be written ends with a sentence, what answers goes on answering, and nothing that was there is lost."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from rowmill import jobs
from rowmill.data import sources
from rowmill.errors import RowmillError
from rowmill.monitoring import batch, truth
from rowmill.monitoring.truth import GIVEN, Said
from rowmill.serving import predictions, release
from rowmill.serving.release import Service
from rowmill.tables import PREDICTIONS, SCORES

from tests.conftest import project_in

MEGABYTES = 24


@dataclass(frozen=True)
class Disk:
    """A small disk with a project's state."""

    folder: Path
    service: Service
    image: list[Any]

    @contextlib.contextmanager
    def full(self, but: int = 0) -> Iterator[None]:
        """Leave so many bytes free, or none, as long as the context lasts."""
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            file.truncate(max(0, file.tell() - but))
        try:
            yield
        finally:
            filler.unlink()

    @property
    def ids(self) -> list[str]:
        """The ids of the test's requests on record."""
        found = self.service.registry.warehouse.read(PREDICTIONS)["request_id"]
        return sorted(name for name in found if name.startswith("ask-"))

    def ask(self, first: int, count: int) -> list[str]:
        """Ask what serves, and return the ids; each must be answered."""
        names = [f"ask-{number:04d}" for number in range(first, first + count)]
        with httpx.Client(base_url=str(self.service.target.address), trust_env=False, timeout=60) as client:
            for name in names:
                assert client.post("/", json={"instances": self.image}, headers={"X-Request-Id": name}).status_code == 200
        return names


@pytest.fixture(name="disk")
def fixture_disk(digits_state: Path, tmp_path: Path) -> Iterator[Disk]:
    """A disk of a few megabytes, in memory, with the two models of the digits."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"NO MOUNT: a full disk was NOT tried, for this user may mount none ({done.stderr.strip()}); run the tests as root")
    try:
        shutil.copytree(digits_state, folder / "state")
        opened = release.open_service(project_in(folder / "state"), "digits")
        yield Disk(folder, opened, sources.load("").images[:1].tolist())
        for name in jobs.names(opened.settings.state):
            jobs.stop(opened.settings.state, name)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_what_serves_goes_on_answering_and_its_lines_are_taken_in_later(disk: Disk) -> None:
    service, good = disk.service, disk.service.registry.models("digits")[1].model_id
    release.deploy(service, good, "for the test", force=True)
    before = disk.ask(0, 30)
    with disk.full():
        disk.ask(100, 60)
        with pytest.raises(RowmillError, match="disk is full"):
            predictions.take_in(service.settings, service.registry.warehouse, "digits")
        with service.target.open() as endpoint:
            assert endpoint.describe()["model"] == good
    after = disk.ask(500, 30)
    predictions.take_in(service.settings, service.registry.warehouse, "digits")
    assert set(before + after) <= set(disk.ids) and len(disk.ids) == len(set(disk.ids))


def test_a_deployment_ends_with_a_sentence_and_what_served_serves(disk: Disk) -> None:
    service = disk.service
    weak, good = (model.model_id for model in service.registry.models("digits"))
    release.deploy(service, good, "for the test", force=True)
    refused = 0
    for free in (0, 40_000, 80_000, 160_000, 400_000):
        with disk.full(but=free):
            try:
                release.deploy(service, weak, "for the test", force=True)
            except RowmillError as error:
                assert "disk is full" in str(error)
                refused += 1
            disk.ask(0, 3)
    assert refused > 1
    assert release.deploy(service, good, "for the test", force=True).outcome == "serving"
    assert release.look(service).alarm == ""


@pytest.mark.parametrize("free", [0, 450_000], ids=["nothing", "a little"])
def test_a_batch_goes_on_when_there_is_room(disk: Disk, free: int) -> None:
    service, digits = disk.service, sources.load("")
    good, store = service.registry.models("digits")[1].model_id, service.registry.warehouse
    with disk.full(but=free), pytest.raises(RowmillError, match="disk is full"):
        batch.score(service, digits, good, chunk=64)
    there = store.read(SCORES, None, ("row",))["row"]
    assert there.is_unique and len(there) % 64 == 0 and bool(len(there)) == bool(free)
    assert len(batch.table(store, batch.score(service, digits, good))) == 1797
    assert len(store.read(SCORES, None, ("row",))) == 1797


def test_labels_end_with_a_sentence_and_those_that_were_said_stay(disk: Disk) -> None:
    store = disk.service.registry.warehouse
    truth.append(store, "digits", [Said("a", 0, "7", GIVEN, "x")])
    said = ["a"]
    with disk.full(but=300_000), pytest.raises(RowmillError, match="disk is full"):
        for number in range(400):
            truth.append(store, "digits", [Said(f"b{number}", 0, "7" * 10_000, GIVEN, "x")])
            said.append(f"b{number}")
    assert len(said) > 2 and sorted(truth.latest(store, "digits")["request_id"]) == sorted(said)
