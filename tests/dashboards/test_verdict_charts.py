"""What stands behind a verdict is drawn as it was found."""

import dataclasses

import numpy as np
from rowmill.data.dataset import Examples
from rowmill.judging import verdict
from rowmill.judging.checks import Sides
from rowmill.judging.finding import Terms
from rowmill.pages import charts, verdict_charts
from rowmill.records import Verdict

LABELS = ("ant", "bee", "cow")


def sure(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return probabilities for these answers."""
    probabilities = np.full((len(labels), classes), 0.1 / (classes - 1))
    probabilities[np.arange(len(labels)), labels] = 0.9
    return probabilities


def judged(labels: tuple[str, ...] = LABELS) -> Verdict:
    """Return a verdict on 300 rows: of bees 12 are lost, of cows 3 gained."""
    truth = np.arange(300) % 3
    ours, theirs = truth.copy(), truth.copy()
    ours[np.flatnonzero(truth == 1)[:12]] = 2
    theirs[np.flatnonzero(truth == 2)[:3]] = 0
    sides = Sides(labels, truth, sure(ours, len(labels)), sure(theirs, len(labels)))
    return verdict.judge(verdict.Pair("farm", "aaaaaaaa-t001", "bbbbbbbb-t001"), sides, Terms())


def test_classes_confusion_and_calibration_are_drawn() -> None:
    chart = verdict_charts.behind(judged())
    classes, confusion, calibration = chart.axes
    assert [bar.get_width() for bar in classes.patches] == [0, -12, 3]
    assert [text.get_text() for text in classes.texts] == ["+0 \N{MINUS SIGN}12", "+3 \N{MINUS SIGN}0"]
    assert classes.patches[1].get_facecolor()[:3] == tuple(int(charts.BAD[at : at + 2], 16) / 255 for at in (1, 3, 5))
    assert np.asarray(confusion.images[0].get_array()).tolist() == [[0, 0, 0], [0, -12, -12], [3, 0, 3]]
    assert [text.get_text() for text in confusion.texts] == ["-12", "+12", "-3", "+3"]
    names = [text.get_text() for text in calibration.get_legend().get_texts()]
    assert names == ["aaaaaaaa-t001, error 0.060", "bbbbbbbb-t001, error 0.090"]
    assert chart._repr_svg_().startswith("<?xml")


def test_disagreements_are_drawn_with_both_answers() -> None:
    found = judged()
    listed = found.report.details["disagreements"]
    images = np.arange(15 * 12, dtype=np.uint8).reshape(15, 2, 2, 3)
    chart = verdict_charts.gallery(found, Examples([str(n) for n in range(15)], images, np.zeros(15, np.int64)))
    assert len(chart.axes) == len(listed) == 15
    assert chart.axes[0].get_title() == listed[0]["label"]
    said = [text.get_text() for text in chart.axes[0].texts]
    assert said == [f"{listed[0]['ours']} 90%", f"{listed[0]['theirs']} 90%"]
    assert {axes.get_title() for axes in chart.axes} == {"bee", "cow"}
    assert verdict_charts.gallery(found, Examples([], images[..., :1], np.zeros(15, np.int64)))._repr_svg_().startswith("<?xml")


def test_many_labels_stay_a_page() -> None:
    chart = verdict_charts.behind(judged(tuple(f"label {n:03d} of a long name" for n in range(60))))
    assert len(chart.axes[0].patches) == 30 and chart.axes[1].texts[0].get_text() == "too many labels to draw"
    assert chart.get_size_inches()[1] < 10


def test_a_verdict_without_answers_says_so() -> None:
    for found in (verdict.no_answer(verdict.Pair("farm", "a", "b"), "silence"), dataclasses.replace(judged(), report=None)):
        assert "no answers to draw" in verdict_charts.behind(found)._repr_svg_() or verdict_charts.behind(found).texts
        assert verdict_charts.gallery(found, Examples([], np.zeros((0, 2, 2, 1), np.uint8), np.zeros(0, np.int64))).texts
        assert charts.verdict(found)._repr_svg_().startswith("<?xml")
