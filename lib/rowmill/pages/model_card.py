"""One model's card: what it is worth, how it learnt, what it mistakes, where it comes from, and its files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from ipywidgets import Widget

from rowmill import shown
from rowmill.data import dataset
from rowmill.pages import model_list, parts, plots
from rowmill.pages import stand as stands
from rowmill.pages.stand import Stand
from rowmill.pages.words import say
from rowmill.records import ModelId, ModelRecord, Trial, Verdict
from rowmill.registry import ANSWERS_FILE, CARD_FILE, MODEL_FILE, file_hash

_MOST_LABELS = 40


@dataclass(frozen=True)
class Behind:
    """What is read of one model beside the list.

    Attributes:
        trial: Its trial's latest row; None where there is none on record.
        card: Its `model.json`; empty where that is lost.
        confusion: Counts (true, answered) on the validation split; empty where they cannot be told.
        notebook: The executed notebook that made it, from the project's folder; empty where none on this machine did.
    """

    trial: Trial | None
    card: dict[str, Any]
    confusion: list[list[int]]
    notebook: str


class Card:
    """The card as a widget, with the buttons that change what becomes of the model.

    Args:
        deploy, delete: The buttons.
    """

    def __init__(self, deploy: Widget, delete: Widget) -> None:
        self._deploy, self._delete = deploy, delete
        self._title, self._body = parts.html(), parts.html()
        self._model_id = ""
        self.root = parts.card("", self._title, parts.row(deploy, delete, name="rm-actions"), self._body, name="rm-model")

    def promise(self, model_id: str) -> None:
        """Say at once which model will be shown."""
        self._title.value = f'<h2><span class="rm-id">{escape(model_id)}</span></h2>'

    def show(self, stand: Stand, model: ModelRecord, is_new: bool) -> None:
        """Show a model; its files are read when it is another one than before, or when there is news."""
        if model.model_id != self._model_id or is_new:
            self._body.value, self._model_id = markup(stand, model, read(stand, model)), model.model_id
        word, kind = model_list.state(stand, model.model_id)
        badge = parts.badge(word, kind) if word else ""
        self._title.value = f'<h2><span class="rm-id">{escape(model.model_id)}</span> {badge}</h2>'

    def allow(self, is_allowed: bool) -> None:
        """Enable the buttons, or not."""
        self._deploy.disabled = self._delete.disabled = not is_allowed


def read(stand: Stand, model: ModelRecord) -> Behind:
    """Read what stands behind a model: its trial, its files, and its answers to the validation rows."""
    registry = stand.service.registry
    folder = registry.artefacts / model.model_id
    trials = {trial.model_id: trial for trial in registry.trials(stand.service.name)}
    try:
        card = json.loads((folder / CARD_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        card = {}
    confusion = _confusion(stand, model, folder / ANSWERS_FILE) if len(model.labels) <= _MOST_LABELS else []
    return Behind(trials.get(model.model_id), card, confusion, _notebook(stand, model.model_id))


def markup(stand: Stand, model: ModelRecord, behind: Behind) -> str:
    """Return the card as markup."""
    sections = {
        say("card.verdict"): _verdict(stand.verdicts.get(model.model_id)),
        say("card.curve"): _curve(behind.trial),
        say("card.confusion"): _matrix(model, behind.confusion),
        say("card.hyperparameters"): parts.facts({name: escape(_short(value)) for name, value in model.hyperparameters.items()}),
        say("card.lineage"): _lineage(stand, model, behind),
        say("card.files"): _files(stand.service.registry.artefacts / model.model_id, model, behind.card),
    }
    body = "".join(f"<section><h3>{escape(title)}</h3>{text}</section>" for title, text in sections.items() if text)
    return f"{_head(stand, model)}{body}"


def _head(stand: Stand, model: ModelRecord) -> str:
    worth = {
        say("models.accuracy"): f'<span title="{escape(say("models.accuracy_title"))}">{escape(model_list.accuracy(stand, model))}</span>',
        say("models.size"): escape(stands.size(model.size)),
        say("models.when"): stands.moment(model.at),
    }
    return parts.facts(worth)


def _verdict(verdict: Verdict | None) -> str:
    if verdict is None:
        return f'<p class="rm-quiet">{escape(say("card.unjudged"))}</p>'
    behind = ""
    if verdict.report:
        checks = shown.checks_html(verdict.report.checks, verdict.report.notes)
        behind = f'<details class="rm-checks"><summary>{escape(say("card.checks"))}</summary>{checks}</details>'
    badge = parts.badge(verdict.outcome, stands.KINDS.get(verdict.outcome, ""))
    at = f'<span class="rm-quiet">{stands.moment(verdict.at)}</span>'
    return f'<p>{badge} {at}</p><p class="rm-broken">{escape(verdict.sentence)}</p>{behind}'


def _curve(trial: Trial | None) -> str:
    if not trial or not trial.curve:
        return ""
    points = [(float(epoch), value) for epoch, value in enumerate(trial.curve, 1)]
    return plots.lines({trial.model_id: points}, say("card.epoch"), say("card.score"))


def _matrix(model: ModelRecord, counts: list[list[int]]) -> str:
    if not counts:
        return f'<p class="rm-quiet">{escape(say("card.no_confusion"))}</p>'
    return plots.matrix(counts, model.labels, say("card.true"), say("card.answered"))


def _lineage(stand: Stand, model: ModelRecord, behind: Behind) -> str:
    parsed, version = ModelId.parse(model.model_id), stand.versions.get(model.dataset_version)
    trial = behind.trial
    entries = {
        "experiment": f'<span class="rm-id">{escape(parsed.experiment)}</span>',
        "trial": f'<span class="rm-id">{escape(parsed.trial)}</span> {escape(trial.kind if trial else "")}',
        "version": f'<span class="rm-id">{escape(model.dataset_version)}</span>',
        "source": escape(version.source) if version else "?",
        "rows": escape(", ".join(f"{count:,} {name}" for name, count in version.counts.items())) if version else "?",
        "input": escape(" × ".join(map(str, model.shape))),
        "seed": str(model.seed),
        "mode": escape(trial.mode) if trial else "",
        "notebook": f'<code class="rm-broken">{escape(behind.notebook)}</code>' if behind.notebook else "",
    }
    return parts.facts({say(f"card.{name}"): value for name, value in entries.items() if value})


def _files(folder: Path, model: ModelRecord, card: Mapping[str, Any]) -> str:
    registered = {MODEL_FILE: model.sha256, CARD_FILE: model.card_sha256}
    for entry in (card.get("answers"), *card.get("also", {}).values()):
        if entry:
            registered[entry["file"]] = entry["sha256"]
    names = sorted(registered.keys() | {path.name for path in folder.glob("*") if path.is_file()})
    rows = "".join(_file_row(folder / name, registered.get(name, "")) for name in names)
    heads = "".join(f'<th scope="col">{escape(say(f"card.{name}"))}</th>' for name in ("file", "bytes", "sha256", "check"))
    label = escape(say("card.files"))
    return (
        f'<p class="rm-quiet"><code class="rm-broken">{escape(str(folder))}</code></p>'
        f'<div class="rm-scroll" tabindex="0" role="region" aria-label="{label}"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _file_row(path: Path, wanted: str) -> str:
    found = file_hash(path) if path.is_file() else ""
    said, kind = (say("card.same"), "good") if found == wanted else (say("card.other" if found else "card.missing"), "bad")
    badge = parts.badge(said, kind) if wanted else ""
    size = f"{path.stat().st_size:,}" if found else ""
    name, short = escape(path.name), f'<code title="{found}">{found[:12]}…</code>' if found else ""
    return f'<tr><td>{name}</td><td class="rm-is-number">{size}</td><td>{short}</td><td>{badge}</td></tr>'


def _confusion(stand: Stand, model: ModelRecord, path: Path) -> list[list[int]]:
    """Return the counts by the answers that were kept at the export; nothing where they or the rows are lost."""
    version = stand.versions.get(model.dataset_version)
    if version is None or not path.is_file():
        return []
    with np.load(path) as kept:
        keys, answers = bytes(kept["keys"]).decode().split("\n"), np.argmax(kept["validation"], axis=1)
    rows = dataset.rows_of(stand.service.registry.warehouse, version, ("example_id", "label"), "validation")
    labels = dict(zip(rows["example_id"], rows["label"], strict=True))
    places = {label: place for place, label in enumerate(model.labels)}
    counts = np.zeros((len(places), len(places)), np.int64)
    for key, answer in zip(keys, answers, strict=True):
        if labels.get(key) in places:
            counts[places[labels[key]], answer] += 1
    return [[int(count) for count in row] for row in counts]


def _notebook(stand: Stand, model_id: str) -> str:
    settings = stand.service.settings
    for path in sorted((settings.state / "runs").glob("*/02_search.json"), reverse=True):
        try:
            if json.loads(path.read_text("utf-8")).get("model_id") == model_id:
                found = path.with_suffix(".ipynb")
                return str(found.relative_to(settings.root) if found.is_relative_to(settings.root) else found)
        except (OSError, ValueError, AttributeError):
            continue
    return ""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
