"""What the pipeline costs over its notebooks' own calls, a run in which nothing changed, and fires that overlap.

Own calls: the same code cells with the same parameters, one after the other in one Python process, in turn with `pipeline.run`; neither
starts a dashboard. Digits, and MNIST where its folder is there. Each run begins without any state, but for the one that has nothing to do.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rowmill import jobs, settings
from rowmill.data.warehouse import connect
from rowmill.flow import runs, steps

from benchmarks.figures import ROOT, Figure, conclude, seconds
from tests.flow import mill as mills

MNIST = Path(os.environ.get("ROWMILL_MNIST") or ROOT.parent / "shared" / "data" / "mnist")
PARTS = ("notebooks", "dashboards", "cloud_function", "rowmill.toml", "pipeline.yaml")
DIGITS = {"trials": 1, "epochs": 12, "minutes": 5.0, "seed": 11, "network": "mlp", "check_up": False}
LARGE = {"trials": 2, "epochs": 4, "minutes": 30.0, "seed": 11, "network": "cnn", "check_up": False}
RUNS, LARGE_RUNS, UNCHANGED, FIRES = 3, 1, 5, 50
OVERHEAD_SECONDS, OVERHEAD_SHARE, UNCHANGED_SECONDS = 6.0, 0.15, 2.0

_PIPELINE = "import sys; from rowmill import pipeline, settings; pipeline.run(settings.load(), pipeline.Order(*sys.argv[1:]))"
_OWN_CALLS = """
import ast, json, sys
from rowmill.flow import notebook
from rowmill import settings
mill, handed = settings.load(), json.loads(sys.argv[1])
for name in sys.argv[2:]:
    result = mill.state / f"{name}.json"
    result.parent.mkdir(exist_ok=True)
    known = notebook.parameters(mill, name)
    chosen = {key: value for key, value in {**handed, "result": str(result)}.items() if key in known}
    names = {"__name__": name}
    for cell in json.loads(notebook.path_of(mill, name).read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            names |= chosen
    handed |= json.loads(result.read_text())
"""
_ALONE = "import time\nwith Path('times').open('a') as file:\n    _ = file.write(f'{time.time()} ')\ntime.sleep(0.3)\n"
_ENDED = "with Path('times').open('a') as file:\n    _ = file.write(f'{time.time()}\\n')\n_ = Path('made').write_text('made')"


def main() -> None:
    """Measure, compare, conclude."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        figures.append(_overhead(Path(folder), "digits", DIGITS, RUNS))
        figures.append(_unchanged(Path(folder)))
        figures.append(_overlap(Path(folder) / "fires"))
        if MNIST.exists():
            figures.append(_overhead(Path(folder), str(MNIST), LARGE, LARGE_RUNS))
        else:
            print(f"MNIST WAS NOT MEASURED: {MNIST} is not there; set ROWMILL_MNIST to the folder that holds it.")
    conclude("pipeline", figures)


def _overhead(folder: Path, source: str, parameters: dict[str, object], count: int) -> Figure:
    """Compare the pipeline with its notebooks' own calls, in turns."""
    times: dict[str, list[float]] = {"pipeline": [], "own": []}
    names = [step.notebook for step in steps.choose(steps.load(settings.load(ROOT)), ())]
    given = " ".join(f"{name}={value}" for name, value in parameters.items())
    for turn in range(count):
        for kind in sorted(times, reverse=bool(turn % 2)):
            place = folder / f"{Path(source).name}-{kind}-{turn}"
            own = [_OWN_CALLS, json.dumps({**parameters, "source": source}), *names]
            command = [_PIPELINE, source, given] if kind == "pipeline" else own
            times[kind].append(_timed(place, [sys.executable, "-c", *command]))
            print(f"{place.name}: {times[kind][-1]:.1f} s", flush=True)
            if kind == "own":
                assert json.loads((place / ".rowmill" / "04_release.json").read_text())["deployed"]
    extra = [one - other for one, other in zip(times["pipeline"], times["own"], strict=True)]
    value, against = statistics.median(extra), statistics.median(times["own"])
    is_large = source != "digits"
    target = f"<= {OVERHEAD_SHARE:.0%} of them" if is_large else f"<= {OVERHEAD_SECONDS:g} s"
    holds = value / against <= OVERHEAD_SHARE if is_large else value <= OVERHEAD_SECONDS
    return Figure(f"over the own calls, {Path(source).name}", value, "s", against, value / against, extra, target, holds)


def _unchanged(folder: Path) -> Figure:
    """Time `rowmill run` where nothing changed; what serves and the dashboard are up, as after any run."""
    place = folder / "unchanged"
    given = " ".join(f"{name}={value}" for name, value in DIGITS.items())
    command = [sys.executable, "-m", "rowmill", "run", "--parameters", given]
    environment = _lay(place)
    try:
        subprocess.run(command, cwd=place, env=environment, check=True, stdout=subprocess.DEVNULL)
        timed = [
            seconds(lambda: subprocess.run(command, cwd=place, env=environment, check=True, capture_output=True)) for _ in range(UNCHANGED)
        ]
    finally:
        _stop(place)
    assert len(list((place / ".rowmill" / "runs").glob("*/*.ipynb"))) == 4, "a notebook was started"
    value = statistics.median(timed)
    return Figure(
        "a run in which nothing changed",
        value,
        "s",
        UNCHANGED_SECONDS,
        value / UNCHANGED_SECONDS,
        timed,
        "<= 1",
        value <= UNCHANGED_SECONDS,
    )


def _overlap(folder: Path) -> Figure:
    """Let two fires begin within a second of each other, many times; count those that ran at the same time as another."""
    mill = mills.make(folder, "steps:\n  alone: {notebook: alone, makes: [done], files: [made]}\n")
    mills.write_notebook(mill.root / "notebooks" / "alone.ipynb", "nothing = 0", [_ALONE, _ENDED], "'done': True")
    command = [sys.executable, "-m", "rowmill", "fire", "--reason", "planned"]
    chance = random.Random(7)
    for _ in range(FIRES):
        (mill.root / "made").unlink(missing_ok=True)
        both = []
        for pause in (0.0, chance.choice((0.0, chance.random()))):
            time.sleep(pause)
            both.append(subprocess.Popen(command, cwd=mill.root, stdout=subprocess.DEVNULL))
        assert [process.wait() for process in both] == [0, 0]
    spans = sorted(tuple(map(float, line.split())) for line in (mill.root / "times").read_text().splitlines())
    twice = sum(later[0] < earlier[1] for earlier, later in zip(spans, spans[1:], strict=False))
    outcomes = [run.outcome for run in runs.known(mill, connect(mill))]
    assert len(outcomes) == 2 * FIRES and set(outcomes) <= {"completed", "skipped"}
    print(f"{FIRES} times two fires: {len(spans)} ran, {outcomes.count('skipped')} were skipped, {twice} at the same time as another")
    return Figure("fires that ran at once", twice, "", outcomes.count("skipped"), twice, [twice], "<= 0", twice == 0)


def _timed(place: Path, command: Sequence[str]) -> float:
    environment = _lay(place)
    try:
        return seconds(lambda: subprocess.run(command, cwd=place, env=environment, check=True, capture_output=True))
    finally:
        _stop(place)


def _lay(place: Path) -> dict[str, str]:
    """Lay a project without state into a folder; return the environment to use it in."""
    place.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, place / part)
    ports = {"ROWMILL_TARGET_PORT": str(jobs.free_port()), "ROWMILL_DASHBOARD_PORT": str(jobs.free_port())}
    return {**{name: value for name, value in os.environ.items() if not name.startswith("ROWMILL_")}, **ports}


def _stop(place: Path) -> None:
    for name in jobs.names(place / ".rowmill"):
        jobs.stop(place / ".rowmill", name)


if __name__ == "__main__":
    main()
