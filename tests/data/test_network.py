"""A network that is lost in the midst of an answer is one sentence within the warehouse's patience, not Google's ten minutes."""

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pandas as pd
import pytest
from rowmill.data import warehouse
from rowmill.data.bigquery import BigqueryWarehouse
from rowmill.errors import WarehouseError
from rowmill.settings import Settings

from tests.data.test_warehouse import TABLE, rows
from tests.emulator.process import Emulator, free_pair

PATIENCE = 2.0
# So many that the client reads them by the Storage API, and that an answer has a midst.
MANY = pd.concat([rows(*"abcdefghij")] * 600, ignore_index=True)


class Network:
    """The way to the emulator's two ports.

    Attributes:
        port: The first of two ports that stand for the emulator's.
        left: Bytes of answers that still come through; then it is lost.
        silent: Whether it is lost without a word, as by a pulled plug, or its connections are closed.
    """

    def __init__(self, target: int) -> None:
        self.port = free_pair()
        self.left = float("inf")
        self.silent = False
        self._ends: list[socket.socket] = []
        for number in range(2):
            server = socket.create_server(("127.0.0.1", self.port + number))
            self._ends.append(server)
            threading.Thread(target=self._accept, args=(server, target + number), daemon=True).start()

    def close(self) -> None:
        """Close all connections, and take no new ones."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, server: socket.socket, target: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, far = server.accept()[0], socket.create_connection(("127.0.0.1", target))
                self._ends += [near, far]
                threading.Thread(target=self._pass_on, args=(near, far, 0), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(far, near, 1), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counted: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1024):
                self.left -= counted * len(data)
                if self.left >= 0:
                    target.sendall(data)
                elif not self.silent:
                    self.close()
            if not self.silent:
                target.shutdown(socket.SHUT_WR)


@pytest.fixture(name="network")
def fixture_network(emulator: Emulator) -> Iterator[Network]:
    """A network that works."""
    network = Network(int(emulator.address.rpartition(":")[2]))
    yield network
    network.close()


@pytest.fixture(name="store")
def fixture_store(on_bigquery: Settings, network: Network, monkeypatch: pytest.MonkeyPatch) -> BigqueryWarehouse:
    """A warehouse with many rows at the other end of the network."""
    address = f"http://127.0.0.1:{network.port}"
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", address)
    far = dataclasses.replace(on_bigquery, warehouse_emulator=address)
    patient, store = warehouse.connect(far), warehouse.connect(far)
    patient.append(TABLE, MANY)
    assert len(patient.read(TABLE)) == len(patient.scan(TABLE)) == len(MANY)
    assert isinstance(store, BigqueryWarehouse)
    store.access = dataclasses.replace(store.access, patience_seconds=PATIENCE)
    store.read(TABLE, {"name": "nobody"})
    return store


USES = [
    pytest.param(lambda store: store.read(TABLE), 10_000, id="query"),
    pytest.param(lambda store: store.read(TABLE), 1_500_000, id="download-of-a-query"),
    pytest.param(lambda store: store.scan(TABLE, None, ("name", "blob")), 500_000, id="download"),
    pytest.param(lambda store: store.append(TABLE, MANY), 0, id="upload"),
]


@pytest.mark.parametrize("silent", [False, True], ids=["cut", "silent"])
@pytest.mark.parametrize(("use", "after"), USES)
def test_a_lost_network_is_a_sentence_in_time(
    store: BigqueryWarehouse, network: Network, use: Callable[[BigqueryWarehouse], object], after: int, silent: bool
) -> None:
    network.silent, network.left = silent, after
    start = time.monotonic()
    with pytest.raises(WarehouseError, match=r"BigQuery cannot be reached for .*\.things: .* look at the network, then try again"):
        use(store)
    assert network.left < 0 and time.monotonic() - start < 5 * PATIENCE
