"""What a deployment would do, and what must be right before it is begun; nothing is run here."""

from collections.abc import Sequence
from dataclasses import dataclass

from rowmill.errors import NotFoundError, ParameterError
from rowmill.records import ModelRecord
from rowmill.serving import bundle as bundles
from rowmill.serving.commands import Commands
from rowmill.serving.switch import shared
from rowmill.serving.target import Service
from rowmill.shown import Shown

AT_ONCE = (100,)


@dataclass(frozen=True)
class Plan(Shown):
    """What would be done.

    Attributes:
        action: `deploy` or `roll back`.
        steps: In words.
        commands: gcloud's lines as they can be pasted into a shell; none for this machine's host.
        verdict: The latest one about the model, as a sentence.
        force: Why it needs to be forced, with a reason; or an empty text.
    """

    model_id: str
    action: str
    steps: tuple[str, ...]
    commands: tuple[str, ...]
    verdict: str
    force: str


def planned(service: Service, model: ModelRecord, action: str, percents: Sequence[int] = AT_ONCE) -> Plan:
    """Return the plan of a deployment or roll back.

    Raises:
        ParameterError: The target cannot do these steps.
        IntegrityError: The model's files are missing or other ones than were registered.
    """
    check_steps(service, percents)
    shifts = [f"Give it {percent} % of the requests, and ask the public address again." for percent in percents]
    steps = (
        f"Ask {'this machine' if service.target.embedded else 'Google Cloud'} what serves {service.name} now.",
        f"Lay the bundle of {model.model_id} and check its hashes.",
        "Start it where nobody asks it, and probe it with its golden examples.",
        *shifts,
        "Put it on record. Whatever fails: what serves now keeps the requests.",
    )
    try:
        verdict = service.registry.verdict(model.model_id, service.name).sentence
    except NotFoundError:
        verdict = f"{model.model_id} was never judged."
    force = "" if action == "roll back" else force_needed(model, outcome(service, model))
    return Plan(model.model_id, action, steps, tuple(_commands(service, model, percents)), verdict, force)


def check_steps(service: Service, percents: Sequence[int]) -> None:
    """Check the shares that a model shall get one after the other.

    Raises:
        ParameterError: They do not rise to 100, or the target cannot share its traffic.
    """
    whole = all(isinstance(percent, int) and 1 <= percent <= 100 for percent in percents)
    if not percents or not whole or list(percents) != sorted(set(percents)) or percents[-1] != 100:
        raise ParameterError("Steps are whole percents that rise to 100", found=str(tuple(percents)), step="give such as (10, 100)")
    if service.target.embedded and len(percents) > 1:
        raise ParameterError(
            "This machine's host switches at once", found=f"steps {tuple(percents)}", step="leave the steps out, or serve on Google Cloud"
        )


def outcome(service: Service, model: ModelRecord) -> str:
    """Return the latest verdict about the model in a word, or an empty text."""
    try:
        return service.registry.verdict(model.model_id, service.name).outcome
    except NotFoundError:
        return ""


def force_needed(model: ModelRecord, verdict: str) -> str:
    """Return why a model with this verdict may be deployed by force alone, as a clause; or an empty text."""
    if not verdict:
        return f"Model {model.model_id} was never judged"
    return "" if verdict == "better" else f"The verdict about model {model.model_id} is not `better` but `{verdict}`"


def _commands(service: Service, model: ModelRecord, percents: Sequence[int]) -> list[str]:
    if service.target.kind != "gcloud":
        return []
    bundle = bundles.build(service.settings, service.registry, model)
    commands = Commands(service.settings.cloud, service.name)
    served = [d for d in service.registry.deployments(service.name) if d.outcome == "serving" and d.target == "gcloud"]
    before = {served[-1].revision: 100} if served else {}
    return commands.plan(bundle, before, [shared(before, commands.revision(bundle), percent) for percent in percents])
