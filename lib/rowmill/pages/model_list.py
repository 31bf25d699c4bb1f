"""The models of a service as rows of a table."""

from collections.abc import Sequence

from rowmill.pages import stand as stands
from rowmill.pages.stand import Stand
from rowmill.pages.table import Cell, Column
from rowmill.pages.words import say
from rowmill.records import ModelRecord


def columns() -> list[Column]:
    """Return the table's columns."""
    return [
        Column(say("models.model"), kind="code"),
        Column(say("models.state")),
        Column(say("models.accuracy"), say("models.accuracy_title"), "number"),
        Column(say("models.verdict")),
        Column(say("models.when")),
        Column(say("models.size"), kind="number"),
        Column(say("models.version"), kind="code"),
    ]


def rows(stand: Stand) -> list[tuple[str, Sequence[Cell]]]:
    """Return a row per model, newest first."""
    return [(model.model_id, _cells(stand, model)) for model in stand.models]


def accuracy(stand: Stand, model: ModelRecord) -> str:
    """Return a model's accuracy on the validation split with its interval, as text."""
    interval = stand.interval(model)
    reach = f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})" if interval else ""
    return f"{stands.percent(model.accuracy)}{reach}"


def state(stand: Stand, model_id: str) -> tuple[str, str]:
    """Return what a model does at present, in a word or none, and the word's colour."""
    if model_id == stand.serving.model:
        return say("models.serves"), "live"
    if model_id in stand.serving.platform:
        return say("models.share", percent=stand.serving.platform[model_id]), "unsure"
    if model_id == stand.earlier:
        return say("models.before"), "quiet"
    return "", ""


def _cells(stand: Stand, model: ModelRecord) -> tuple[Cell, ...]:
    verdict = stand.verdicts.get(model.model_id)
    word, kind = state(stand, model.model_id)
    judged = Cell(verdict.outcome, badge=stands.KINDS.get(verdict.outcome) or "quiet", title=verdict.sentence) if verdict else None
    return (
        Cell(model.model_id),
        Cell(word, badge=kind),
        Cell(accuracy(stand, model), model.accuracy),
        judged or Cell(say("models.unjudged")),
        Cell(stands.local(model.at), model.at.timestamp()),
        Cell(stands.size(model.size), model.size),
        Cell(model.dataset_version),
    )
