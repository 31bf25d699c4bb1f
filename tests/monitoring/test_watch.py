"""What serves is watched beside its own holdout: of a real function, with real answers."""

import base64
import dataclasses
import datetime
import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from rowmill.data import dataset
from rowmill.errors import IntegrityError, ParameterError
from rowmill.judging import reference, validation
from rowmill.monitoring import log, watch
from rowmill.records import ModelRecord, now
from rowmill.serving import lines, release
from rowmill.serving.release import Service

from tests.requests import line, refusal

DAY = datetime.timedelta(days=1)


def write(service: Service, *told: bytes) -> None:
    """Write lines as the function does."""
    folder = lines.folder(service.settings.state, service.name)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "00000001-aaaaaaaaaaaa.jsonl").open("ab") as file:
        file.write(b"".join(told))


def write_answers(service: Service, model: ModelRecord, count: int, **changed: float) -> None:
    """Write requests for images as those of the holdout, drawn by chance, with some numbers changed."""
    if reference.kept(service, model) is None:
        validation.refer(service, model)
    known = reference.kept(service, model)
    assert known is not None
    rows = known.sample(count, replace=True, random_state=1).assign(**changed).to_dict("records")
    kept = [base64.b64encode(bytes([number % 256] * 64)).decode() for number in range(count)]
    told = {"model": model.model_id, "instances": 1}
    write(
        service,
        *(
            line(
                f"r{number}",
                **told,
                labels=[model.labels[int(row["label"])]],
                confidences=[row["confidence"]],
                means=[row["mean"]],
                deviations=[row["deviation"]],
                images=[kept[number]],
            )
            for number, row in enumerate(rows)
        ),
    )


