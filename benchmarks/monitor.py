"""What watching costs and what it sees: a line per request, false alarms and drift that is found, the page on a million requests, batches.

`make bench NAME=monitor` takes a quarter of an hour; `PART=lines`, `drift`, `page` or `batch` measures one of them. A line's cost is
the requests per second of the same bundle that writes its lines and of one that does not, loaded in turns (by wrk; longer with `FULL=1`).
Drift and batches need real MNIST, whose folder `ROWMILL_MNIST` names.
"""

import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import batch, drifting, servers, serving, watching
from benchmarks.figures import ROOT, Figure, conclude
from benchmarks.servers import Peer

ROUNDS, SECONDS = (25, 4.0) if os.environ.get("FULL") == "1" else (9, 2.0)
_WRITES = '        """Write what became of a request'
CLIENTS = 8


def main() -> None:
    """Measure, compare, conclude."""
    parts = {"lines": lines, "drift": drifting.figures, "page": watching.figures, "batch": batch.figures}
    chosen = os.environ.get("PART", "")
    if chosen not in ("", *parts):
        sys.exit(f"There is no part {chosen!r} to measure: give one of {', '.join(parts)}, or none for all.")
    conclude("monitor", [figure for name, measure in parts.items() if chosen in ("", name) for figure in measure()])


def lines() -> list[Figure]:
    """Measure what a line per request costs."""
    servers.need_wrk()
    with tempfile.TemporaryDirectory() as name:
        runs = _turns(Path(name))
    ratio = statistics.median(writing / silent for writing, silent in runs)
    rates = [writing for writing, _ in runs]
    value, against = statistics.median(rates), statistics.median(silent for _, silent in runs)
    return [Figure("requests/s at 8 with a line each", value, "/s", against, ratio, rates, ">= 0.95", ratio >= 0.95)]


def _turns(folder: Path) -> list[tuple[float, float]]:
    """Return the requests per second with lines and without, of each round."""
    images, _ = serving.export(folder)
    mute = Path(shutil.copytree(folder / "bundle", folder / "mute"))
    written = (mute / "lines.py").read_text("utf-8")
    assert written.count(_WRITES) == 1
    (mute / "lines.py").write_text(written.replace(_WRITES, f"        return\n{_WRITES}"), "utf-8")
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
