"""Validation asks the bundle and the live endpoint, and only it reads the holdout."""

import ast
import dataclasses
import shutil

import numpy as np
import pytest
from rowmill import jobs
from rowmill.data import dataset
from rowmill.errors import EndpointError, IntegrityError, NotFoundError
from rowmill.judging import validation
from rowmill.serving import bundle as bundles
from rowmill.serving import release
from rowmill.serving.endpoint import Endpoint
from rowmill.serving.release import Service

from tests.conftest import ROOT


def right(service: Service, model_id: str) -> np.ndarray:
    """Return which holdout rows a model has right, asked here by hand."""
    store, model = service.registry.warehouse, service.registry.model(model_id)
    holdout = dataset.load_holdout(store, dataset.find(store, "digits", model.dataset_version))
    with bundles.open_in_process(bundles.build(service.settings, service.registry, model)) as endpoint:
        return endpoint.predict(holdout.images)[0].argmax(axis=1) == holdout.targets


def test_a_first_model_is_judged_by_the_baselines(service: Service, good: str) -> None:
    found = validation.run(service, good)
    assert found.outcome == "better" and found.rule == "first model" and found.incumbent == ""
    assert found.rows == 358 and found.candidate_accuracy == right(service, good).mean() > 0.9
    assert 0.93 < found.incumbent_accuracy < 0.97  # logistic regression on these digits
    assert service.registry.verdict(good, "digits") == found


def test_a_weak_first_model_is_not_good_enough(service: Service, weak: str) -> None:
    found = validation.run(service, weak)
    assert found.outcome == "worse" and "too weak to be the first model" in found.sentence


def test_compares_with_what_serves_now(service: Service, good: str, weak: str) -> None:
    release.deploy(service, weak)
    found = validation.run(service, good)
    ours, theirs = right(service, good), right(service, weak)
    assert found.outcome == "better" and found.incumbent == weak
    assert (found.gained, found.lost) == ((ours & ~theirs).sum(), (theirs & ~ours).sum())
    release.deploy(service, good)
    found = validation.run(service, weak)
    assert found.outcome == "worse" and found.incumbent == good


def test_what_serves_is_asked_not_remembered(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good)
    service.target.shift(bundles.build(service.settings, service.registry, service.registry.model(weak)))
    assert service.registry.last_deployed("digits") == good
    assert validation.run(service, good).incumbent == weak


def test_a_stopped_endpoint_is_restarted_first(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good)
    jobs.stop(service.settings.state, "function-digits")
    assert validation.run(service, weak).outcome == "worse"


def test_a_silent_endpoint_gives_cannot_tell(service: Service, good: str, weak: str) -> None:
    release.deploy(service, weak)
    jobs.stop(service.settings.state, "function-digits")
    shutil.rmtree(service.settings.state / "bundles")
    shutil.rmtree(service.registry.artefacts / weak)
    found = validation.run(service, good)
    assert found.outcome == "cannot tell" and found.rule == "no answer" and found.incumbent == weak
    assert "should serve but gives no answer" in found.sentence
    assert release.follow(service, found) is None
    assert jobs.names(service.settings.state) == [] and release.status(service).startswith("Nothing answers for digits: ")


def test_what_serves_already_gets_no_new_verdict(service: Service, good: str) -> None:
    first = validation.run(service, good)
    release.deploy(service, good)
    assert validation.run(service, good).sentence.endswith("it is what serves")
    assert service.registry.verdicts("digits") == [first]


def test_a_candidate_that_cannot_be_asked_is_not_the_incumbents_fault(service: Service, good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise EndpointError("planted", step="none")

    monkeypatch.setattr(Endpoint, "predict", fail)
    with pytest.raises(IntegrityError, match=f"The candidate {good} cannot be asked: planted"):
        validation.run(service, good)
    assert not service.registry.verdicts("digits")


def test_a_candidate_of_another_kind_is_refused(service: Service, good: str) -> None:
    release.deploy(service, good)
    service.registry.add(dataclasses.replace(service.registry.model(good), model_id="zzzzzzzz-t001", labels=("cat", "dog")))
    with pytest.raises(IntegrityError, match="answers cat, dog, but"):
        validation.run(service, "zzzzzzzz-t001")
    assert not service.registry.verdicts("digits")


def test_a_damaged_candidate_gets_no_verdict(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good)
    path = service.registry.artefacts / weak / "model.tflite"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="must have SHA-256"):
        validation.run(service, weak)
    assert not service.registry.verdicts("digits")


def test_an_unknown_candidate_is_named(service: Service) -> None:
    with pytest.raises(NotFoundError, match="no model 'aaaaaaaa-t009'"):
        validation.run(service, "aaaaaaaa-t009")


def test_only_validation_reads_the_holdout() -> None:
    readers = []
    for path in [*(ROOT / "lib").rglob("*.py"), *(ROOT / "cloud_function").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute | ast.Name) and "load_holdout" in ast.unparse(node):
                readers.append(path.relative_to(ROOT / "lib/rowmill").as_posix())
    readers += [path.name for path in (ROOT / "notebooks").glob("*.ipynb") if "load_holdout" in path.read_text()]
    assert set(readers) == {"judging/validation.py"}
