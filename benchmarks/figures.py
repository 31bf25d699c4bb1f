"""What a benchmark measures: figures with their opponent, their runs and their target, as a table and as JSON."""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        figure: What was measured.
        value: The median of `runs`.
        unit: Of `value`, `against` and `runs`.
        against: What `value` is compared with, in the same unit: the opponent's median, or a size.
        ratio: The better way round: how many times faster than the opponent, or how much of the size is used.
        runs: Each run's value.
        target: What the ratio must reach, such as `>= 5` or `<= 3`.
        holds: Whether it does.
    """

    figure: str
    value: float
    unit: str
    against: float
    ratio: float
    runs: list[float]
    target: str
    holds: bool


def faster(figure: str, runs: Sequence[float], opponent: Sequence[float], least: float) -> Figure:
    """Compare seconds with an opponent's, which were measured in turn with them; `least` is the ratio that must be reached."""
    value, against = statistics.median(runs), statistics.median(opponent)
    ratio = against / value
    return Figure(figure, value, "s", against, ratio, list(runs), f">= {least:g}", ratio >= least)


def within(figure: str, runs: Sequence[float], size: float, most: float) -> Figure:
    """Compare used MB with the size of the data in MB; `most` is the ratio that must be kept."""
    value = statistics.median(runs)
    return Figure(figure, value, "MB", size, value / size, list(runs), f"<= {most:g}", value / size <= most)


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def conclude(name: str, figures: Sequence[Figure]) -> None:
    """Print the figures, write them to `.rowmill/bench/NAME.json`, and exit with 1 when one misses its target."""
    path = ROOT / ".rowmill" / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([dataclasses.asdict(figure) for figure in figures], indent=1) + "\n")
    wide = max(len(figure.figure) for figure in figures)
    print(f"{'':{wide}}  {'median':>10}  {'against':>10}  {'ratio':>6}  target")
    for f in figures:
        held = "" if f.holds else "  MISSED"
        print(f"{f.figure:{wide}}  {f.value:7.3f} {f.unit:2}  {f.against:7.3f} {f.unit:2}  {f.ratio:6.1f}  {f.target}{held}")
    sys.exit(0 if all(figure.holds for figure in figures) else 1)
