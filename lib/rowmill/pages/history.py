"""What was done to a service, by whom, and what served when."""

from collections.abc import Sequence
from html import escape

from rowmill.pages import parts
from rowmill.pages import stand as stands
from rowmill.pages.words import say
from rowmill.records import Deployment

NEWEST = 50
_NAMES = ("when", "action", "model", "outcome", "until", "took", "who", "reason")


def markup(deployments: Sequence[Deployment]) -> str:
    """Return the history as markup, newest first.

    Args:
        deployments: All of a service, newest first.
    """
    if not deployments:
        return f'<p class="rm-quiet">{escape(say("history.none"))}</p>'
    heads = "".join(f'<th scope="col">{escape(say(f"history.{name}"))}</th>' for name in _NAMES)
    rows, ended = [], ""
    for deployment in deployments[:NEWEST]:
        serves = deployment.outcome == "serving"
        rows.append(_row(deployment, (ended or escape(say("history.now"))) if serves else ""))
        ended = stands.moment(deployment.at) if serves else ended
    more = len(deployments) - NEWEST
    left = f'<p class="rm-quiet">{escape(say("history.more", count=more))}</p>' if more > 0 else ""
    label = escape(say("history.title"))
    return (
        f'<div class="rm-scroll rm-cards" tabindex="0" role="region" aria-label="{label}"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{left}"
    )


def _row(deployment: Deployment, until: str) -> str:
    forced = f" {parts.badge(say('history.forced'), 'unsure')}" if deployment.forced else ""
    before = escape(say("history.before", model=deployment.before or say("history.nothing")))
    steps = "; ".join(f"{name} {seconds:.1f} s" for name, seconds in deployment.steps.items())
    values = (
        stands.moment(deployment.at),
        escape(deployment.action) + forced,
        f'<span class="rm-id" title="{before}">{escape(deployment.model_id)}</span>',
        parts.badge(deployment.outcome, stands.KINDS.get(deployment.outcome, "unsure")),
        until,
        f'<span title="{escape(steps)}">{deployment.seconds:.1f} s</span>',
        escape(deployment.actor),
        escape(deployment.reason),
    )
    cells = "".join(
        f'<td data-label="{escape(say(f"history.{name}"))}"{" class=rm-broken" if name == "reason" else ""}>{value}</td>'
        for name, value in zip(_NAMES, values, strict=True)
    )
    return f"<tr>{cells}</tr>"
