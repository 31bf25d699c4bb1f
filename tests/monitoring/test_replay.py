"""Recorded requests, asked again: the differences are the models' own, and the test is the gate's."""

import base64
import json

import numpy as np
import pandas as pd
import pytest
from rowmill.data import sources
from rowmill.errors import NotFoundError
from rowmill.monitoring import replay, truth
from rowmill.monitoring.truth import DIFFER, UNSURE, Said
from rowmill.records import now
from rowmill.serving import bundle as bundles
from rowmill.serving.release import Service

ROWS = slice(0, 600)


@pytest.fixture(name="answered")
def fixture_answered(service: Service, good: str) -> pd.DataFrame:
    """600 digits that the good model was asked, three in each request; five more without their images."""
    images = sources.load("").images[ROWS]
    with bundles.open_in_process(bundles.build(service.settings, service.registry, service.registry.model(good))) as endpoint:
        said = endpoint.predict(images)[0]
    labels = np.array(service.registry.model(good).labels)[said.argmax(axis=1)]
    asked = [range(start, start + 3) for start in range(0, 600, 3)]
    frame = pd.DataFrame(
        {
            "request_id": [f"r{rows[0]}" for rows in asked],
            "answered_at": now(),
            "model_id": good,
            "labels": [json.dumps(labels[rows].tolist()) for rows in asked],
            "confidences": [json.dumps(said[rows].max(axis=1).round(6).tolist()) for rows in asked],
            "images": [json.dumps([base64.b64encode(images[row].tobytes()).decode() for row in rows]) for rows in asked],
        }
    )
    without = frame.head(5).assign(request_id=[f"w{row}" for row in range(5)], labels='["1"]', confidences="[0.5]", images="[]")
    return truth.answers(pd.concat([frame, without], ignore_index=True))


def row_of(rows: pd.DataFrame) -> np.ndarray:
    """Return which digits these are."""
    return np.array([int(name[1:]) + place for name, place in zip(rows["request_id"], rows["place"], strict=True)])


def test_the_model_that_answered_answers_the_same_again(service: Service, good: str, answered: pd.DataFrame) -> None:
    found = replay.run(service, answered, good)
    assert len(found.rows) == 600 and found.left_out == 5 and found.differing.empty
    assert np.abs(found.rows["confidence"] - found.rows["then_confidence"]).max() < 1e-6
    assert str(found) == f"{good} answers 0 of 600 recorded instances (0.0%) otherwise than was answered; 5 more have no image on record."
    assert str(found) in found._repr_html_()


def test_another_models_differences_are_its_own(service: Service, good: str, weak: str, answered: pd.DataFrame) -> None:
    found = replay.run(service, answered, weak)
    with bundles.open_in_process(bundles.build(service.settings, service.registry, service.registry.model(weak))) as endpoint:
        said = endpoint.predict(sources.load("").images[ROWS])[0]
    labels = np.array(service.registry.model(weak).labels)[said.argmax(axis=1)]
    assert (labels[row_of(found.rows)] == found.rows["answered"]).all() and 20 < len(found.differing) < 400
    assert found.differing["confidence"].is_monotonic_decreasing and good in found._repr_html_()
    nasty = replay.Replay(weak, found.rows.assign(request_id="<img src=x>"))._repr_html_()
    assert "<img" not in nasty and "&lt;img src=x&gt;" in nasty, "An id comes from whoever asks."


def test_the_disagreements_alone_decide(service: Service, good: str, weak: str, answered: pd.DataFrame) -> None:
    store, truths = service.registry.warehouse, np.array(sources.load("").labels)
    both = replay.pair(replay.run(service, answered, good), replay.run(service, answered, weak))
    known = service.registry.model(good).labels

    def judged() -> replay.Outcome:
        return replay.judge(service, both, truth.match(answered, truth.latest(store, "digits"), known))

    assert judged().outcome == "cannot tell" and "None of the" in judged().sentence
    queued = truth.queue(service, both.differing, DIFFER, 10_000)
    assert len(queued) == len(both.differing)
    said = [
        Said(row.request_id, row.place, truths[number], row.chosen, "x")
        for number, row in zip(row_of(queued), queued.itertuples(), strict=True)
    ]
    truth.append(store, "digits", said[:4])
    assert judged().outcome == "cannot tell" and "at least 6 that one alone has right are needed" in judged().sentence
    truth.append(store, "digits", [Said(one.request_id, one.place, one.label, UNSURE, "x") for one in said[4:40]])
    assert "4 are labelled" in judged().sentence, "What was chosen for being hard does not stand for the others."
    truth.append(store, "digits", said[4:])
    found = judged()
    assert found.outcome == "better" and found.comparison is not None and found.comparison.rows == 600
    ours, theirs = ((both.rows[side] == truths[row_of(both.rows)]).to_numpy() for side in ("ours", "theirs"))
    # As if all rows were labelled.
    assert found.comparison.gained == (ours & ~theirs).sum() and found.comparison.lost == (theirs & ~ours).sum()
    assert found.comparison.difference == pytest.approx(ours.mean() - theirs.mean())
    swapped = replay.judge(
        service,
        replay.pair(replay.run(service, answered, weak), replay.run(service, answered, good)),
        truth.match(answered, truth.latest(store, "digits"), known),
    )
    assert swapped.outcome == "worse" and f"{weak} is worse than {good} on these requests: -" in swapped.sentence
    alike = replay.pair(replay.run(service, answered, good), replay.run(service, answered, good))
    assert (
        "answer all 600 instances alike"
        in replay.judge(service, alike, truth.match(answered, truth.latest(store, "digits"), known)).sentence
    )


def test_without_images_nothing_is_replayed(service: Service, good: str, answered: pd.DataFrame) -> None:
    with pytest.raises(NotFoundError, match=r"has an image of 64 bytes on record.*set images = true under \[monitor\]"):
        replay.run(service, answered.assign(image=None), good)
