"""The building blocks of all pages, without a browser."""

import threading

import pytest
from rowmill.errors import NotFoundError
from rowmill.pages import parts, plots
from rowmill.pages.table import Cell, Column, Table

from tests.dashboards.conftest import wait_until

NASTY = "<img src=x onerror=document.title='taken'>"


class TestGuarded:
    """Callbacks whose errors are seen."""

    @pytest.mark.parametrize(
        ("error", "sentence"),
        [
            (NotFoundError("There is no such model", step="name another"), "There is no such model; name another."),
            (ZeroDivisionError("oh"), "Something unexpected happened (ZeroDivisionError: oh); refresh"),
        ],
        ids=["ours", "unforeseen"],
    )
    def test_shows_the_sentence_of_each_error(self, error: Exception, sentence: str):
        notice = parts.Notice()

        def fail() -> None:
            raise error

        parts.guarded(notice, fail)()
        wait_until(lambda: notice.text.startswith(sentence))
        assert notice.kind == "failed"

    def test_returns_at_once_and_takes_no_second_click_meanwhile(self):
        go, calls = threading.Event(), []
        click = parts.guarded(parts.Notice(), lambda: calls.append(go.wait(10)))
        click()
        click()
        assert not calls
        go.set()
        wait_until(lambda: calls == [True])
        click()
        wait_until(lambda: calls == [True, True])


def test_each_beat_is_answered_though_the_refresh_takes_its_time():
    go, calls, notice = threading.Event(), [], parts.Notice()
    beat = parts.Beat(lambda: calls.append(go.wait(10)), notice)
    beat.strike()
    beat.strike()
    assert beat.answer == 2 and not calls
    go.set()
    wait_until(lambda: len(calls) == 1)


def test_a_table_tells_which_row_was_chosen():
    chosen: list[str] = []
    table = Table("Models", [Column("Model", kind="code"), Column("Size", kind="number")], chosen.append)
    table.fill([("a", [Cell("a"), Cell("1 kB", 1000)]), ("b", [Cell(NASTY, badge="bad"), Cell("?", float("nan"))])])
    assert table.rows[0] == {"id": "a", "cells": [{"text": "a"}, {"text": "1 kB", "sort": 1000}]}
    assert "sort" not in table.rows[1]["cells"][1]  # JSON has no NaN
    table._handle_custom_msg({"chosen": "b"}, [])  # pylint: disable=protected-access  # as the browser does
    assert chosen == ["b"]


class TestPlots:
    """Charts as markup."""

    @pytest.mark.parametrize(
        ("low", "high", "marks"),
        [(1, 20, [0, 5, 10, 15, 20]), (0.91, 0.987, [0.9, 0.92, 0.94, 0.96, 0.98, 1.0]), (-3, 3, [-4, -2, 0, 2, 4])],
    )
    def test_ticks_are_round_and_enclose_the_values(self, low: float, high: float, marks: list[float]):
        assert plots.ticks(low, high) == pytest.approx(marks)

    def test_a_curve_has_its_points_in_place(self):
        drawn = plots.lines({"a": [(1, 0.5), (2, float("nan")), (3, 1.0)]}, "epoch", NASTY)
        points = [tuple(map(float, p.split(","))) for p in drawn.split('points="')[1].split('"')[0].split()]
        assert len(points) == 2 and points[0][0] < points[1][0] and points[0][1] > points[1][1]
        assert "<img" not in drawn and plots.lines({"a": []}, "x", "y") == "" and "circle" in plots.lines({"a": [(1, 1)]}, "x", "y")

    def test_a_matrix_shows_counts_and_escapes_labels(self):
        drawn = plots.matrix([[1200, 3], [0, 7]], ["cat", NASTY], "true", "answered")
        assert ">1,200</td>" in drawn and drawn.count("--bad") == 1 and drawn.count("--good") == 2 and "<img" not in drawn
