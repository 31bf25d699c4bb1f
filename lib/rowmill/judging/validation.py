"""Collects both sides' answers on the holdout, which only this room reads, and asks for the verdict."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from rowmill.data import dataset
from rowmill.data.dataset import Dataset, Examples
from rowmill.errors import EndpointError, IntegrityError
from rowmill.judging import verdict as verdicts
from rowmill.judging.verdict import Labels, Pair
from rowmill.records import ModelRecord, Verdict
from rowmill.serving import bundle as bundles
from rowmill.serving import release
from rowmill.serving.endpoint import Endpoint
from rowmill.serving.release import Service

_ITERATIONS = 60


def run(service: Service, model_id: str) -> Verdict:
    """Judge a model against what serves now, on the holdout of the model's data set version, and put it on record.

    A model that serves already gets no new verdict on record.
    The candidate answers through the bundle that would be deployed, the incumbent through its live endpoint.

    Raises:
        NotFoundError: There is no such model.
        IntegrityError: The model's file is not the registered one, or it is of another kind than what serves.
    """
    model = service.registry.model(model_id, service.name)
    card, silence = None, ""
    try:
        card = release.serving(service)
    except EndpointError as error:
        silence = str(error).rstrip(".")
    if card and card["model"] == model_id:
        return verdicts.serves_already(Pair(service.name, model_id, model_id))
    if silence:
        verdict = verdicts.no_answer(Pair(service.name, model_id, service.registry.last_deployed(service.name)), silence)
    else:
        verdict = _against_incumbent(service, model, card) if card else _as_first(service, model)
    service.registry.add(verdict)
    return verdict


def _against_incumbent(service: Service, model: ModelRecord, card: dict[str, object]) -> Verdict:
    release.refuse_other_kind(model, card)
    holdout = _holdout(service, model)
    ours = _candidate_labels(service, model, holdout)
    try:
        with Endpoint(service.target.address) as endpoint:
            theirs, incumbent = _labels(endpoint, holdout)
    except EndpointError as error:
        return verdicts.no_answer(Pair(service.name, model.model_id, str(card["model"])), str(error).rstrip("."))
    return verdicts.judge(Pair(service.name, model.model_id, incumbent), verdicts.compare(holdout.targets, ours, theirs))


def _as_first(service: Service, model: ModelRecord) -> Verdict:
    holdout = _holdout(service, model)
    ours = _candidate_labels(service, model, holdout)
    warehouse = service.registry.warehouse
    data = dataset.load(warehouse, dataset.find(warehouse, service.name, model.dataset_version))
    sides = [verdicts.compare(holdout.targets, ours, theirs) for theirs in (_majority(data, holdout), _logistic(data, holdout))]
    return verdicts.judge_first(Pair(service.name, model.model_id, ""), *sides)


def _holdout(service: Service, model: ModelRecord) -> Examples:
    warehouse = service.registry.warehouse
    return dataset.load_holdout(warehouse, dataset.find(warehouse, service.name, model.dataset_version))


def _candidate_labels(service: Service, model: ModelRecord, holdout: Examples) -> Labels:
    bundle = bundles.build(service.settings, service.registry, model)
    try:
        with bundles.open_in_process(bundle) as endpoint:
            labels, answered = _labels(endpoint, holdout)
    except EndpointError as error:
        raise IntegrityError(f"The candidate {model.model_id} cannot be asked: {str(error).rstrip('.')}", step="search anew") from error
    if answered != model.model_id:
        raise IntegrityError(
            f"The bundle of model {model.model_id} must answer with its id", found=answered, step="restore its files, or search anew"
        )
    return labels


def _labels(endpoint: Endpoint, holdout: Examples) -> tuple[Labels, str]:
    probabilities, model_id = endpoint.predict(holdout.images)
    return probabilities.argmax(axis=1), model_id


def _majority(data: Dataset, holdout: Examples) -> Labels:
    most_frequent = np.bincount(data.train.targets).argmax()
    return np.full(len(holdout.targets), most_frequent)


def _logistic(data: Dataset, holdout: Examples) -> Labels:
    def pixels(examples: Examples) -> np.ndarray:
        return examples.images.reshape(len(examples.images), -1).astype(np.float32) / scale

    scale = max(1.0, float(data.train.images.max()))
    baseline = LogisticRegression(max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        # A yardstick need not be exact to the last digit.
        warnings.simplefilter("ignore", ConvergenceWarning)
        baseline.fit(pixels(data.train), data.train.targets)
    predicted: Labels = baseline.predict(pixels(holdout))
    return predicted
