"""The decision: two sides' answers on the same rows in, a Verdict out; pure numpy and scipy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rowmill.judging import details, finding, words
from rowmill.judging.checks import LEVEL, Check, Sides
from rowmill.judging.finding import Comparison, Terms
from rowmill.records import Report, Verdict, now


@dataclass(frozen=True)
class Pair:
    """Who is compared: a candidate with what serves, which is empty for a first model; `alarm` is what the verdict says first."""

    service: str
    candidate: str
    incumbent: str
    alarm: str = ""


def judge(pair: Pair, sides: Sides, terms: Terms) -> Verdict:
    """Decide between a candidate and what serves.

    `better`: the exact McNemar test is below the level, the gain has at least the minimal effect, and nothing is spoiled.
    `worse`: the test shows a loss, or a check fails. Else `cannot tell`. Where cost decides, its test takes McNemar's place.

    Raises:
        ParameterError: There are no rows, or not as many of each.
    """
    found = finding.find(sides, terms)
    phrase = {
        "better": f"{pair.candidate} is better than {pair.incumbent}, which serves now",
        "worse": f"{pair.candidate} is worse than {pair.incumbent}, which keeps serving",
        "cannot tell": f"cannot tell whether {pair.candidate} is better than {pair.incumbent}, which keeps serving",
    }[found.outcome]
    short = words.short(found, terms)
    rule = "cost" if terms.by_cost else "mcnemar"
    verdict = _verdict(pair, found.comparison, found.outcome, rule, f"{phrase}: {short}; {words.figures(found.comparison, terms.level)}")
    return _reported(
        verdict,
        short,
        [Check(*words.gain(found, terms)), *found.checks],
        sides,
        replace(terms, notes=(*words.notes(found, terms), *terms.notes)),
    )


def judge_first(pair: Pair, majority: Sides, logistic: Sides, terms: Terms) -> Verdict:
    """Decide on a first model: it must beat the majority class and must not be worse than logistic regression.

    Args:
        pair: The candidate, with no incumbent.
        majority: The candidate beside always answering the most frequent label of the train split.
        logistic: The candidate beside logistic regression on pixels.
        terms: Their level is for the gain over the majority class; that over logistic regression is tested at 5 %.
    """
    first, second = (finding.compare(s.targets, s.ours.argmax(axis=1), s.theirs.argmax(axis=1)) for s in (majority, logistic))
    outcomes = first.outcome(terms.level), second.outcome()
    if outcomes[0] == "better" and outcomes[1] != "worse":
        outcome = "better"
    else:
        outcome = "worse" if "worse" in outcomes else "cannot tell"
    against = [
        f"against the majority class {outcomes[0]} ({words.points(first.difference)} points)",
        f"against logistic regression on pixels {outcomes[1]}: {words.between(second)}",
    ]
    phrase = {
        "better": f"{pair.candidate} may be the first model to serve",
        "worse": f"{pair.candidate} is too weak to be the first model",
        "cannot tell": f"cannot tell whether {pair.candidate} is good enough to be the first model",
    }[outcome]
    sentence = f"{phrase}, by the first-model rule: {'; '.join(against)}; {words.figures(second, LEVEL)}"
    states = ({"better": "pass", "worse": "fail", "cannot tell": "silent"}[outcomes[0]], "fail" if outcomes[1] == "worse" else "pass")
    made = [
        Check("majority class", states[0], f"{words.between(first)}, {words.figures(first, terms.level)}"),
        Check("logistic regression", states[1], f"{words.between(second)}, {words.figures(second, LEVEL)}"),
    ]
    verdict = _verdict(pair, second, outcome, "first model", sentence)
    return _reported(verdict, f"{words.between(second)} against logistic regression", made, logistic, terms)


def serves_already(pair: Pair) -> Verdict:
    """Return the verdict where the candidate is what serves."""
    sentence = f"cannot tell whether {pair.candidate} is better than what serves: it is what serves"
    return Verdict(pair.candidate, pair.incumbent, pair.service, "cannot tell", sentence, rule="serves already")


def no_answer(pair: Pair, reason: str) -> Verdict:
    """Return the verdict where what serves cannot be asked."""
    return no_verdict(pair, "no answer", f"{pair.incumbent or 'what serves'}, which should serve but gives no answer", reason)


def no_verdict(pair: Pair, rule: str, incumbent: str, reason: str) -> Verdict:
    """Return `cannot tell` with the rule that forbids more, a phrase for the incumbent, and the reason."""
    sentence = f"{words.alarm(pair.alarm)}cannot tell whether {pair.candidate} is better than {incumbent}: {reason}"
    at, headline = now(), f"cannot tell: {reason}"
    report = Report(pair.candidate, pair.incumbent, pair.service, headline, at=at)
    return Verdict(pair.candidate, pair.incumbent, pair.service, "cannot tell", sentence, rule=rule, at=at, report=report)


def _reported(verdict: Verdict, short: str, checks: Sequence[Check], sides: Sides, terms: Terms) -> Verdict:
    drawn = details.of(sides, terms.gate.class_drop)
    moved = ", ".join(f"{c['label']} ({c['points']:+.1f} points)" for c in drawn["classes"] if c["moved"])
    report = Report(
        candidate=verdict.candidate,
        incumbent=verdict.incumbent,
        service=verdict.service,
        headline=f"{verdict.outcome}: {short}",
        checks=tuple({"name": check.name, "state": check.state, "note": check.note} for check in checks),
        notes=(*([f"Classes that moved: {moved}."] if moved else []), *terms.notes),
        details=drawn,
        at=verdict.at,
    )
    return replace(verdict, report=report)


def _verdict(pair: Pair, comparison: Comparison, outcome: str, rule: str, sentence: str) -> Verdict:
    low, high = comparison.interval
    return Verdict(
        candidate=pair.candidate,
        incumbent=pair.incumbent,
        service=pair.service,
        outcome=outcome,
        sentence=f"{words.alarm(pair.alarm)}{sentence}",
        rule=rule,
        rows=comparison.rows,
        candidate_accuracy=comparison.ours,
        incumbent_accuracy=comparison.theirs,
        gained=comparison.gained,
        lost=comparison.lost,
        difference=comparison.ours - comparison.theirs,
        low=low,
        high=high,
        p_value=comparison.p_value,
    )