def test_requests_of_the_holdouts_kind_show_no_difference_and_no_look_is_spent(
    service: Service, good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = service.registry.model(good)
    write_answers(service, model, 300)
    known = reference.kept(service, model)
    assert known is not None and list(known.columns) == ["label", "confidence", "mean", "deviation"], "No true label is in it."
    version = dataset.find(service.registry.warehouse, "digits", model.dataset_version)
    assert len(known) == version.counts["holdout"]
    with monkeypatch.context() as guarded:
        guarded.setattr(dataset, "load_holdout", lambda *_: pytest.fail("the holdout was read again"))
        seen = watch.look(service, now() - DAY)
    (drift,) = seen.drifts
    assert drift.state == "no difference" and drift.requests == 300 and seen.traffic[0].requests == 300
    assert watch.alarm(service) == "" and not service.registry.holdout_uses("digits")


def test_what_differs_is_an_alarm_with_the_furthest_requests_images(service: Service, good: str) -> None:
    model = service.registry.model(good)
    release.deploy(service, good, "for the test", force=True)
    write_answers(service, model, 250, mean=200.0, confidence=0.3)
    (drift,) = watch.look(service, now() - DAY).drifts
    assert drift.state == "differs" and watch.alarm(service) == drift.sentence and "the pixels' mean (1.00)" in drift.sentence
    first = watch.pictures(service, drift, most=3)
    numbers = [int(row["request_id"][1:]) for row in drift.furthest.head(3).to_dict("records")]
    assert [image is not None and int(image[0, 0, 0]) for image in first] == [number % 256 for number in numbers] and first[0].shape == (
        8,
        8,
        1,
    )
    told = watch.look(service, now() - DAY)._repr_html_()  # pylint: disable=protected-access
    assert "effect 1.00" in told and good in told and "only labels of these requests can tell" in told


def test_the_newest_thousand_count(service: Service, good: str) -> None:
    model = service.registry.model(good)
    write_answers(service, model, 1500, mean=200.0)
    old = lines.folder(service.settings.state, "digits") / "00000001-aaaaaaaaaaaa.jsonl"
    aged = [json.loads(each) for each in old.read_bytes().splitlines()]
    moment = (now() - DAY / 2).isoformat()
    old.write_bytes(b"".join(json.dumps({**each, "answered_at": moment}).encode() + b"\n" for each in aged))
    write_answers(service, model, 1000)
    (drift,) = watch.look(service, now() - DAY).drifts
    assert drift.requests == watch.RECENT == 1000 and drift.state == "no difference"


def test_models_that_nobody_knows_or_whose_files_are_lost_are_a_sentence(service: Service, good: str, weak: str) -> None:
    write(service, *(line(f"r{number}", model="zzzzzzzz-t001") for number in range(210)), *(line(f"w{n}", model=weak) for n in range(205)))
    write(service, *(line(f"f{number}", model=good) for number in range(20)), refusal("x", 500, model=good))
    (service.registry.artefacts / weak / "model.tflite").unlink()
    seen = watch.look(service, now() - DAY)
    assert [each.requests for each in seen.traffic] == [210, 205, 21] and [each.state for each in seen.drifts] == ["silent"] * 3
    unknown, lost, few = (each.sentence for each in seen.drifts)
    assert "There is no model 'zzzzzzzz-t001' of service 'digits'" in unknown and "model.tflite is missing" in lost
    assert few == f"Nothing is said of drift for {good}: 20 answered requests are fewer than 200."
    assert watch.pictures(service, seen.drifts[0]) == [] and seen.traffic[2].failed == 1


def test_no_request_at_all(service: Service) -> None:
    seen = watch.look(service, watch.days_ago(1.0))
    assert not seen.traffic and not seen.drifts and "No request to digits is on record" in seen._repr_html_()  # pylint: disable=protected-access
    assert watch.alarm(service) == ""
    for days in (0.0, -1.0, 1e12, float("nan"), float("inf")):
        with pytest.raises(ParameterError, match="from some days ago on"):
            watch.days_ago(days)


@pytest.fixture
def served(service: Service, good: str) -> Iterator[Service]:
    """The service with a model that serves and whose images are kept."""
    keeping = dataclasses.replace(
        service, settings=dataclasses.replace(service.settings, monitor=dataclasses.replace(service.settings.monitor, images=True))
    )
    opened = release.open_service(keeping.settings, "digits")
    release.deploy(opened, good, "for the test", force=True)
    yield opened


def test_rowmills_own_requests_are_left_out_and_anybody_elses_are_in(served: Service, good: str, weak: str) -> None:
    validation.run(served, weak)
    release.deploy(served, weak, "for the test", force=True)
    assert not log.read(served, now() - DAY).total
    own = log.read(served, now() - DAY, checks=True)
    assert own.total > 10 and own.counts["model_id"].nunique() == 2, "Probes of both, and the verdict's questions."
    with served.target.open() as endpoint:
        endpoint.predict(np.zeros((3, 8, 8, 1), np.uint8))
    assert log.read(served, now() - DAY).total == 1, "A client in Python uses the model."


def test_the_lines_numbers_are_the_references(served: Service, good: str) -> None:
    model = served.registry.model(good)
    holdout = dataset.load_holdout(served.registry.warehouse, dataset.find(served.registry.warehouse, "digits"))
    with httpx.Client(base_url=str(served.target.address), trust_env=False) as client:
        for number, image in enumerate(holdout.images[:30]):
            client.post("/", json={"instances": [image.tolist()]}, headers={"X-Request-Id": f"h{number}"}).raise_for_status()
    seen = watch.look(served, now() - DAY)
    validation.refer(served, model)
    known = reference.kept(served, model)
    assert known is not None
    rows = watch.traffic.answers(seen.asked.rows).set_index("request_id").loc[[f"h{number}" for number in range(30)]]
    assert list(rows["label"]) == [model.labels[place] for place in known["label"][:30]]
    for name in ("confidence", "mean", "deviation"):
        assert np.allclose(rows[name], known[name][:30], atol=1.1e-3 if name != "confidence" else 1e-5), name
    assert log.images(served, "h7", rows.loc["h7", "answered_at"].to_pydatetime()) == [holdout.images[7].tobytes()]


def test_a_verdict_leaves_the_reference_behind(served: Service, weak: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = served.registry.model(weak)
    assert reference.kept(served, model) is None
    validation.run(served, weak)
    known = reference.kept(served, model)
    assert known is not None
    for path in (served.settings.state / "references").iterdir():
        path.unlink()
    validation.refer(served, model)
    again = reference.kept(served, model)
    assert again is not None and again.equals(known)
    (served.settings.state / "references").rename(served.settings.state / "moved")
    (served.settings.state / "references").write_text("a file in the folder's place, as good as a full disk")
    with pytest.raises(IntegrityError, match="to its holdout cannot be kept"):
        watch._reference(served, model)  # pylint: disable=protected-access
