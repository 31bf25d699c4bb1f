"""Labels that arrive later: none is lost, what cannot be used is told, and what they show is the truth."""

import base64
import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from rowmill.data import dataset, sources, versions, warehouse
from rowmill.data.warehouse import Warehouse
from rowmill.errors import NotFoundError, SourceError
from rowmill.monitoring import replay, truth
from rowmill.monitoring.truth import CHANCE, DIFFER, GIVEN, UNSURE, Said
from rowmill.records import now
from rowmill.sections import Monitor
from rowmill.serving import lines, predictions, release
from rowmill.serving.local import LocalTarget
from rowmill.serving.release import Service
from rowmill.settings import Settings
from rowmill.tables import EXAMPLES, TRUTHS

DIGITS = [str(digit) for digit in range(10)]


def requests(*rows: tuple[str, str, list[str]], images: bool = True, confidence: float = 0.9) -> pd.DataFrame:
    """Return recorded requests, each an id, a model and the labels that were answered; an image is two bytes."""
    kept = base64.b64encode(b"ab").decode()
    return pd.DataFrame(
        {
            "request_id": [row[0] for row in rows],
            "answered_at": now(),
            "model_id": [row[1] for row in rows],
            "labels": [json.dumps(row[2]) for row in rows],
            "confidences": [json.dumps([confidence] * len(row[2])) for row in rows],
            "images": [json.dumps([kept] * len(row[2]) if images else []) for row in rows],
        }
    )


@pytest.fixture(name="store", params=["sqlite", "bigquery"])
def fixture_store(request: pytest.FixtureRequest, project: Settings) -> Warehouse:
    """A warehouse of each kind."""
    return warehouse.connect(request.getfixturevalue("on_bigquery") if request.param == "bigquery" else project)


def matched(store: Warehouse, *rows: tuple[str, str, list[str]]) -> truth.Truth:
    """Return what the labels on record show of these requests."""
    return truth.match(truth.answers(requests(*rows)), truth.latest(store, "digits"), DIGITS)


def test_labels_give_each_models_accuracy_with_its_interval(store: Warehouse) -> None:
    given = pd.DataFrame({"request_id": ["a", "b", "b", "c"], "place": ["0", "0", "1", "0"], "label": ["7", "1", "2", "3"]})
    assert truth.add(store, "digits", given) == "4 labels are new; 0 were on record already."
    assert truth.add(store, "digits", given) == "0 labels are new; 4 were on record already."
    found = matched(store, ("a", "m1", ["7"]), ("b", "m1", ["1", "9"]), ("c", "m2", ["3"]), ("d", "m2", ["4"]), ("a", "m1", ["7"]))
    assert found.notes == () and len(store.read(TRUTHS)) == 4
    table = found.accuracy.set_index("model_id")
    assert list(table["labelled"]) == [3, 1] and list(table["right"]) == [2, 1] and list(table["chosen"]) == [GIVEN, GIVEN]
    # Clopper and Pearson's intervals of 2 of 3 and of 1 of 1, by R's binom.test.
    assert table.loc["m1", ["low", "high"]].tolist() == pytest.approx([0.09429932, 0.99159624])
    assert table.loc["m2", ["low", "high"]].tolist() == pytest.approx([0.025, 1.0])
    assert "66.7%" in found._repr_html_()


def test_what_cannot_be_used_is_told_and_stays(store: Warehouse) -> None:
    first = {"request_id": ["a", "a", "gone", "b", "c", "c"], "label": ["7", "8", "1", "seven", "3", "3"]}
    truth.add(store, "digits", pd.DataFrame(first))
    rows = ("a", "m1", ["7"]), ("b", "m1", ["7"]), ("c", "m1", ["3"])
    found = matched(store, *rows)
    assert list(found.rows["request_id"]) == ["c"]
    assert found.notes == (
        "1 labels are of requests that are not on record, not yet or no more: first 'gone'.",
        "2 labels contradict each other, and count for nothing until one is taken back: first 'a'.",
        "1 labels are none that the models know, and count for nothing: first 'seven'.",
    )
    who = store.read(TRUTHS)["labelled_by"].iloc[0]
    truth.append(store, "digits", [Said("a", 0, "7", GIVEN, who), Said("b", 0, "", GIVEN, who)])
    later = matched(store, *rows, ("gone", "m1", ["1"]))
    assert list(later.rows["request_id"]) == ["a", "c", "gone"] and later.notes == (), "The latest of one person counts."
    truth.append(store, "digits", [Said("a", 0, "8", GIVEN, "somebody else")])
    assert "2 labels contradict each other" in matched(store, *rows).notes[1]
    truth.append(store, "digits", [Said("a", 0, "", GIVEN, "somebody else")])
    assert list(matched(store, *rows).rows["request_id"]) == ["a", "c"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        pytest.param({"id": ["a"]}, "Labels need a column 'request_id'; found id;", id="no-id"),
        pytest.param({"request_id": ["a"]}, "Labels need a column 'label'; found request_id;", id="no-label"),
        pytest.param(
            {"request_id": ["a", "b"], "label": ["1", None]}, r"needs a text as its label; found 1 rows .* the first row 2", id="null"
        ),
        pytest.param({"request_id": ["a"], "label": ["1"], "place": ["-1"]}, "A place is a whole number from 0", id="place"),
        pytest.param({"request_id": ["a"], "label": ["1"], "place": ["x"]}, "A place is a whole number from 0", id="no-number"),
        pytest.param({"request_id": ["a"], "label": ["1"], "labelled_at": ["soon"]}, "A labelled_at is a moment", id="moment"),
        pytest.param({"request_id": ["a"], "label": ["1"], "chosen": ["well"]}, "A chosen is one of 'given'", id="chosen"),
    ],
)
def test_a_table_that_is_none_is_refused_whole(project: Settings, columns: dict[str, list[Any]], words: str) -> None:
    store = warehouse.connect(project)
    with pytest.raises(SourceError, match=words):
        truth.add(store, "digits", pd.DataFrame(columns))
    assert store.read(TRUTHS).empty


