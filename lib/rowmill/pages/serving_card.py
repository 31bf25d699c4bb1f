"""What serves: asked from the records, the target and the endpoint, with an alarm where they differ."""

from collections.abc import Sequence
from html import escape

from ipywidgets import Widget

from rowmill.pages import parts
from rowmill.pages.stand import Stand, moment
from rowmill.pages.words import say
from rowmill.records import Deployment


class Card:
    """The card as a widget.

    Args:
        roll_back: The button for it.
        progress: Shows the change that is under way.
    """

    def __init__(self, roll_back: Widget, progress: Widget) -> None:
        self._roll_back = roll_back
        self._now, self._hint = parts.html(), parts.html()
        back = parts.row(roll_back, self._hint, name="rm-actions")
        self.root = parts.card(say("serving.title"), self._now, back, progress, name="rm-serving")

    def show(self, stand: Stand | None) -> None:
        """Show what serves."""
        self._hint.value = roll_back_hint(stand)
        self._now.value = markup(stand) if stand else f"<p>{escape(say('models.empty'))}</p>"

    def allow(self, is_allowed: bool) -> None:
        """Enable the button, or not."""
        self._roll_back.disabled = not is_allowed


def markup(stand: Stand) -> str:
    """Return what serves as markup."""
    serving = stand.serving
    address = stand.service.target.address
    link = f'<a class="rm-broken" href="{escape(address)}">{escape(address)}</a>' if address else ""
    alarm = parts.alarm(serving.alarm)
    if not serving.model:
        said = say("serving.silent" if alarm else "serving.never")
        return f"<p>{escape(said)} {link if alarm else ''}</p>{alarm}"
    share = serving.platform.get(serving.model, 100)
    badge = parts.badge(say("models.serves") if share == 100 else say("models.share", percent=share), "live")
    by = _by(stand.deployments, serving.model)
    since = f' <span class="rm-quiet">{by}</span>' if by else ""
    return f'<p class="rm-now"><span class="rm-id">{escape(serving.model)}</span> {badge} <span>{link}</span>{since}</p>{alarm}'


def roll_back_hint(stand: Stand | None) -> str:
    """Return what a roll back would do, as markup."""
    if not stand or not stand.earlier:
        return f'<span class="rm-quiet">{escape(say("serving.no_earlier"))}</span>'
    return f'<span class="rm-quiet">{escape(say("serving.earlier", model=stand.earlier))}</span>'


def _by(deployments: Sequence[Deployment], model_id: str) -> str:
    """Return who brought the model to serve, and when; nothing where the records do not tell."""
    latest = next((d for d in deployments if d.outcome == "serving"), None)
    if latest is None or latest.model_id != model_id:
        return ""
    return f"{escape(say('serving.since'))} {moment(latest.at)} {escape(say('serving.by', who=latest.actor))}"
