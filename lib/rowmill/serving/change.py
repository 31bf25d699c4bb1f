"""One recorded change of what serves: alone on this machine, preflight, switch, record; and what becomes of one that was cut off."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rowmill import jobs
from rowmill.errors import EndpointError, IntegrityError, RowmillError, TargetError
from rowmill.records import Deployment, ModelRecord, now
from rowmill.serving import bundle as bundles
from rowmill.serving.journal import Attempt, Journal
from rowmill.serving.switch import Switch, probe
from rowmill.serving.target import Service, Traffic, model_of, told
from rowmill.serving.truth import described


@dataclass(frozen=True)
class Order:
    """What shall be done, as it goes on record; `verdict` is the model's latest outcome, or empty."""

    model: ModelRecord
    action: str
    reason: str
    verdict: str = ""
    percents: Sequence[int] = (100,)
    forced: bool = False


def lock(service: Service) -> contextlib.AbstractContextManager[None]:
    """Be the only one on this machine who changes what serves.

    Raises:
        BusyError: Another process does.
    """
    return jobs.lock(service.settings.state, f"deploy-{service.name}", what=f"a deployment of {service.name}")


def carry_out(service: Service, order: Order) -> Deployment:
    """Make the model serve, and put on record what became of it.

    Raises:
        BusyError: Another process changes what serves.
        IntegrityError: The model's files, shape, labels or golden answers are not what they must be.
        EndpointError: It does not start or does not answer, or the place that serves refuses.
    """
    with lock(service):
        recover(service)
        journal = Journal(service.settings.state, service.name)
        journal.write(_attempt(service, order))
        try:
            revision = _carry_out(service, order, journal)
        except BaseException as error:
            reason = str(error) or f"stopped by {type(error).__name__}"
            # What cannot be recorded now is found in the journal by the next who deploys.
            with contextlib.suppress(RowmillError):
                record(service, journal, "failed", reason)
            raise
        return record(service, journal, "serving", order.reason, revision)


def recover(service: Service) -> None:
    """Finish or clear away what a process that was killed had begun, and put it on record; whoever calls holds the lock.

    Raises:
        TargetError: The place that serves cannot be asked.
    """
    journal = Journal(service.settings.state, service.name)
    attempt = journal.read()
    if attempt is None:
        return
    traffic = _traffic(service)
    mine = [revision for revision in traffic if model_of(revision) == attempt.model_id and revision not in attempt.before]
    cut = f"It was cut off at the step {attempt.last!r}"
    if mine and traffic == {mine[0]: 100} and _works(service, attempt, traffic):
        record(service, journal, "serving", f"{cut}, and finished when that was found", mine[0])
    else:
        if mine:
            service.target.shift(attempt.before)
        record(service, journal, "failed", f"{cut}; {told(attempt.before if mine else traffic)} has the traffic")


def record(service: Service, journal: Journal, outcome: str, reason: str, revision: str = "") -> Deployment:
    """Put the attempt under way on record, and end it."""
    attempt = journal.read()
    assert attempt is not None, "only an attempt is put on record"
    moment = now()
    row = Deployment(
        model_id=attempt.model_id,
        service=service.name,
        action=attempt.action,
        target=service.target.kind,
        before=attempt.serves,
        sha256=attempt.sha256,
        outcome=outcome,
        reason=reason,
        actor=attempt.actor,
        seconds=(moment - attempt.at).total_seconds(),
        revision=revision,
        verdict=attempt.verdict,
        forced=attempt.forced,
        steps=attempt.seconds,
        at=moment,
    )
    service.registry.add(row)
    journal.end()
    return row


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


def _carry_out(service: Service, order: Order, journal: Journal) -> str:
    with journal.step("preflight"):
        before = _traffic(service)
        card = _card(service, before)
        refuse_other_kind(order.model, card)
    journal.note(before=before, serves=card["model"] if card else "")
    with journal.step("build the bundle"):
        bundle = bundles.build(service.settings, service.registry, order.model)
    return Switch(service.target, journal, bundle, before, order.percents, service.settings.target_latency).run()


def _attempt(service: Service, order: Order) -> Attempt:
    return Attempt(
        order.model.model_id,
        order.action,
        service.target.actor,
        order.reason,
        sha256=order.model.sha256,
        verdict=order.verdict,
        forced=order.forced,
    )


def _traffic(service: Service) -> Traffic:
    try:
        return service.target.traffic()
    except TargetError:
        raise
    except EndpointError:
        return {}  # what should serve does not start any more: a deployment is the way out of it


def _card(service: Service, traffic: Traffic) -> dict[str, Any] | None:
    try:
        return described(service) if traffic else None
    except EndpointError:
        return None


def _works(service: Service, attempt: Attempt, traffic: Traffic) -> bool:
    """Say whether what was cut off after it got the traffic answers as it must; then it keeps it."""
    try:
        model = service.registry.model(attempt.model_id, service.name)
        bundle = bundles.build(service.settings, service.registry, model)
        with service.target.open() as endpoint:
            probe(endpoint, bundle, service.settings.target_latency)
        service.target.shift(traffic)
    except RowmillError:
        return False
    return True


def _kind(shape: list[int], labels: list[str]) -> str:
    return f"{'x'.join(map(str, shape))} pixels and answers {', '.join(labels[:12])}{', ...' if len(labels) > 12 else ''}"
