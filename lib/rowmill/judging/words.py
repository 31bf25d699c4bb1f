"""What was found, in words: headline, figures and notes."""

import math

from rowmill.judging import statistics
from rowmill.judging.costs import REQUESTS
from rowmill.judging.finding import Comparison, Finding, Terms

_MOST_ROWS = 10**7  # more than anybody labels


def short(found: Finding, terms: Terms) -> str:
    """Return the headline's figures and the reason, such as `+0.11 points, between -0.15 and +0.37; 3,400 more labelled rows would ...`."""
    by_cost = terms.by_cost
    shown = _saved(found) if by_cost else between(found.comparison)
    failed = "; ".join(f"{check.name} fails: {check.note}" for check in found.checks if check.state == "fail")
    if failed:
        return f"{shown}; {failed}"
    if found.outcome != "cannot tell":
        return shown
    doubts = "; ".join(f"{check.name} is in doubt: {check.note}" for check in found.checks if check.doubt)
    if found.gain == "better":
        return f"{shown}; {doubts}"
    return f"{shown}; {_unsaved(found, terms) if by_cost else lacking(found.comparison, terms)}"


def lacking(comparison: Comparison, terms: Terms) -> str:
    """Return what would tell: how many more labelled rows, if any."""
    difference, effect = abs(comparison.difference), terms.gate.minimal_effect / 100
    if comparison.p_value < terms.level:
        return f"a gain, but less than the minimal effect of {terms.gate.minimal_effect:g} points"
    wanted = max(difference, effect)
    if not wanted:
        return "the two do not differ, and no number of rows shows that they are equal"
    needed = math.ceil(statistics.rows_needed(wanted, comparison.discordant, terms.level)) - comparison.rows
    shown = "it" if difference >= effect else f"a difference of {100 * wanted:.2g} points"
    if needed <= 0:
        return f"these rows would have shown {shown} in four of five cases"
    if needed > _MOST_ROWS:
        return f"more than {_MOST_ROWS:,} more labelled rows would be needed to show {shown}"
    return f"{_rounded(needed):,} more labelled rows would show {shown}"


def gain(found: Finding, terms: Terms) -> tuple[str, str, str]:
    """Return name, state and note of the deciding measure."""
    state = {"better": "pass", "worse": "fail", "cannot tell": "silent"}[found.gain]
    if terms.by_cost and found.saving:
        note = f"{_saved(found)}; sign-flip test p = {found.saving.p_value:.2g}, level {terms.level:.2g}"
        return "cost", state, f"{note}, must save at least {terms.gate.minimal_saving:g}"
    note = f"{between(found.comparison)}; {figures(found.comparison, terms.level)}"
    return "accuracy", state, f"{note}; must gain at least {terms.gate.minimal_effect:g} points"


def notes(found: Finding, terms: Terms) -> list[str]:
    """Return what these rows could have shown, and what the answers cost where cost does not decide."""
    comparison = found.comparison
    could = statistics.detectable(comparison.rows, comparison.discordant, terms.level, terms.gate.minimal_effect / 100)
    said = [f"These {comparison.rows:,} rows show a true difference of {100 * could:.2f} points in four of five cases (power 0.8)."]
    if found.saving and any(found.saving.abstained):
        ours, theirs = found.saving.abstained
        said.append(f"Below the abstain threshold are {ours:.1%} of the candidate's answers and {theirs:.1%} of the incumbent's.")
    if found.saving and not terms.by_cost:
        said.append(f"In costs: {_saved(found)}.")
    return said


def figures(comparison: Comparison, level: float) -> str:
    """Return the counts and the test."""
    return (
        f"{comparison.ours:.2%} against {comparison.theirs:.2%} of {comparison.rows} holdout rows right, "
        f"{comparison.gained} rows gained and {comparison.lost} lost "
        f"(exact McNemar p {_exponent(comparison.p_value)}, level {level:.2g})"
    )


def between(comparison: Comparison) -> str:
    """Return the difference with its 95 % interval, such as `+0.11 points, between -0.15 and +0.37`."""
    low, high = comparison.interval
    return f"{points(comparison.difference)} points, between {points(low)} and {points(high)}"


def points(share: float) -> str:
    """Return a share, -1 to 1, as points with their sign."""
    return f"{share * 100:+.2f}"


def alarm(sentence: str) -> str:
    """Return what a verdict says first."""
    return f"{sentence} " if sentence else ""


def _exponent(p_value: float) -> str:
    return f"= {p_value:.2g}" if p_value >= 1e-99 else "< 1e-99"


def _saved(found: Finding) -> str:
    saving = found.saving
    assert saving is not None
    return (
        f"{saving.ours:.4g} against {saving.theirs:.4g} per {REQUESTS:,} requests: saves {saving.saving:+.4g}, "
        f"between {saving.low:+.4g} and {saving.high:+.4g}"
    )


def _unsaved(found: Finding, terms: Terms) -> str:
    """Return what would tell where cost decides; rows grow as the square of what is to be seen."""
    saving = found.saving
    assert saving is not None
    if saving.p_value < terms.level:
        return f"a saving, but less than {terms.gate.minimal_saving:g}"
    if not saving.saving:
        return "the two cost the same, and no number of rows shows that they are equal"
    deviation = (saving.high - saving.low) / 2 / statistics.z(0.05)
    times = ((statistics.z(terms.level) + statistics.z_power()) * deviation / saving.saving) ** 2
    rows = found.comparison.rows
    return f"{_rounded(max(1, math.ceil(rows * (min(times, 1e9) - 1)))):,} more labelled rows would show it"


def _rounded(rows: int) -> int:
    """Return a count with two digits, rounded up: it is an estimate."""
    step = 10.0 ** max(0, len(str(rows)) - 2)
    return int(math.ceil(rows / step) * step)