def test_labels_come_from_a_csv_file(tmp_path: Path, project: Settings) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("request_id,label,labelled_at\n007,1,2026-11-21T18:00:00+02:00\n")
    store = warehouse.connect(project)
    truth.add(store, "digits", truth.read(str(file)))
    row = truth.latest(store, "digits").iloc[0]
    assert row["request_id"] == "007" and row["labelled_at"] == datetime.datetime(2026, 11, 21, 16, tzinfo=datetime.UTC)
    for content in (b"", b'a,b\n"'):
        file.write_bytes(content)
        with pytest.raises(SourceError, match=r"labels\.csv cannot be read"):
            truth.read(str(file))
    with pytest.raises(SourceError, match="No such file"):
        truth.read(str(tmp_path / "none.csv"))


def test_labels_leave_with_their_request(project: Settings) -> None:
    store, folder = warehouse.connect(project), lines.folder(project.state, "digits")
    folder.mkdir(parents=True)
    told = {"kind": "prediction", "service": "digits", "model": "m1", "answered_at": now().isoformat(), "request_id": "a", "code": 200}
    told |= {"latency_ms": 1.0, "instances": 1, "labels": ["7"], "confidences": [0.9], "means": [1.0], "deviations": [1.0]}
    (folder / "00000001-aaaaaaaaaaaa.jsonl").write_text(json.dumps(told) + "\n")
    truth.add(store, "digits", pd.DataFrame({"request_id": ["a", "b"], "label": ["7", "7"]}))
    assert predictions.forget(project, store, "digits", "a") == 1
    assert list(store.read(TRUTHS)["request_id"]) == ["b"]


def test_the_queue_has_what_nobody_labelled(project: Settings) -> None:
    store = warehouse.connect(project)
    rows = [requests((f"r{number}", "m1", ["7"]), confidence=number / 10) for number in range(1, 10)]
    answered = truth.answers(pd.concat(rows, ignore_index=True))
    truth.add(store, "digits", pd.DataFrame({"request_id": ["r1"], "label": ["7"]}))
    place = release.open_service(project, "digits")
    unsure = truth.queue(place, answered, UNSURE, 3)
    assert list(unsure["request_id"]) == ["r2", "r3", "r4"] and set(unsure["chosen"]) == {UNSURE}
    by_chance = truth.queue(place, answered, CHANCE, 9, seed=1)
    assert sorted(by_chance["request_id"]) == [f"r{number}" for number in range(2, 10)] != list(by_chance["request_id"])
    blind = truth.answers(requests(("a", "m1", ["7"]), images=False))
    with pytest.raises(NotFoundError, match=r"None of 1 answered instances has its image on record.*set images = true under \[monitor\]"):
        truth.queue(place, blind, UNSURE, 3)


def test_hard_requests_are_not_taken_for_all_of_them(project: Settings) -> None:
    store = warehouse.connect(project)
    truth.append(store, "digits", [Said("a", 0, "7", UNSURE, "x"), Said("b", 0, "7", CHANCE, "x"), Said("c", 0, "7", DIFFER, "x")])
    found = matched(store, ("a", "m1", ["1"]), ("b", "m1", ["7"]), ("c", "m1", ["1"]))
    assert found.accuracy.set_index("chosen")["accuracy"].to_dict() == {UNSURE: 0.0, CHANCE: 1.0, DIFFER: 0.0}
    assert "Requests labelled as least confident or models differ are harder than others" in found._repr_html_()
    assert "No answer" in matched(store)._repr_html_()


