"""Validation asks the bundle and the live endpoint, and only it reads the holdout."""

import ast
import contextlib
import dataclasses
import http.server
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

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
    assert [check["name"] for check in found.report.checks] == ["majority class", "logistic regression"]
    assert found.report.details["classes"] and "looked at for the first time" in " ".join(found.report.notes)


def test_a_weak_first_model_is_not_good_enough(service: Service, weak: str) -> None:
    found = validation.run(service, weak)
    assert found.outcome == "worse" and "too weak to be the first model" in found.sentence


def test_compares_with_what_serves_now(service: Service, good: str, weak: str) -> None:
    release.deploy(service, weak, "by hand", force=True)
    found = validation.run(service, good)
    ours, theirs = right(service, good), right(service, weak)
    assert found.outcome == "better" and found.incumbent == weak
    assert (found.gained, found.lost) == ((ours & ~theirs).sum(), (theirs & ~ours).sum())
    assert "rows of each can" in " ".join(check["note"] for check in found.report.checks)
    said = " ".join(found.report.notes)
    assert "what serves as its registered files do. Baselines on the same rows: the majority class" in said
    assert "looked at for the first time" in said and "judged planted opponents with 15 of 358 answers" in said
    assert {check["name"] for check in found.report.checks} >= {
        "accuracy",
        "classes",
        "nll",
        "calibration",
        "size",
        "cold start",
        "latency",
    }
    assert validation.run(service, good).report.notes == found.report.notes  # the same pair is the same look
    examples = validation.disagreements(service, found)
    assert [entry["label"] for entry in found.report.details["disagreements"]] == [str(target) for target in examples.targets]
    release.deploy(service, good, "by hand", force=True)
    found = validation.run(service, weak)
    assert found.outcome == "worse" and found.incumbent == good
    assert [(use.candidate, use.incumbent, use.look) for use in service.registry.holdout_uses("digits")] == [
        (good, weak, 1),
        (weak, good, 2),
    ]


