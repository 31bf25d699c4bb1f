"""What a line per request costs the function: requests per second of the same bundle that writes its lines and of one that does not.

`make bench NAME=monitor` takes a minute or two, `FULL=1` five; both need wrk. Each round loads both in turns.
"""

import os
import shutil
import statistics
import tempfile
from pathlib import Path

from benchmarks import servers, serving
from benchmarks.figures import ROOT, Figure, conclude
from benchmarks.servers import Peer

ROUNDS, SECONDS = (25, 4.0) if os.environ.get("FULL") == "1" else (9, 2.0)
_WRITES = '        """Write what became of a request'
CLIENTS = 8


def main() -> None:
    """Measure, compare, conclude."""
    servers.need_wrk()
    with tempfile.TemporaryDirectory() as name:
        runs = _turns(Path(name))
    ratio = statistics.median(writing / silent for writing, silent in runs)
    rates = [writing for writing, _ in runs]
    value, against = statistics.median(rates), statistics.median(silent for _, silent in runs)
    conclude("monitor", [Figure("requests/s at 8 with a line each", value, "/s", against, ratio, rates, ">= 0.95", ratio >= 0.95)])


def _turns(folder: Path) -> list[tuple[float, float]]:
    """Return the requests per second with lines and without, of each round."""
    images, _ = serving.export(folder)
    mute = Path(shutil.copytree(folder / "bundle", folder / "mute"))
    lines = (mute / "lines.py").read_text("utf-8")
    assert lines.count(_WRITES) == 1
    (mute / "lines.py").write_text(lines.replace(_WRITES, f"        return\n{_WRITES}"), "utf-8")
    form = serving.forms_of(images[0])["28x28x1"]
    log, other = folder / "writing.log", folder / "mute.log"
    with (
        servers.running(_peer(folder / "bundle", "with lines"), form, log) as writing,
        servers.running(_peer(mute, "without lines"), form, other) as silent,
    ):
        runs = [(_rate(writing, form, folder), _rate(silent, form, folder)) for _ in range(ROUNDS)]
    assert log.stat().st_size > 100 * other.stat().st_size, "One of them does otherwise than its name says."
    return runs


def _peer(bundle: Path, name: str) -> Peer:
    locked = ("--require-hashes", "-r", str(ROOT / "cloud_function" / "requirements.txt"))
    hosted = ("functions-framework", "--host", "127.0.0.1", "--target", "predict", "--port", "PORT", "--source")
    return Peer(name, "function", locked, (*hosted, str(bundle / "main.py")))


def _rate(server: servers.Running, form: servers.Form, folder: Path) -> float:
    found = servers.load(server, form, CLIENTS, SECONDS, folder)
    assert not found.bad
    return found.rate


if __name__ == "__main__":
    main()
