"""Asks both sides: the candidate through its bundle, the incumbent at its live address; answers that cannot be trusted are refused."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from rowmill.data import dataset
from rowmill.data.dataset import Examples
from rowmill.errors import EndpointError, IntegrityError, NotFoundError, RowmillError
from rowmill.judging import parity
from rowmill.judging.parity import Limits, Suspect
from rowmill.judging.statistics import Floats
from rowmill.records import Bundle, ModelRecord
from rowmill.serving import bundle as bundles
from rowmill.serving.endpoint import Endpoint
from rowmill.serving.release import Service


def candidate(service: Service, model: ModelRecord, holdout: Examples) -> tuple[Bundle, Floats]:
    """Return the candidate's bundle and its answers to the holdout, (rows, labels), given by the handler that would serve it.

    Before that, the handler must answer as Keras did at export: on the golden rows and on the whole validation split.

    Raises:
        IntegrityError: It does not, or cannot be asked; the sentence names the cause.
    """
    bundle = bundles.build(service.settings, service.registry, model)
    _check_labels(bundle, model)
    with _told(model), bundles.open_in_process(bundle) as endpoint:
        _check_keras(service, model, bundle, endpoint)
        return bundle, ask(endpoint, holdout.images, model.model_id, model.labels)


def incumbent(service: Service, model_id: str, holdout: Examples) -> tuple[ModelRecord, Bundle, Floats]:
    """Return what serves, its registered bundle, and its live answers to the holdout, over HTTP and in batches.

    Its registered bundle, opened here, must give the same answers.

    Raises:
        EndpointError: It cannot be asked, or another model answers than at the start.
        IntegrityError: Its registered files are lost, or do not answer as it does; the sentence names the cause.
    """
    try:
        model = service.registry.model(model_id, service.name)
    except NotFoundError as error:
        what = f"{model_id}, which serves, is not registered, so nothing shows that it answers as it should"
        raise IntegrityError(what, step="deploy a model of the list") from error
    with service.target.open() as endpoint:
        answers = ask(endpoint, holdout.images, model_id, model.labels)
        bundle = bundles.build(service.settings, service.registry, model)
        with bundles.open_in_process(bundle) as registered:
            expected = ask(registered, holdout.images, model_id, model.labels)
        allowed = parity.limits(bundle.folder, service.settings.gate.flips)
        differing = parity.difference(answers, expected, allowed)
        if differing:
            why = parity.cause(lambda images: endpoint.predict(images, check=True)[0], holdout, expected, _suspect(service, model, allowed))
            what = f"What serves at {service.target.address} must answer the holdout as the registered files of {model_id} do: {why}"
            raise IntegrityError(what, found=differing, step="deploy it anew, or another model")
    return model, bundle, answers


def registered_answers(service: Service, model: ModelRecord, images: np.ndarray) -> Floats:
    """Return the answers of a model's registered files to images, (rows, labels), given by the handler that serves them.

    Raises:
        IntegrityError: The files are lost or other ones, or cannot be asked.
    """
    with _told(model, "Model"), bundles.open_in_process(bundles.build(service.settings, service.registry, model)) as endpoint:
        return ask(endpoint, images, model.model_id, model.labels)


def ask(endpoint: Endpoint, images: np.ndarray, model_id: str, labels: Sequence[str]) -> Floats:
    """Return an endpoint's answers, (rows, labels).

    Raises:
        EndpointError: Another model answers, or another count of labels.
    """
    answers, answered = endpoint.predict(images, check=True)
    if answered != model_id:
        raise EndpointError(f"{model_id} must answer at {endpoint.address}", found=answered, step="ask again when nobody deploys")
    if answers.shape[1] != len(labels):
        what = f"{model_id} at {endpoint.address} must answer one probability for each of its {len(labels)} labels"
        raise EndpointError(what, found=f"{answers.shape[1]}", step="deploy another model")
    return answers


def _check_labels(bundle: Bundle, model: ModelRecord) -> None:
    labels = tuple(bundles.card(bundle)["labels"])
    if labels != model.labels:
        places = [f"{a!r} instead of {b!r}" for a, b in zip(labels, model.labels, strict=False) if a != b]
        raise IntegrityError(
            f"The bundle of model {model.model_id} must name the labels as they are registered: its labels are in another order",
            found=", ".join(places[:3]) or f"{len(labels)} labels instead of {len(model.labels)}",
            step="restore its files, or search anew",
        )


def _check_keras(service: Service, model: ModelRecord, bundle: Bundle, endpoint: Endpoint) -> None:
    for what, examples, expected in (*_kept_rows(service, model), ("golden rows", *_golden_rows(bundle))):
        allowed = parity.limits(bundle.folder, service.settings.gate.flips, rounded=what == "validation rows")
        differing = parity.difference(ask(endpoint, examples.images, model.model_id, model.labels), expected, allowed)
        if differing:
            why = parity.cause(
                lambda images: endpoint.predict(images, check=True)[0], examples, expected, _suspect(service, model, allowed)
            )
            sentence = f"The bundle of model {model.model_id} must answer the {what} as Keras did at export, but {why}"
            raise IntegrityError(sentence, found=differing, step="it gets no verdict: restore its files, or search anew")


def _golden_rows(bundle: Bundle) -> tuple[Examples, Floats]:
    images, expected, _ = bundles.golden(bundle)
    return Examples([], images, np.zeros(0, np.int64)), expected


def _kept_rows(service: Service, model: ModelRecord) -> list[tuple[str, Examples, Floats]]:
    """Return the validation rows with Keras's answers to them; nothing for a model that was exported without."""
    kept = parity.kept(service.registry.artefact(model))
    if kept is None:
        return []
    store = service.registry.warehouse
    rows = dataset.load(store, dataset.find(store, service.name, model.dataset_version)).validation
    expected = parity.aligned(kept, rows.keys)
    if expected is None:
        what = f"Keras's answers that are kept with model {model.model_id} are not to the validation rows of its data set"
        raise IntegrityError(what, step="search anew")
    return [("validation rows", rows, expected)]


def _suspect(service: Service, model: ModelRecord, allowed: Limits) -> Suspect:
    root = service.registry.artefacts
    others = {other.model_id: root / other.model_id for other in service.registry.models(service.name) if other.model_id != model.model_id}
    return Suspect(model.labels, root / model.model_id, others, allowed.difference)


@contextlib.contextmanager
def _told(model: ModelRecord, who: str = "The candidate") -> Iterator[None]:
    """Say of what goes wrong that it is this model's fault, not the incumbent's."""
    try:
        yield
    except EndpointError as error:
        raise IntegrityError(f"{who} {model.model_id} cannot be asked: {_clause(error)}", step="search anew") from error


def _clause(error: RowmillError) -> str:
    return str(error).rstrip(".")