def test_what_a_served_model_was_asked_is_labelled_by_request(service: Service, good: str) -> None:
    keeping = dataclasses.replace(service.settings, monitor=Monitor(images=True))
    place = dataclasses.replace(service, settings=keeping, target=LocalTarget(keeping, "digits"))
    release.deploy(place, good, "for the test", force=True)
    digits = sources.load("")
    with httpx.Client(base_url=str(place.target.address), trust_env=False, timeout=60) as client:
        for row in range(0, 40, 2):
            body = {"instances": digits.images[row : row + 2].tolist()}
            client.post("/", json=body, headers={"X-Request-Id": f"ask-{row}"})
    asked = truth.recorded(place)
    mine = asked[asked["request_id"].str.startswith("ask-")]
    rows = [int(name[4:]) + at for name, at in zip(mine["request_id"], mine["place"], strict=True)]
    assert sorted(rows) == list(range(40)) and [*mine["image"]] == [digits.images[row].tobytes() for row in rows]
    given = mine[["request_id", "place"]].assign(label=[digits.labels[row] for row in rows])
    truth.add(place.registry.warehouse, "digits", given)
    found = truth.of(place, asked).accuracy.iloc[0]
    right = sum(answer == digits.labels[row] for answer, row in zip(mine["answered"], rows, strict=True))
    assert found["model_id"] == good and found["labelled"] == 40 and found["right"] == right > 30
    replayed = replay.run(place, asked, good)
    assert replayed.differing.empty and len(replayed.rows) == len(asked)


@pytest.fixture(name="drawn")
def fixture_drawn() -> np.ndarray:
    """Images that are in no version."""
    return np.random.default_rng(3).integers(0, 17, (200, 8, 8, 1), np.uint8)


def known(images: np.ndarray, labels: list[str], chosen: str) -> truth.Truth:
    """Return labelled requests with these images."""
    return truth.Truth(
        pd.DataFrame(
            {
                "request_id": [f"r{row}" for row in range(len(labels))],
                "place": 0,
                "model_id": "m1",
                "answered": "1",
                "truth": labels,
                "chosen": chosen,
                "image": [image.tobytes() for image in images],
            }
        )
    )


def test_labelled_requests_become_a_version(service: Service, drawn: np.ndarray) -> None:
    store = service.registry.warehouse
    before = dataset.find(store, "digits")
    labels = [str(row % 10) for row in range(200)]
    images = np.concatenate([drawn[:-2], sources.load("").images[:1], drawn[:1]])
    made = truth.ingest(service, known(images, labels, CHANCE), "requests of the test")
    added = {split: made.counts[split] - before.counts[split] for split in before.counts}
    assert sum(added.values()) == 198, "What is in the version already, or twice, is left out."
    assert added["holdout"] > 20 and added["validation"] > 20 and made.version != before.version
    assert versions.difference(store, before, made)["change"].tolist() == ["added"] * 198
    trained = dataset.load(store, made).train
    row = next(row for row, key in enumerate(trained.keys) if key.startswith("request/r"))
    number = int(trained.keys[row].split("/")[1][1:])
    assert np.array_equal(trained.images[row], drawn[number]) and made.labels[trained.targets[row]] == labels[number]
    assert truth.ingest(service, known(images, labels, CHANCE), "again") == made
    assert "198 of labelled requests: requests of the test" == made.reason
    counted = store.read(EXAMPLES, {"ingest_id": made.ingest_ids[-1]}, ("example_id",))
    assert len(counted) == 198


def test_hard_requests_are_trained_on_and_never_judge(service: Service, drawn: np.ndarray) -> None:
    before = dataset.find(service.registry.warehouse, "digits")
    made = truth.ingest(service, known(drawn, [str(row % 10) for row in range(200)], UNSURE), "hard ones")
    assert made.counts["holdout"] == before.counts["holdout"] and made.counts["train"] > before.counts["train"] + 120


def test_what_cannot_be_ingested_is_a_sentence(service: Service, drawn: np.ndarray) -> None:
    blind = known(drawn[:2], ["1", "2"], CHANCE)
    with pytest.raises(NotFoundError, match=r"None of 2 labelled instances has an image of 64 bytes .*set images = true under \[monitor\]"):
        truth.ingest(service, truth.Truth(blind.rows.assign(image=None)), "x")
    with pytest.raises(SourceError, match="found label 'cat' in labelled requests"):
        truth.ingest(service, known(drawn[:2], ["1", "cat"], CHANCE), "x")
    assert len(dataset.versions(service.registry.warehouse, "digits")) == 1
