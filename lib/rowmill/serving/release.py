"""The use cases: deploy, roll back, delete, what serves now and when. Every attempt is on record, whatever became of it."""

import datetime
import shutil
from collections.abc import Sequence

from rowmill.errors import EndpointError, IntegrityError, NotFoundError, ParameterError
from rowmill.records import Deployment, Verdict, check_service
from rowmill.registry import connected
from rowmill.serving import history
from rowmill.serving.change import Order, carry_out, lock, recover, refuse_other_kind
from rowmill.serving.gcloud import CloudTarget
from rowmill.serving.journal import Attempt, Journal
from rowmill.serving.local import LocalTarget
from rowmill.serving.plan import AT_ONCE, Plan, check_steps, force_needed, outcome, planned
from rowmill.serving.target import Service, Target
from rowmill.serving.truth import Serving, curl, look, serving, status
from rowmill.settings import Settings

__all__ = ["Attempt", "Plan", "Service", "Serving", "Target", "curl", "look", "refuse_other_kind", "serving", "status"]


def open_service(project: Settings, name: str) -> Service:
    """Return the service with the project's registry and target; that of the newest model when `name` is empty.

    Raises:
        NotFoundError: There is no model yet to take the name from.
        ParameterError: No service can have this name.
    """
    registry = connected(project)
    name = name or project.service_name or next(iter(registry.services()), "")
    if not name:
        raise NotFoundError("There is no service yet", step="run notebook 02_search first, or name one")
    target: Target
    target = CloudTarget(project, check_service(name)) if project.target_kind == "gcloud" else LocalTarget(project, check_service(name))
    return Service(name, project, registry, target)


def plan(service: Service, model_id: str, action: str = "deploy", steps: Sequence[int] = AT_ONCE) -> Plan:
    """Say what a deployment or roll back would do; nothing is run.

    Raises:
        NotFoundError: There is no such model.
        IntegrityError: Its files are missing or other ones than were registered.
    """
    return planned(service, service.registry.model(model_id, service.name), action, steps)


def deploy(service: Service, model_id: str, reason: str = "", *, force: bool = False, steps: Sequence[int] = AT_ONCE) -> Deployment:
    """Make a model serve; whatever fails on the way, what served keeps serving, and the attempt is on record.

    Args:
        service: Where.
        model_id: Which.
        reason: Why, in the words of whoever does it.
        force: Whether it may serve without the verdict `better`; needs a reason.
        steps: The percents of the traffic that it gets one after the other, the last of them 100.

    Raises:
        NotFoundError: There is no such model.
        BusyError: Another deployment of this service is under way.
        ParameterError: The steps are none that the target can do, or a force has no reason.
        IntegrityError: It has no verdict `better` and no force, or its file, shape, labels or golden answers are not what they must be.
        EndpointError: The model does not start or does not answer, or the place that serves refuses.
    """
    check_steps(service, steps)
    model = service.registry.model(model_id, service.name)
    verdict = outcome(service, model)
    why = force_needed(model, verdict)
    if why and not force:
        raise IntegrityError(why, step="judge it by 03_validate first, or force it with a reason")
    if why and not reason.strip():
        raise ParameterError(f"To force {model.model_id} needs a reason: {why}", step="say why it shall serve nevertheless")
    return carry_out(service, Order(model, "deploy", reason, verdict, tuple(steps), forced=bool(why)))


def roll_back(service: Service, reason: str = "", expected: str = "") -> Deployment:
    """Deploy the model that served before the one that serves; a second roll back goes one further.

    Args:
        service: Where.
        reason: Why, in the words of whoever does it.
        expected: The model that whoever does it means to get; any when empty.

    Raises:
        IntegrityError: It would be another model than expected, for somebody else deployed meanwhile.
        NotFoundError: Nothing served before.
        BusyError: Another deployment of this service is under way.
    """
    with lock(service):
        recover(service)  # what was cut off may serve, and changes where a roll back goes
    earlier = rollback_target(service)
    if not earlier:
        raise NotFoundError(
            f"No model of service {service.name!r} served before the one that serves now", step="deploy one from the model list"
        )
    if expected not in ("", earlier):
        raise IntegrityError(
            f"A roll back would not go to {expected} any more", found=earlier, step="look at the history, then decide again"
        )
    model = service.registry.model(earlier, service.name)
    return carry_out(service, Order(model, "roll back", reason, outcome(service, model)))


def rollback_target(service: Service) -> str:
    """Return the model id that a roll back would deploy, or an empty text."""
    return history.rollback_target(service.registry.deployments(service.name))


def at(service: Service, moment: datetime.datetime) -> str:
    """Return the model id that served at the moment by the records, or an empty text."""
    return history.at(service.registry.deployments(service.name), moment)


def attempt(service: Service) -> Attempt | None:
    """Return the change that is under way on this machine, or was cut off here; else None."""
    return Journal(service.settings.state, service.name).read()


def delete(service: Service, model_id: str, reason: str = "") -> Deployment:
    """Take a model off the list and remove its files; its rows stay on record.

    Raises:
        NotFoundError: There is no such model.
        IntegrityError: It serves, or served last.
        EndpointError: What serves cannot be asked.
        BusyError: A deployment of this service is under way.
    """
    model = service.registry.model(model_id, service.name)
    with lock(service):
        recover(service)
        found = look(service)
        if found.silence:
            raise EndpointError(
                f"What serves {service.name} cannot be asked, so {model_id} is not deleted",
                found=found.silence.rstrip("."),
                step="deploy a model, or mend that first",
            )
        kept = {rollback_target(service): "is what a roll back would go to", found.recorded: "served last by the records"}
        kept |= dict.fromkeys(found.platform, "has a share of the requests") | {found.model: "serves"}
        if model_id in kept:
            raise IntegrityError(f"Model {model_id} {kept[model_id]}, so it cannot be deleted", step="deploy another one first")
        service.registry.remove(model)
        for folder in (service.settings.state / "bundles").glob(f"{model_id}-*"):
            shutil.rmtree(folder, ignore_errors=True)
        row = Deployment(
            model_id, service.name, "delete", service.target.kind, found.model, model.sha256, "deleted", reason, service.target.actor, 0.0
        )
        service.registry.add(row)
        return row


def follow(service: Service, verdict: Verdict, steps: Sequence[int] = AT_ONCE) -> Deployment | None:
    """Deploy the candidate if the verdict says `better` and it does not serve already; else return None.

    Raises:
        IntegrityError: Another model serves now than the one the verdict compares with.
    """
    if verdict.outcome != "better":
        return None
    card = serving(service)
    now_serving = card["model"] if card else ""
    if now_serving == verdict.candidate:
        return None
    if now_serving != verdict.incumbent:
        raise IntegrityError(
            f"The verdict compares {verdict.candidate} with {verdict.incumbent or 'nothing'}, which does not serve any more",
            found=now_serving or "nothing",
            step="run 03_validate again",
        )
    check_steps(service, steps)
    model = service.registry.model(verdict.candidate, service.name)
    return carry_out(service, Order(model, "deploy", verdict.sentence, verdict.outcome, tuple(steps)))
