"""The gate judges planted opponents first, and gives no verdict where it is wrong about one."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from rowmill.judging import finding, opponents
from rowmill.judging.checks import Sides
from rowmill.judging.costs import Costs
from rowmill.judging.finding import Finding, Terms
from rowmill.sections import Gate

LABELS = tuple("0123456789")


def incumbent(rows: int, errors: int) -> Sides:
    """Return an incumbent with so many errors; what the candidate answers is nobody's business."""
    truth = np.arange(rows) % 10
    answers = truth.copy()
    answers[np.random.default_rng(5).permutation(rows)[:errors]] += 1
    probabilities = np.full((rows, 10), 0.01)
    probabilities[np.arange(rows), answers % 10] = 0.91
    return Sides(LABELS, truth, np.full((rows, 10), np.nan), probabilities)


@pytest.mark.parametrize("level", [0.0304, 0.001, 1e-5])
@pytest.mark.parametrize("rows", [400, 1000, 5000])
def test_a_gate_that_works_proves_itself(rows: int, level: float) -> None:
    proof = opponents.prove(incumbent(rows, rows // 8), Terms(level=level))
    assert not proof.problem and "judged planted opponents" in proof.notes[0] and "left out" not in proof.notes[0]


@pytest.mark.parametrize(
    ("rows", "level", "count"),
    [(5000, 0.0304, 100), (400, 0.0304, 15), (1000, 1e-5, 30)],
    ids=["2 points", "as many as can be shown", "at a low level more"],
)
def test_as_many_as_must_be_shown_are_planted(rows: int, level: float, count: int) -> None:
    seen = []

    def watch(sides: Sides, terms: Terms) -> Finding:
        right, before = sides.right
        seen.append((int((right & ~before).sum()), int((~right & before).sum())))
        return finding.find(sides, terms)

    proof = opponents.prove(incumbent(rows, rows // 8), Terms(level=level), watch)
    assert seen == [(0, 0), (0, count), (count, 0)] and f"with {count} of {rows:,} answers" in proof.notes[0]


def test_too_few_rows_give_no_verdict() -> None:
    assert opponents.prove(incumbent(6, 1), Terms(level=0.0304)).problem.startswith("6 rows are too few: at the level 0.03")
    assert not opponents.prove(incumbent(7, 0), Terms(level=0.0304)).problem


def test_too_few_errors_leave_one_opponent_out() -> None:
    proof = opponents.prove(incumbent(1000, 5), Terms(level=0.0304))
    assert not proof.problem and "; the mended one was left out, for less than 20 answers could be mended" in proof.notes[0]
    proof = opponents.prove(incumbent(1000, 995), Terms(level=0.0304))
    assert "the spoiled one was left out" in proof.notes[0]


def outcome_of(change: Callable[[Finding], Finding]) -> Callable[[Sides, Terms], Finding]:
    """Return a gate that is broken in this way."""
    return lambda sides, terms: change(finding.find(sides, terms))


def swapped(found: Finding) -> Finding:
    """Mistake the candidate for the incumbent."""
    return dataclasses.replace(found, gain={"better": "worse", "worse": "better"}.get(found.gain, found.gain), checks=[])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swapped, "against itself with 20 answers spoiled 'better' instead of 'worse'"),
        (lambda found: dataclasses.replace(found, gain="better"), "against itself 'better' instead of 'cannot tell'"),
        (lambda found: dataclasses.replace(found, gain="cannot tell", checks=[]), "20 answers spoiled 'cannot tell' instead of 'worse'"),
        (
            lambda found: dataclasses.replace(found, gain="cannot tell") if found.gain == "better" else found,
            "20 answers mended 'cannot tell' instead of 'better'",
        ),
    ],
    ids=["sides swapped", "always better", "never tells", "never better"],
)
def test_a_broken_gate_gives_no_verdict(change: Callable[[Finding], Finding], words: str) -> None:
    proof = opponents.prove(incumbent(1000, 100), Terms(level=0.0304), outcome_of(change))
    assert proof.problem.startswith("the gate's own proof failed") and words in proof.problem


def test_a_minimal_effect_is_part_of_the_proof() -> None:
    proof = opponents.prove(incumbent(1000, 200), Terms(Gate(minimal_effect=5.0), 0.0304))
    assert not proof.problem and "with 68 of 1,000" in proof.notes[0]


def test_where_cost_decides_only_dear_errors_are_planted() -> None:
    matrix = 1.0 - np.eye(10)
    matrix[3] = 0.0  # to take a 3 for something else costs nothing
    terms = Terms(Gate(measure="cost"), 0.0304, Costs(matrix))
    seen = []

    def watch(sides: Sides, terms: Terms) -> Finding:
        seen.append(set(sides.targets[sides.right[0] != sides.right[1]].tolist()))
        return finding.find(sides, terms)

    proof = opponents.prove(incumbent(1000, 200), terms, watch)
    assert not proof.problem and seen[1] and all(3 not in labels for labels in seen)
