"""Races of rowmill's search against stock Keras Tuner, and against its peers' algorithms given the same first trial; on MNIST.

Time is CPU seconds of one process with one thread, counted from the start of the search; there are as many races at once as cores.
A contender that has not arrived when its race ends counts with the race's length: its ratio is a lower bound. Keras Tuner's Bayesian search
begins with three random trials per hyperparameter, more than a race holds: until then it is its random search, so that one race
stands for both, but for FULL=1. `.rowmill/bench/races.json` keeps every race's curve.
"""

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from benchmarks.figures import ROOT, Figure

FULL = bool(os.environ.get("FULL"))
SEEDS = range(1, 11 if FULL else 6)
# CPU seconds of a race, of a stock contender's, and the validation accuracies to be reached.
RACES = {"mlp": (15.0, 60.0 if FULL else 15.0, (0.965,)), "cnn": (50.0, 180.0 if FULL else 50.0, (0.985, 0.99))}
RANDOM = ("random", "bayesian") if FULL else ("random",)
STOCK = (*RANDOM, "hyperband")
PEERS = (*(f"{kind}+first" for kind in STOCK), "optuna")
OURS = "rowmill"
SOONER = 3.0

# Contender, network, seed to its curve: pairs of CPU seconds and best validation accuracy so far.
Curve = list[tuple[float, float]]
Curves = dict[tuple[str, str, int], Curve]


def figures() -> list[Figure]:
    """Run all races, and compare."""
    curves = _all()
    return [figure for network in RACES for figure in (*_against_stock(curves, network), *_against_peers(curves, network))]


def _all() -> Curves:
    interpreter = _optuna()
    entries = list(product(SEEDS, RACES, (OURS, *STOCK, *PEERS)))
    started = time.monotonic()

    def run(entry: tuple[int, str, str]) -> Curve:
        seed, network, contender = entry
        seconds, stock_seconds, targets = RACES[network]
        limits = (stock_seconds, targets[-1]) if contender in STOCK else (seconds, 2.0)
        command = [interpreter if contender == "optuna" else sys.executable, "-m", "benchmarks.race", contender, network, str(seed)]
        found = subprocess.run([*command, *map(str, limits)], cwd=ROOT, capture_output=True, text=True, check=False)
        if found.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {found.returncode}: {found.stderr[-800:]}")
        curve = [(at, accuracy) for at, accuracy in json.loads(found.stdout.strip().splitlines()[-1]) if at <= limits[0]]
        print(f"{time.monotonic() - started:5.0f} s  {network} {contender:16} seed {seed}  {curve[-1][1]:.4f}", flush=True)
        return curve

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        curves = {(c, n, s): curve for (s, n, c), curve in zip(entries, pool.map(run, entries), strict=True)}
    _keep(curves)
    return curves


def _keep(curves: Curves) -> None:
    path = ROOT / ".rowmill" / "bench" / "races.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"contender": c, "network": n, "seed": s, "curve": curve} for (c, n, s), curve in curves.items()]
    path.write_text(json.dumps(rows), "utf-8")


def _optuna() -> str:
    """Return the interpreter of an environment that has Optuna on top of this one's packages."""
    folder = ROOT / ".rowmill" / "bench-venvs" / "optuna"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        (site / "rowmill.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT / 'lib'}\n")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "optuna>=5,<6"], check=True)
        (folder / "ready").touch()
    return str(python)


def _reached(curve: Curve, accuracy: float, end: float) -> float:
    """Return the CPU seconds to an accuracy; the race's end when it was not reached."""
    return next((at for at, best in curve if best >= accuracy), end)


def _times(curves: Curves, contender: str, network: str, accuracy: float) -> list[float]:
    seconds, stock_seconds, _ = RACES[network]
    end = stock_seconds if contender in STOCK else seconds
    return [_reached(curves[contender, network, seed], accuracy, end) for seed in SEEDS]


def _finals(curves: Curves, contender: str, network: str) -> list[float]:
    return [curves[contender, network, seed][-1][1] for seed in SEEDS]


def _against_stock(curves: Curves, network: str) -> list[Figure]:
    found = []
    for accuracy, kind in product(RACES[network][2], STOCK):
        ours, theirs = (_times(curves, name, network, accuracy) for name in (OURS, kind))
        value, against = statistics.median(ours), statistics.median(theirs)
        arrived = value < RACES[network][0]
        bound = "" if against < RACES[network][1] else ", which did not arrive"
        name = f"{network} to {accuracy}, against Keras Tuner's {kind}{bound}"
        ratio = against / value
        found.append(Figure(name, value, "s", against, ratio, ours, f">= {SOONER:g}", arrived and ratio >= SOONER))
    return found


def _against_peers(curves: Curves, network: str) -> list[Figure]:
    """Compare with the best of the peers: the time to its median final accuracy, and the accuracy in the end."""
    finals = {peer: statistics.median(_finals(curves, peer, network)) for peer in PEERS}
    level = max(finals.values())
    own = _finals(curves, OURS, network)
    ours = _times(curves, OURS, network, level)
    times = {peer: statistics.median(_times(curves, peer, network, level)) for peer in PEERS}
    first = min(times, key=lambda peer: times[peer])
    value, final, best = statistics.median(ours), statistics.median(own), max(finals, key=lambda peer: finals[peer])
    to_level = Figure(
        f"{network} to the peers' best final {level:.4f}, against {first}", value, "s", times[first], times[first] / value, ours,
        ">= 1", value <= times[first] and value < RACES[network][0],
    )  # fmt: skip
    ratio = (1 - level) / (1 - final)
    at_end = Figure(
        f"{network} error in the end, against {best}", 1 - final, "", 1 - level, ratio, [1 - o for o in own], ">= 1", ratio >= 1
    )
    return [to_level, at_end]
