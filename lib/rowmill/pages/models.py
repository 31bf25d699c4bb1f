"""The Models page: what serves now, the models to deploy, and the history; it keeps no truth of its own."""

import datetime
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

import ipywidgets

from rowmill.errors import RowmillError
from rowmill.records import Deployment, ModelRecord, Verdict
from rowmill.registry import Registry, connected
from rowmill.serving import release
from rowmill.serving.release import Service
from rowmill.settings import Settings

NEWEST = 50
REASON = "by hand, on the Models page"
_CLASS = {"better": "good", "worse": "bad", "serving": "good", "failed": "bad"}
_EMPTY = "No model is registered yet: run <code>make run</code>, then refresh this page."
_NEVER = "Nothing serves yet: deploy one of the models below."


def page(settings: Settings) -> ipywidgets.Widget:
    """Return the Models page of a project, read once; its buttons read anew."""
    return _Page(settings).root


@dataclass(frozen=True)
class _State:
    """What the page shows of a service, read at one moment; rows newest first.

    Attributes:
        card: What the endpoint says of itself; None where it is silent or nothing ever served.
        silence: Why the endpoint does not answer, as a sentence.
        wish: The model id that should serve by the records.
        earlier: The model id that a roll back would deploy.
        verdicts: Each model's latest.
    """

    address: str
    card: dict[str, Any] | None
    silence: str
    wish: str
    earlier: str
    models: Sequence[ModelRecord]
    verdicts: dict[str, Verdict]
    deployments: Sequence[Deployment]

    @property
    def serves(self) -> str:
        """The model id that answers, or an empty text."""
        return str(self.card["model"]) if self.card else ""


class _Row:
    """One model with its Deploy button; it is used again for another model when the list grows."""

    def __init__(self, deploy: Callable[[str], None]) -> None:
        self.model_id = ""
        self.cells = _text("rm-grow")
        self.button = _button("Deploy", lambda: deploy(self.model_id))
        self.box = _box(ipywidgets.HBox, "rm-row", self.cells, self.button)

    def show(self, model: ModelRecord, state: _State) -> None:
        """Show a model."""
        self.model_id = model.model_id
        self.cells.value = _model_cells(model, state)
        self.button.tooltip = f"Deploy {model.model_id}"


