"""The use cases: deploy, roll back, what serves now. Every switch goes dark, is probed, shifted, verified, recorded."""

import contextlib
import time
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from rowmill import jobs, settings
from rowmill.errors import EndpointError, IntegrityError, NotFoundError, RowmillError
from rowmill.records import Bundle, Deployment, ModelRecord, Verdict, check_service
from rowmill.registry import Registry, connected
from rowmill.serving import bundle as bundles
from rowmill.serving.endpoint import Endpoint
from rowmill.serving.local import LocalTarget
from rowmill.settings import Settings


class Target(Protocol):
    """A place that serves one service at one stable address."""

    kind: str

    @property
    def address(self) -> str:
        """The stable address, whether or not something answers there."""

    def wake(self) -> None:
        """Bring back what served when the address is silent; nothing where nothing ever served."""

    def dark(self, bundle: Bundle) -> contextlib.AbstractContextManager[str]:
        """Serve the bundle without traffic, at the address it yields."""

    def shift(self, bundle: Bundle | None) -> None:
        """Give the stable address to the bundle, and return when it answers there; None: to nothing."""


@dataclass(frozen=True)
class Service:
    """Models, deployments, the endpoint and its address belong to one service."""

    name: str
    settings: Settings
    registry: Registry
    target: Target


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
    return Service(check_service(name), project, registry, LocalTarget(project, name))


def serving(service: Service) -> dict[str, Any] | None:
    """Return what the endpoint says of itself, restarted first when it is silent; None where nothing ever served.

    Raises:
        EndpointError: By the records a model serves, but the endpoint stays silent.
        BusyError: Another program has the endpoint's port.
    """
    recorded = service.registry.last_deployed(service.name)
    try:
        service.target.wake()
        with Endpoint(service.target.address) as endpoint:
            return endpoint.describe()
    except EndpointError:
        return _restore(service, recorded) if recorded else None


def _restore(service: Service, recorded: str) -> dict[str, Any]:
    """Serve the recorded model from its registered files: its bundle was lost, or the project was moved."""
    try:
        service.target.shift(_bundle(service, recorded))
    except IntegrityError as error:
        sentence = f"Model {recorded} should serve at {service.target.address}, but nothing answers and it cannot be started"
        raise EndpointError(sentence, found=str(error).rstrip("."), step="deploy another model") from error
    with Endpoint(service.target.address) as endpoint:
        return endpoint.describe()


def deploy(service: Service, model_id: str, reason: str = "", action: str = "deploy") -> Deployment:
    """Make a model serve; whatever fails on the way, what served keeps serving, and the attempt is on record.

    Args:
        service: Where.
        model_id: Which.
        reason: Why, in the words of whoever does it.
        action: `deploy` or `roll back`.

    Raises:
        NotFoundError: There is no such model.
        BusyError: Another deployment of this service is under way.
        IntegrityError: The model's file, shape, labels or golden answers are not what they must be.
        EndpointError: The model does not start or does not answer.
    """
    model = service.registry.model(model_id, service.name)
    with jobs.lock(service.settings.state, f"deploy-{service.name}", what=f"a deployment of {service.name}"):
        started = time.monotonic()
        before = _before(service)
        attempt = _attempt(service, model, action, before)
        try:
            refuse_other_kind(model, before)
            _switch(service, model, attempt.before)
        except RowmillError as error:
            failed = replace(attempt, outcome="failed", reason=str(error), seconds=time.monotonic() - started)
            service.registry.add(failed)
            raise
        done = replace(attempt, reason=reason, seconds=time.monotonic() - started)
        service.registry.add(done)
        return done


def status(service: Service) -> str:
    """Return in one sentence what serves now."""
    try:
        card = serving(service)
    except EndpointError as error:
        return f"Nothing answers for {service.name}: {error}"
    return (
        f"{card['model']} serves {service.name} at {service.target.address} since {card['since']}."
        if card
        else f"Nothing serves {service.name} yet."
    )