def test_what_serves_is_asked_not_remembered(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    service.target.shift({bundles.build(service.settings, service.registry, service.registry.model(weak)).folder.name: 100})
    assert service.registry.last_deployed("digits") == good
    found = validation.run(service, good)
    assert found.incumbent == weak
    assert found.sentence.startswith(
        f"{service.target.address} answers with {weak}, although by the records {good} was deployed last. {good} is"
    )


def test_a_stopped_endpoint_is_restarted_first(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    jobs.stop(service.settings.state, "function-digits")
    assert validation.run(service, weak).outcome == "worse"


def test_a_silent_endpoint_gives_cannot_tell(service: Service, good: str, weak: str) -> None:
    release.deploy(service, weak, "by hand", force=True)
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
    release.deploy(service, good, "by hand", force=True)
    assert validation.run(service, good).sentence.endswith("it is what serves")
    assert service.registry.verdicts("digits") == [first]


def test_a_candidate_that_cannot_be_asked_is_not_the_incumbents_fault(service: Service, good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise EndpointError("planted", step="none")

    monkeypatch.setattr(Endpoint, "predict", fail)
    with pytest.raises(IntegrityError, match=f"The candidate {good} cannot be asked: planted"):
        validation.run(service, good)
    assert not service.registry.verdicts("digits")


def test_a_candidate_of_another_kind_is_refused(service: Service, good: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    service.registry.add(dataclasses.replace(service.registry.model(good), model_id="zzzzzzzz-t001", labels=("cat", "dog")))
    with pytest.raises(IntegrityError, match="answers cat, dog, but"):
        validation.run(service, "zzzzzzzz-t001")
    assert not service.registry.verdicts("digits")


def test_a_damaged_candidate_gets_no_verdict(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    path = service.registry.artefacts / weak / "model.tflite"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="must have SHA-256"):
        validation.run(service, weak)
    assert not service.registry.verdicts("digits")


def test_an_unknown_candidate_is_named(service: Service) -> None:
    with pytest.raises(NotFoundError, match="no model 'aaaaaaaa-t009'"):
        validation.run(service, "aaaaaaaa-t009")


def altered(service: Service, model_id: str, **changes: Any) -> Callable[..., dataset.Examples]:
    """Return a way to load the holdout with some of its arrays changed."""
    model = service.registry.model(model_id)
    holdout = dataset.load_holdout(service.registry.warehouse, dataset.find(service.registry.warehouse, "digits", model.dataset_version))
    return lambda *_: dataclasses.replace(holdout, **{name: change(getattr(holdout, name)) for name, change in changes.items()})


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": lambda t: t[:0], "images": lambda i: i[:0], "keys": lambda k: k[:0]}, "the holdout of data set version .* is empty"),
        ({"targets": lambda t: np.where(t == 3, -1, t)}, "holdout rows have labels that the model does not know"),
        ({"targets": np.zeros_like}, "the 358 holdout rows are all of class '0'"),
    ],
    ids=["empty", "unknown labels", "one class"],
)
def test_a_holdout_that_cannot_judge_gives_cannot_tell(
    service: Service, good: str, weak: str, changes: dict[str, Any], words: str, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not first:
        monkeypatch.setattr(release, "serving", lambda _: service_card(service, weak))
    monkeypatch.setattr(dataset, "load_holdout", altered(service, good, **changes))
    found = validation.run(service, good)
    assert found.outcome == "cannot tell" and found.rule == "holdout" and found.rows == 0
    assert re.search(words, found.sentence) and found.report.headline.startswith("cannot tell: ")
    assert not service.registry.holdout_uses("digits")


def service_card(service: Service, model_id: str) -> dict[str, Any]:
    """Return what an endpoint that serves this model says of itself."""
    model = service.registry.model(model_id)
    return {"model": model_id, "labels": list(model.labels), "input": {"shape": list(model.shape)}}


def test_too_few_rows_are_said_before_anything_is_compared(service: Service, good: str, weak: str, monkeypatch: pytest.MonkeyPatch) -> None:
    release.deploy(service, weak, "by hand", force=True)
    shutil.rmtree(service.settings.state / "baselines")  # those of all rows
    few = {name: lambda values: values[:6] for name in ("keys", "images", "targets")}
    monkeypatch.setattr(dataset, "load_holdout", altered(service, good, **few))
    found = validation.run(service, good)
    assert found.outcome == "cannot tell" and found.rule == "self-test"
    assert "6 rows are too few: at the level 0.03 they cannot show even the largest difference" in found.sentence
    assert not service.registry.holdout_uses("digits")


def test_labels_that_the_model_does_not_know_are_named(service: Service, good: str) -> None:
    model = service.registry.model(good)
    service.registry.add(dataclasses.replace(model, labels=(*model.labels[:-1], "ten")))
    with pytest.raises(IntegrityError, match="must know the labels of data set version .*; found 9, ten; search anew"):
        validation.run(service, good)


def test_costs_decide_where_the_settings_say_so(service: Service, good: str, weak: str) -> None:
    release.deploy(service, weak, "by hand", force=True)
    labels = service.registry.model(good).labels
    path = service.settings.state / "costs.csv"
    path.write_text("\n".join([f"true,{','.join(labels)}", *(f"{a},{','.join('0' if a == b else '2.5' for b in labels)}" for a in labels)]))
    gate = dataclasses.replace(service.settings.gate, measure="cost", costs=str(path))
    found = validation.run(dataclasses.replace(service, settings=dataclasses.replace(service.settings, gate=gate)), good)
    assert found.outcome == "better" and found.rule == "cost"
    saved = 2500 * found.difference
    assert f"saves {saved:+.4g}, between" in found.report.headline


@contextlib.contextmanager
def answering(card: dict[str, Any], answer: Callable[[int, int], Any]) -> Iterator[str]:
    """Serve a model's card and made-up answers: what the n-th POST gets for so many instances; yields the address."""
    asked = [0]

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers."""

        def do_GET(self) -> None:  # pylint: disable=invalid-name
            """Answer the card."""
            self._send(card)

        def do_POST(self) -> None:  # pylint: disable=invalid-name
            """Answer predictions."""
            instances = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["instances"]
            asked[0] += 1
            self._send(answer(asked[0], len(instances)))

        def _send(self, content: Any) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(500 if content == b"broken" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # pylint: disable=redefined-builtin
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def even(count: int, labels: int = 10) -> list[list[float]]:
    """Return so many rows of equal probabilities."""
    return [[1 / labels] * labels] * count


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda weak: lambda n, rows: b"broken", "does not answer JSON; found code 500"),
        (lambda weak: lambda n, rows: {"deployedModelId": weak, "predictions": even(rows, 9)}, "each of its 10 labels; found 9"),
        (lambda weak: lambda n, rows: {"deployedModelId": weak, "predictions": [0.5] * rows}, "rows of probabilities; found shape"),
        (lambda weak: lambda n, rows: {"deployedModelId": weak, "predictions": even(rows - 1)}, "must answer 358 rows"),
        (lambda weak: lambda n, rows: {"deployedModelId": weak, "predictions": [[None] * 10] * rows}, "answers no probabilities"),
        (lambda weak: lambda n, rows: {"deployedModelId": weak, "predictions": [[0.3] * 10] * rows}, "answers no probabilities"),
        (lambda weak: lambda n, rows: {"deployedModelId": "other", "predictions": even(rows)}, "must answer at .*; found other"),
        (
            lambda weak: lambda n, rows: {"deployedModelId": weak, "predictions": even(rows)},
            "as the registered files of .* do: the cause is",
        ),
    ],
    ids=["500", "another shape", "no rows", "fewer", "NaN", "sum", "another model", "other answers"],
)
def test_an_incumbent_that_cannot_be_believed_gives_cannot_tell(
    service: Service, good: str, weak: str, answer: Callable[[str], Callable[[int, int], Any]], words: str
) -> None:
    with answering(service_card(service, weak) | {"since": "x"}, answer(weak)) as address:
        elsewhere = dataclasses.replace(service, target=Elsewhere(address))
        found = validation.run(elsewhere, good)
    assert found.outcome == "cannot tell" and found.rule in ("no answer", "parity") and re.search(words, found.sentence)
    assert found.sentence.startswith(f"{address} answers with {weak}, although by the records nothing was ever deployed. cannot tell")
    assert release.follow(service, found) is None and not service.registry.holdout_uses("digits")
    assert service.registry.verdict(good, "digits") == found or found.rows == 0


@dataclasses.dataclass
class Elsewhere:
    """A target at an address of its own."""

    address: str
    kind: str = "elsewhere"
    embedded: bool = False

    def traffic(self) -> dict[str, int]:
        """Something serves there."""
        return {"something": 100}

    def open(self, address: str = "") -> Endpoint:
        """Ask there."""
        return Endpoint(address or self.address)


def test_an_incumbent_that_is_not_registered_gives_cannot_tell(service: Service, good: str, weak: str) -> None:
    card = service_card(service, weak) | {"model": "zzzzzzzz-t001"}
    with answering(card, lambda n, rows: {"deployedModelId": "zzzzzzzz-t001", "predictions": even(rows)}) as address:
        found = validation.run(dataclasses.replace(service, target=Elsewhere(address)), good)
    assert found.outcome == "cannot tell" and "zzzzzzzz-t001, which serves, is not registered" in found.sentence


def test_only_validation_reads_the_holdout() -> None:
    readers = []
    for path in [*(ROOT / "lib").rglob("*.py"), *(ROOT / "cloud_function").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute | ast.Name) and "load_holdout" in ast.unparse(node):
                readers.append(path.relative_to(ROOT / "lib/rowmill").as_posix())
    readers += [path.name for path in (ROOT / "notebooks").glob("*.ipynb") if "load_holdout" in path.read_text()]
    assert set(readers) == {"judging/validation.py"}
