"""Validation of a candidate on the holdout, which only this room reads: collects answers, budgets and ledger, asks for the verdict."""

from dataclasses import replace

import numpy as np

from rowmill import jobs
from rowmill.data import dataset
from rowmill.data.dataset import Examples
from rowmill.errors import EndpointError, IntegrityError
from rowmill.judging import asking, baselines, budgets, costs, ledger, opponents, reference
from rowmill.judging import verdict as verdicts
from rowmill.judging.checks import Sides
from rowmill.judging.finding import Terms
from rowmill.judging.statistics import Floats
from rowmill.judging.verdict import Pair
from rowmill.records import DatasetVersion, HoldoutUse, ModelRecord, Verdict
from rowmill.serving import release
from rowmill.serving.release import Service

_WAIT = 600.0  # seconds that one verdict waits for another of its service: the ledger counts them in turn


def run(service: Service, model_id: str) -> Verdict:
    """Judge a model against what serves now, on the holdout of the model's data set version, and put it on record.

    A model that serves already gets no new verdict on record.
    The candidate answers through the bundle that would be deployed, the incumbent through its live endpoint.

    Raises:
        NotFoundError: There is no such model.
        IntegrityError: The model's file is not the registered one, it does not answer as Keras did, or it is of another kind than
            what serves.
        SettingsError: The cost matrix cannot be used.
    """
    model = service.registry.model(model_id, service.name)
    with jobs.lock(service.settings.state, f"judge-{service.name}", what=f"a validation of {service.name}", wait=_WAIT):
        verdict = _judged(service, model)
        if verdict.rule != "serves already":
            service.registry.add(verdict)
    return verdict


def disagreements(service: Service, verdict: Verdict) -> Examples:
    """Return the holdout's rows that a verdict lists because the two sides answer them differently, in its order."""
    listed = verdict.report.details.get("disagreements", []) if verdict.report else []
    holdout = _holdout(service, service.registry.model(verdict.candidate, service.name))[1]
    rows = np.array([entry["row"] for entry in listed], np.int64)
    return Examples([holdout.keys[row] for row in rows], holdout.images[rows], holdout.targets[rows])


def refer(service: Service, model: ModelRecord) -> None:
    """Let a model's registered files answer the holdout, and keep the reference of it; a model that was judged has one already.

    Raises:
        IntegrityError: The model's files are not here or other ones, or do not answer.
    """
    images = _holdout(service, model)[1].images
    reference.keep(service, model, asking.registered_answers(service, model, images), images)


def _judged(service: Service, model: ModelRecord) -> Verdict:
    recorded = service.registry.last_deployed(service.name)
    try:
        card = release.serving(service)
    except EndpointError as error:
        return verdicts.no_answer(Pair(service.name, model.model_id, recorded), _clause(error))
    if card and card["model"] == model.model_id:
        return verdicts.serves_already(Pair(service.name, model.model_id, model.model_id))
    pair = Pair(service.name, model.model_id, str(card["model"]) if card else "", _alarm(service, card, recorded))
    if card:
        release.refuse_other_kind(model, card)
    version, holdout = _holdout(service, model)
    if reason := _unfit(version, holdout):
        return verdicts.no_verdict(pair, "holdout", pair.incumbent or "a first model must be", reason)
    return _against_incumbent(service, model, pair, holdout) if card else _as_first(service, model, pair, holdout)


def _alarm(service: Service, card: dict[str, object] | None, recorded: str) -> str:
    if not card or card["model"] == recorded:
        return ""
    wish = f"{recorded} was deployed last" if recorded else "nothing was ever deployed"
    return f"{service.target.address} answers with {card['model']}, although by the records {wish}."


def _unfit(version: DatasetVersion, holdout: Examples) -> str:
    """Return why nothing can be judged on this holdout."""
    if holdout.targets.size == 0:
        return f"the holdout of data set version {version.version} is empty: ingest labelled rows"
    if (holdout.targets < 0).any():
        return f"{int((holdout.targets < 0).sum())} holdout rows have labels that the model does not know: search anew on this data set"
    present = np.unique(holdout.targets)
    if len(present) < 2:
        return f"the {len(holdout.targets)} holdout rows are all of class {version.labels[present[0]]!r}: ingest rows of the others"
    return ""


def _against_incumbent(service: Service, model: ModelRecord, pair: Pair, holdout: Examples) -> Verdict:
    bundle, ours = asking.candidate(service, model, holdout)
    reference.keep(service, model, ours, holdout.images)
    try:
        other, its_bundle, theirs = asking.incumbent(service, pair.incumbent, holdout)
        needs = budgets.measure((model, bundle), (other, its_bundle), holdout.images)
    except EndpointError as error:
        return verdicts.no_answer(pair, _clause(error))
    except IntegrityError as error:
        return verdicts.no_verdict(pair, "parity", pair.incumbent, _clause(error))
    use = ledger.entry(service.registry, model, pair.incumbent, holdout, service.settings.gate.level)
    sides = Sides(model.labels, holdout.targets, ours, theirs)
    terms = _terms(service, model, use, holdout, "The handlers answer as Keras did at export, and what serves as its registered files do.")
    proof = opponents.prove(sides, terms)
    if proof.problem:
        return verdicts.no_verdict(pair, "self-test", pair.incumbent, proof.problem)
    ledger.write(service.registry, use)
    return verdicts.judge(pair, sides, replace(terms, budgets=needs, notes=(*terms.notes, *proof.notes)))


def _as_first(service: Service, model: ModelRecord, pair: Pair, holdout: Examples) -> Verdict:
    _, ours = asking.candidate(service, model, holdout)
    reference.keep(service, model, ours, holdout.images)
    use = ledger.entry(service.registry, model, "", holdout, service.settings.gate.level)
    majority, logistic = (Sides(model.labels, holdout.targets, ours, theirs) for theirs in _baselines(service, model, holdout))
    ledger.write(service.registry, use)
    return verdicts.judge_first(
        pair, majority, logistic, _terms(service, model, use, holdout, "The handler answers as Keras did at export.")
    )


def _terms(service: Service, model: ModelRecord, use: HoldoutUse, holdout: Examples, told: str) -> Terms:
    gate = service.settings.gate
    matrix = costs.load(service.settings.root / gate.costs, model.labels, gate.abstain_below) if gate.costs else None
    known = baselines.note(*_baselines(service, model, holdout), holdout)
    return Terms(gate, use.level, matrix, notes=(told, known, ledger.note(use, gate.level)))


def _baselines(service: Service, model: ModelRecord, holdout: Examples) -> tuple[Floats, Floats]:
    store = service.registry.warehouse
    version = dataset.find(store, service.name, model.dataset_version)
    return baselines.answers(store, version, holdout, service.settings.state / "baselines")


def _holdout(service: Service, model: ModelRecord) -> tuple[DatasetVersion, Examples]:
    store = service.registry.warehouse
    version = dataset.find(store, service.name, model.dataset_version)
    if version.labels != model.labels:
        raise IntegrityError(
            f"Model {model.model_id} must know the labels of data set version {version.version}",
            found=", ".join(sorted(set(version.labels) ^ set(model.labels))[:8]) or "another order",
            step="search anew on this data set",
        )
    return version, dataset.load_holdout(store, version)


def _clause(error: Exception) -> str:
    return str(error).rstrip(".")
