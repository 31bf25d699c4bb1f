"""What the Search page shows of one search: its state, budget, trials and pictures, read from this machine's disk."""

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from rowmill.pages import parts, search_plots, words
from rowmill.pages.search_plots import leading, natural, reached, short, unit
from rowmill.pages.table import Cell, Column
from rowmill.records import ModelId, Trial
from rowmill.training.plan import Plan
from rowmill.training.study import Study

_BADGES = {"running": "live", "finished": "good", "stopped": "unsure"}
_TRIAL_BADGES = {"running": "live", "completed": "good", "stopped": "unsure", "failed": "bad"}


@dataclass(frozen=True)
class View:
    """A search at one moment.

    Attributes:
        study: Where it lies.
        plan: What it searches, settled.
        trials: In order, the running ones with their curve so far.
        stage: `running`, `stopped` (it can be resumed) or `finished`.
    """

    study: Study
    plan: Plan
    trials: Sequence[Trial]
    stage: str


def look(study: Study) -> View:
    """Read a search."""
    stage = "running" if study.is_running else "finished" if study.is_finished else "stopped"
    return View(study, Plan.read(study.plan), study.trials(), stage)


def label(study: Study) -> str:
    """Return a search's name for a list of them."""
    began = datetime.datetime.fromtimestamp((study.folder / "plan.json").stat().st_mtime)
    return f"{study.experiment} · {study.service} · {study.plan['network'].partition('#')[0]} · {began:%Y-%m-%d %H:%M}"


def head(view: View) -> str:
    """Return markup of the search's state, how far it is, and its best trial."""
    goal, objective, best = view.plan.goal, view.plan.goal.objective, leading(view.trials)
    done = sum(trial.state != "running" for trial in view.trials if trial.kind == "search")
    spent, given = view.study.before, goal.minutes * 60
    left = {"spent": _clock(spent), "all": _clock(given), "left": _clock(max(0.0, given - spent))}
    target = f"{objective} {figure(view, objective.score_at(goal.target))}"
    facts = {
        words.say("search.best"): _best(view, best),
        words.say("search.trials"): words.say("search.of", done=done, all=goal.trials),
        words.say("search.spent"): words.say("search.left" if view.stage == "running" else "search.took", **left),
        words.say("search.target"): escape(target),
        words.say("search.network"): escape(str(view.plan.network)),
        words.say("search.dataset"): f'{escape(view.study.service)} <span class="rm-id">{escape(view.study.dataset_version)}</span>',
        words.say("search.seed"): str(view.study.seed),
    }
    share = 1.0 if view.stage == "finished" else max(done / goal.trials, spent / given)
    state = parts.badge(words.say(f"search.state_{view.stage}"), _BADGES[view.stage])
    name = f'<p class="rm-now"><b class="rm-id">{escape(view.study.experiment)}</b> {state}</p>'
    return f"{name}{parts.progress(share, words.say('search.progress'))}{parts.facts(facts)}"


def columns() -> list[Column]:
    """Return the columns of the trials' table."""
    kinds = {
        "trial": "code",
        "state": "text",
        "score": "number",
        "epochs": "number",
        "seconds": "number",
        "values": "text",
        "reason": "text",
    }
    return [Column(words.say(f"search.{name}_column"), kind=kind) for name, kind in kinds.items()]


def rows(view: View) -> list[tuple[str, list[Cell]]]:
    """Return the trials' table."""
    best = leading(view.trials)
    return [(trial.model_id, _cells(view, trial, trial is best)) for trial in reversed(view.trials)]


def pictures(view: View, chosen: str) -> str:
    """Return markup of the learning curves and of the best so far."""
    if not any(trial.curve for trial in view.trials):
        return ""
    objective = view.plan.goal.objective
    best = leading(view.trials)
    title = words.say("search.curves_of", trial=ModelId.parse(best.model_id).trial) if best else words.say("search.curves")
    drawn = {
        title: search_plots.curves(view.trials, objective, chosen),
        words.say("search.scores"): search_plots.scores(view.trials, objective),
    }
    return f'<div class="rm-plots">{"".join(f"<div><h3>{escape(title)}</h3>{chart}</div>" for title, chart in drawn.items())}</div>'


def sentences(told: Sequence[str]) -> str:
    """Return markup of what a check-up found; nothing where it found nothing."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in told)
    return f"<h3>{escape(words.say('search.doctor'))}</h3><ul>{items}</ul>" if told else ""


def figure(view: View, score: float) -> str:
    """Return a score for people."""
    if not math.isfinite(score):
        return words.say("search.limit") if score == -math.inf else ""
    objective = view.plan.goal.objective
    return f"{natural(objective, score):.2f} %" if unit(objective).endswith("%") else f"{natural(objective, score):.4f}"


def _best(view: View, best: Trial | None) -> str:
    return f'<b>{figure(view, reached(best))}</b> <span class="rm-id">{ModelId.parse(best.model_id).trial}</span>' if best else "–"


def _cells(view: View, trial: Trial, is_best: bool) -> list[Cell]:
    score = reached(trial)
    state = trial.state if trial.kind in ("search", "train") else f"{trial.state}, {trial.kind}"
    values = "  ".join(f"{name}={short(value)}" for name, value in trial.hyperparameters.items() if name != "network")
    return [
        Cell(ModelId.parse(trial.model_id).trial),
        Cell(state, badge=_TRIAL_BADGES.get(trial.state, "quiet")),
        Cell(figure(view, score), sort=score if math.isfinite(score) else -1e300, badge="live" if is_best else ""),
        Cell(str(len(trial.curve)), sort=len(trial.curve)),
        Cell(f"{trial.seconds:.1f}", sort=trial.seconds),
        Cell(values),
        Cell(trial.reason),
    ]


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