def roll_back(service: Service, reason: str = "", expected: str = "") -> Deployment:
    """Deploy the model that served before the one that serves; a second roll back goes one further.

    Args:
        service: Where.
        reason: Why, in the words of whoever does it.
        expected: The model that whoever does it means to get; any when empty.

    Raises:
        IntegrityError: It would be another model than expected, for somebody else deployed meanwhile.
        NotFoundError: Nothing served before.
    """
    earlier = rollback_target(service)
    if not earlier:
        raise NotFoundError(
            f"No model of service {service.name!r} served before the one that serves now", step="deploy one from the model list"
        )
    if expected not in ("", earlier):
        raise IntegrityError(
            f"A roll back would not go to {expected} any more", found=earlier, step="look at the history, then decide again"
        )
    return deploy(service, earlier, reason, action="roll back")


def rollback_target(service: Service) -> str:
    """Return the model id that a roll back would deploy, or an empty text."""
    served: list[str] = []
    for deployment in service.registry.deployments(service.name):
        if deployment.outcome != "serving":
            continue
        if deployment.action == "roll back" and len(served) > 1:
            served.pop()
        elif not served or served[-1] != deployment.model_id:
            served.append(deployment.model_id)
    return served[-2] if len(served) > 1 else ""


def follow(service: Service, verdict: Verdict) -> Deployment | None:
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
    return deploy(service, verdict.candidate, verdict.sentence)


def refuse_other_kind(model: ModelRecord, card: dict[str, Any] | None) -> None:
    """Refuse a model of another input or label set than what serves, for callers would break.

    Raises:
        IntegrityError: They differ.
    """
    if card is None:
        return
    ours, theirs = (list(model.shape), list(model.labels)), (card["input"]["shape"], card["labels"])
    if ours != theirs:
        raise IntegrityError(
            f"Model {model.model_id} takes {_kind(*ours)}, but {card['model']}, which serves {model.service!r}, takes {_kind(*theirs)}",
            step="use a service of its own for it: set service.name in rowmill.toml",
        )


def probe(address: str, bundle: Bundle) -> None:
    """Ask the golden examples.

    Raises:
        IntegrityError: Another model answers, or an answer is not the golden one.
        EndpointError: No usable answer.
    """
    images, expected, tolerance = bundles.golden(bundle)
    with Endpoint(address) as endpoint:
        answers, model_id = endpoint.predict(images)
    if model_id != bundle.model_id:
        raise IntegrityError(f"Model {bundle.model_id} must answer at {address}", found=model_id, step="try again when nobody else deploys")
    largest = float(np.abs(answers - expected).max()) if answers.shape == expected.shape else np.inf
    # Not `largest > tolerance`: NaN must fail, too.
    if not largest <= tolerance:  # pylint: disable=unnecessary-negation
        raise IntegrityError(
            f"Model {bundle.model_id} must give its golden answers within {tolerance:g}",
            found=f"a difference of {largest:.2g}",
            step="it gets no traffic: search anew",
        )


def _before(service: Service) -> dict[str, Any] | None:
    try:
        return serving(service)
    except EndpointError:
        return None  # a deployment is the way out of it


def _bundle(service: Service, model_id: str) -> Bundle:
    return bundles.build(service.settings, service.registry, service.registry.model(model_id, service.name))


def _attempt(service: Service, model: ModelRecord, action: str, before: dict[str, Any] | None) -> Deployment:
    return Deployment(
        model_id=model.model_id,
        service=service.name,
        action=action,
        target=service.target.kind,
        before=before["model"] if before else "",
        sha256=model.sha256,
        outcome="serving",
        reason="",
        actor=settings.actor(),
        seconds=0.0,
    )


def _switch(service: Service, model: ModelRecord, before: str) -> None:
    bundle = bundles.build(service.settings, service.registry, model)
    with service.target.dark(bundle) as address:
        probe(address, bundle)
    try:
        service.target.shift(bundle)
        probe(service.target.address, bundle)
    except RowmillError:
        service.target.shift(_bundle(service, before) if before else None)
        raise


def _kind(shape: list[int], labels: list[str]) -> str:
    return f"{'x'.join(map(str, shape))} pixels and answers {', '.join(labels[:12])}{', ...' if len(labels) > 12 else ''}"