class _Page:
    """The widgets, and what their buttons do; the work is done in a thread, so that the page stays alive."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state: _State | None = None
        self._name = ""
        self._busy = True
        self._rows: list[_Row] = []
        self._choice = ipywidgets.Dropdown(description="Service")
        self._refresh = _button("Refresh", lambda: self._start("Reading anew", lambda: ""))
        self._roll_back = _button("Roll back", self._go_back)
        self._now, self._hint, self._status = _text("rm-now"), _text("rm-hint"), _text("rm-status")
        self._above, self._history = _text("rm-above"), _text("rm-history")
        self._table = _box(ipywidgets.VBox, "rm-table")
        self.root = self._lay()
        self._run(lambda: "")

    def _lay(self) -> ipywidgets.Widget:
        self._choice.observe(self._choose, "value")
        style = ipywidgets.HTML(f"<style>{resources.files(__package__).joinpath('models.css').read_text('utf-8')}</style>")
        head = _box(ipywidgets.HBox, "rm-head", _text("rm-grow", "<h1>Models</h1>"), self._choice, self._refresh)
        back = _box(ipywidgets.HBox, "rm-back", self._roll_back, self._hint)
        serving = _box(ipywidgets.VBox, "rm-card", self._now, back, self._status)
        models = _box(ipywidgets.VBox, "rm-card", self._above, self._table)
        return _box(ipywidgets.VBox, "rm-page", style, head, serving, models, _box(ipywidgets.VBox, "rm-card", self._history))

    def _service(self) -> Service:
        return release.open_service(self._settings, self._name)

    def _choose(self, change: dict[str, Any]) -> None:
        if not self._busy and change["new"]:  # Else it is no user who chooses.
            self._name = change["new"]
            self._start("Reading", lambda: "")

    def _deploy(self, model_id: str) -> None:
        self._start(f"Deploying {model_id}", lambda: _done(release.deploy(self._service(), model_id, REASON, force=True)))

    def _go_back(self) -> None:
        expected = self._state.earlier if self._state else ""
        self._start("Rolling back", lambda: _done(release.roll_back(self._service(), REASON, expected)))

    def _start(self, what: str, work: Callable[[], str]) -> None:
        """Do the work in a thread, one at a time; it is no daemon, so that a closed page does not cut a deployment off."""
        if not self._busy:
            self._busy = True
            self._tell("running", f"{what} ...")
            self._paint()
            threading.Thread(target=self._run, args=(work,)).start()

    def _run(self, work: Callable[[], str]) -> None:
        result, fresh = self._outcome(work), self._outcome(self._read)
        self._tell(*(result if result[1] else fresh))
        self._busy = False
        self._paint()

    def _outcome(self, work: Callable[[], str]) -> tuple[str, str]:
        try:
            return "done", work()
        except RowmillError as error:
            return "failed", str(error)
        except Exception as error:  # pylint: disable=broad-exception-caught  # else a callback's error is seen by nobody
            return "failed", f"Something unexpected happened ({type(error).__name__}: {error}); refresh, and report it if it comes again."

    def _tell(self, kind: str, sentence: str) -> None:
        self._status.value = f'<p class="rm-{kind}" role="{"alert" if kind == "failed" else "status"}">{escape(sentence)}</p>'

    def _read(self) -> str:
        registry = connected(self._settings)
        services = sorted(known := registry.services())
        self._name = self._name if self._name in services else (known or [""])[0]
        if services != list(self._choice.options):
            self._choice.options = services
        self._choice.value = self._name or None
        self._choice.layout.display = "" if len(services) > 1 else "none"
        self._state = _read_state(self._service(), registry) if services else None
        if self._state:
            self._show(self._state)
        else:
            self._table.children = []
            self._now.value, self._above.value, self._history.value = f"<p>{_EMPTY}</p>", "", ""
        return f"As of {datetime.datetime.now():%H:%M:%S}."

    def _show(self, state: _State) -> None:
        models = state.models[:NEWEST]
        self._rows += [_Row(self._deploy) for _ in range(len(models) - len(self._rows))]
        for row, model in zip(self._rows, models, strict=False):
            row.show(model, state)
        self._table.children = [row.box for row in self._rows[: len(models)]]
        self._now.value, self._above.value, self._history.value = _now_html(state), _above_html(state), _history_html(state.deployments)

    def _paint(self) -> None:
        """Enable what can be done, and say what a roll back would do."""
        earlier = self._state.earlier if self._state else ""
        self._refresh.disabled = self._choice.disabled = self._busy
        for row in self._rows:
            row.button.disabled = self._busy or not self._state or row.model_id == self._state.serves
        self._roll_back.disabled = self._busy or not earlier
        self._roll_back.tooltip = f"Roll back to {earlier}" if earlier else "Nothing to roll back to"
        self._hint.value = f"to <code>{escape(earlier)}</code>, which served before" if earlier else "No other model served before."


def _read_state(service: Service, registry: Registry) -> _State:
    card, silence = None, ""
    try:
        card = release.serving(service)
    except RowmillError as error:
        silence = str(error)
    return _State(
        address=service.target.address,
        card=card,
        silence=silence,
        wish=registry.last_deployed(service.name),
        earlier=release.rollback_target(service),
        models=registry.models(service.name),
        verdicts={verdict.candidate: verdict for verdict in registry.verdicts(service.name)},
        deployments=registry.deployments(service.name)[::-1],
    )


def _done(deployment: Deployment) -> str:
    return f"{deployment.model_id} serves now; it took {deployment.seconds:.1f} s."


def _now_html(state: _State) -> str:
    address = f'<a href="{escape(state.address)}">{escape(state.address)}</a>'
    if not state.card:
        alarm = f'<p class="rm-alarm" role="alert">The endpoint is silent: {escape(state.silence)}</p>' if state.silence else ""
        return f"<p>{'Nothing answers' if alarm else _NEVER} {f'at {address}.' if alarm else ''}</p>{alarm}"
    since = _moment(datetime.datetime.fromisoformat(state.card["since"]))
    said = f'<p><b class="rm-id">{escape(state.serves)}</b> {_badge("serves", "good")} <span>at {address} since {since}</span></p>'
    if state.serves == state.wish:
        return said
    wish = f"{escape(state.wish)} should serve" if state.wish else "nothing was ever deployed"
    return (
        f'{said}<p class="rm-alarm" role="alert">By the records {wish}, but the endpoint answers with {escape(state.serves)}: '
        "deploy the one that is right, so that both agree.</p>"
    )


def _above_html(state: _State) -> str:
    names = ("Model", "When", "Accuracy", "Verdict", "Data set", "Size")
    heads = "".join(f"<span>{name}</span>" for name in names)
    return f'{_title("All models", len(state.models))}<div class="rm-cells rm-heads" aria-hidden="true">{heads}</div>'


def _model_cells(model: ModelRecord, state: _State) -> str:
    mark = f" {_badge('serves', 'good')}" if model.model_id == state.serves else ""
    cells = {
        "Model": f'<b class="rm-id">{escape(model.model_id)}</b>{mark}',
        "When": _moment(model.at),
        "Accuracy": f'<span title="on the validation split">{model.accuracy:.2%}</span>'.replace("nan%", "unknown").replace("%", " %"),
        "Verdict": _verdict_html(state.verdicts.get(model.model_id)),
        "Data set": f'<span class="rm-id">{escape(model.dataset_version)}</span>',
        "Size": f"{model.size / 1000:,.0f} kB",
    }
    return f'<div class="rm-cells">{"".join(_cell("div", label, cell) for label, cell in cells.items())}</div>'


def _verdict_html(verdict: Verdict | None) -> str:
    if verdict is None:
        return '<span class="rm-quiet">not judged</span>'
    badge = _badge(verdict.outcome, _CLASS.get(verdict.outcome, "unsure"))
    behind = f"{escape(verdict.sentence)}{verdict.report.as_html() if verdict.report else ''}"
    return f'<details><summary title="{escape(verdict.sentence)}">{badge}</summary>{behind}</details>'


def _history_html(deployments: Sequence[Deployment]) -> str:
    if not deployments:
        return '<h2>History</h2><p class="rm-quiet">Nothing was deployed yet.</p>'
    names = ("When", "Action", "Model", "Before", "Outcome", "Took", "Who", "Reason")
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(
        f"<tr>{''.join(_cell('td', *pair) for pair in zip(names, _history_cells(d), strict=True))}</tr>" for d in deployments[:NEWEST]
    )
    return f"{_title('History', len(deployments))}<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _history_cells(deployment: Deployment) -> tuple[str, ...]:
    return (
        _moment(deployment.at),
        escape(deployment.action),
        f'<span class="rm-id">{escape(deployment.model_id)}</span>',
        f'<span class="rm-id">{escape(deployment.before or "nothing")}</span>',
        _badge(deployment.outcome, _CLASS.get(deployment.outcome, "unsure")),
        f"{deployment.seconds:.1f} s",
        escape(deployment.actor),
        escape(deployment.reason),
    )


def _title(text: str, count: int) -> str:
    more = f"the newest {NEWEST}; {count - NEWEST} more are in the registry" if count > NEWEST else str(count)
    return f'<h2>{text} <span class="rm-quiet">{more}</span></h2>'


def _cell(tag: str, label: str, content: str) -> str:
    return f'<{tag} data-label="{label}">{content}</{tag}>'


def _badge(text: str, kind: str) -> str:
    return f'<span class="rm-badge rm-{kind}">{escape(text)}</span>'


def _moment(at: datetime.datetime) -> str:
    return f'<time datetime="{at.isoformat()}" title="{at:%Y-%m-%d %H:%M:%S} UTC">{at.astimezone():%Y-%m-%d %H:%M}</time>'


def _text(name: str, value: str = "") -> ipywidgets.HTML:
    widget = ipywidgets.HTML(value)
    widget.add_class(name)
    return widget


def _button(description: str, click: Callable[[], None]) -> ipywidgets.Button:
    button = ipywidgets.Button(description=description)
    button.on_click(lambda _: click())
    return button


def _box(kind: type[ipywidgets.Box], name: str, *children: ipywidgets.Widget) -> ipywidgets.Box:
    box = kind(children)
    box.add_class(name)
    return box
