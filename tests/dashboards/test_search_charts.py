"""A search in pictures: the best stands out, failed trials are marked, and what cannot be said is said so."""

import numpy as np
import pytest
from rowmill.pages import search_charts
from rowmill.records import Trial
from rowmill.training import importance


def trial(number: int, score: float = np.nan, state: str = "completed", curve: tuple[float, ...] = (), **values: object) -> Trial:
    """Return a trial."""
    return Trial(f"kx3v9q2m-t{number:03d}", "digits", "v", state, {"network": "mlp", **values}, score, curve)


def searched(count: int, noise: float = 0.0) -> list[Trial]:
    """Return trials whose score depends on the rate alone, 0.9 to 0.98, and on noise."""
    generator = np.random.default_rng(3)
    made = []
    for number in range(1, count + 1):
        rate, units = float(generator.uniform(0.001, 0.1)), int(generator.choice([32, 64]))
        score = 0.9 + 0.8 * rate * (noise == 0) + noise * float(generator.normal())
        made.append(trial(number, score, curve=(0.5, score), rate=rate, units=units, optimizer="adam"))
    return made


def test_curves_and_scores_show_the_best_the_running_and_the_failed() -> None:
    known = [
        trial(1, 0.9, curve=(0.8, 0.9)),
        trial(2, 0.95, curve=(0.9, 0.95)),
        trial(3, state="failed"),
        trial(4, state="running", curve=(0.7,)),
    ]
    curves, scores = search_charts.trials(known).axes
    drawn = {tuple(np.round(line.get_ydata(), 6)): line.get_color() for line in curves.lines}
    assert set(drawn) == {(80, 90), (90, 95), (), (70,)} and drawn[(90, 95)] == search_charts.ACCENT != drawn[(80, 90)]
    assert scores.lines[0].get_ydata().tolist() == [90, 95, 95, 95]
    crosses = scores.collections[1].get_offsets()
    assert [place for place, _ in crosses] == [3]
    assert scores.get_title(loc="left") == "each trial's best; kx3v9q2m-t002 leads"


@pytest.mark.parametrize("known", [[trial(1, state="failed")], [trial(1, state="running")], [trial(1, -np.inf, curve=(-np.inf,))]])
def test_a_search_without_a_score_is_drawn(known: list[Trial]) -> None:
    chart = search_charts.trials(known)
    assert chart.axes[1].get_title(loc="left") == "each trial's best" and chart._repr_svg_().startswith("<?xml")


def test_scores_that_are_no_shares_are_not_percent() -> None:
    curves, _ = search_charts.trials([trial(1, -0.08, curve=(-0.2, -0.08))]).axes
    assert curves.lines[0].get_ydata().tolist() == [-0.2, -0.08] and curves.get_title(loc="left") == "validation score, by epoch"


def test_what_mattered_is_found() -> None:
    shares, explained = importance.of(searched(30))
    assert shares.index[0] == "rate" and shares["rate"] > 0.9 and set(shares.index) == {"rate", "units"} and explained > 0.5
    (axes,) = search_charts.mattered(searched(30)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["units", "rate"]


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (searched(9), "fewer than 10 trials"),
        ([trial(number, 0.9, rate=0.1) for number in range(20)], "nothing varied"),
        (searched(40, noise=0.01), "these trials do not explain the score"),
    ],
)
def test_what_mattered_is_not_claimed(known: list[Trial], why: str) -> None:
    chart = search_charts.mattered(known)
    assert not chart.axes and why in chart.get_suptitle()


def test_parallel_coordinates_lead_through_what_varied() -> None:
    known = searched(12)
    (axes,) = search_charts.parallel([*known, trial(13, state="failed", rate=0.05, units=32)]).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["rate", "units", "score"]
    lines = [line for line in axes.lines if len(line.get_ydata()) == 3]
    assert len(lines) == 12 and lines[-1].get_color() == search_charts.ACCENT and lines[-1].get_ydata()[-1] == 1
    assert not search_charts.parallel(known[:1]).axes


def test_a_live_chart_takes_little_time_and_ends_with_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(search_charts, "display", lambda chart, **_: drawn.append(len(chart.axes[0].lines)))
    live = search_charts.Live()
    live([])
    for count in range(1, 4):
        live([*searched(count), trial(9, state="running", curve=(0.5,))])
    live(searched(5))
    assert drawn == [2, 5]


def test_a_failed_trial_never_leads_and_all_curves_have_one_scale() -> None:
    known = [trial(1, 0.5, curve=(0.5,)), trial(2, state="failed", curve=(0.9,)), trial(3, -2.0, curve=(-2.0,))]
    curves, scores = search_charts.trials(known).axes
    assert {tuple(line.get_ydata()) for line in curves.lines} == {(0.5,), (0.9,), (-2.0,)}
    assert scores.get_title(loc="left").endswith("t001 leads") and scores.lines[0].get_ydata().tolist() == [0.5, 0.5, 0.5]
