"""Bundles that do not answer as Keras did at export are refused by the name of the cause."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rowmill.data import dataset
from rowmill.data.dataset import Dataset
from rowmill.errors import IntegrityError
from rowmill.judging import asking, parity, validation
from rowmill.judging.parity import Limits
from rowmill.records import Candidate, ModelRecord, Trial
from rowmill.registry import CARD_FILE, MODEL_FILE, file_hash
from rowmill.serving import bundle as bundles
from rowmill.serving import release
from rowmill.serving.endpoint import Endpoint
from rowmill.serving.release import Service

from tests.conftest import ROOT, connected, digits_in, project_in

NAMES = ("parity00-t001", "parity00-t002")


def exported(network: Any, path: Path) -> None:
    """Export a Keras network as LiteRT."""
    network.export(str(path), format="litert", verbose=False)


def wrapped(network: Any, before: Callable[[Any], Any], after: Callable[[Any], Any] = lambda answers: answers) -> Any:
    """Return a network that changes what another one gets, or what it answers."""
    import keras

    images = keras.Input((8, 8, 1), dtype="uint8")
    return keras.Model(images, after(network(before(images))))


@pytest.fixture(scope="module", name="stock")
def fixture_stock(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A project with two models whose scaling to 0..1 is a layer; the first one's network, and that network without scaling."""
    import keras
    from rowmill.training import artefact

    project = project_in(tmp_path_factory.mktemp("parity") / "state")
    models = connected(project)
    data, inner = digits_in(models), None
    for seed, name in enumerate(NAMES):
        keras.utils.set_random_seed(seed)
        layers = [keras.layers.Flatten(), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10, activation="softmax")]
        bare = keras.Sequential([keras.Input((8, 8, 1)), *layers])
        network = wrapped(bare, lambda images: keras.ops.cast(images, "float32") / 255)
        network.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
        network.fit(data.train.images, data.train.targets, epochs=15, batch_size=64, verbose=0)
        trial = Trial(name, "digits", data.version.version, "completed", {}, 0.5, accuracy=0.5)
        artefact.export(Candidate(trial, network), data, models)
        inner = inner or (network, bare)
    return project.state, *inner


@pytest.fixture(name="place")
def fixture_place(stock: tuple[Path, Any, Any], tmp_path: Path) -> Service:
    """The service of a copy of that project."""
    shutil.copytree(stock[0], tmp_path / "state")
    return release.open_service(project_in(tmp_path / "state"), "digits")


def plant(place: Service, file: Path) -> ModelRecord:
    """Put another file in the place of the first model's, so that all hashes are right and only its answers can tell."""
    model = place.registry.model(NAMES[0])
    folder = place.registry.artefacts / model.model_id
    shutil.copyfile(file, folder / MODEL_FILE)
    card = json.loads((folder / CARD_FILE).read_text()) | {"sha256": file_hash(file)}
    (folder / CARD_FILE).write_text(json.dumps(card))
    planted = dataclasses.replace(model, sha256=file_hash(file), card_sha256=file_hash(folder / CARD_FILE), size=file.stat().st_size)
    place.registry.add(planted)
    return planted


def quantised(network: Any, path: Path) -> None:
    """Export a network with its weights rounded to int8."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    path.write_bytes(converter.convert())


def bad(kind: str, stock: tuple[Path, Any, Any], path: Path) -> None:
    """Export a bad file of this kind."""
    import keras

    _, network, bare = stock
    order = [1, 0, 2, 3, 4, 5, 6, 7, 9, 8]
    makers: dict[str, Callable[[], Any]] = {
        "scaled": lambda: wrapped(bare, lambda images: keras.ops.cast(images, "float32")),
        "scaled twice": lambda: wrapped(bare, lambda images: keras.ops.cast(images, "float32") / 255 / 255),
        "transposed": lambda: wrapped(network, lambda images: keras.ops.transpose(images, (0, 2, 1, 3))),
        "inverted": lambda: wrapped(bare, lambda images: (255 - keras.ops.cast(images, "float32")) / 255),
        "order": lambda: wrapped(network, lambda images: images, lambda answers: keras.ops.take(answers, order, axis=1)),
    }
    if kind == "quantised":
        quantised(network, path)
    else:
        exported(makers[kind](), path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("scaled", "its input is scaled otherwise: it gets pixels from 0 to 255 and wants them from 0 to 1;"),
        ("scaled twice", "its input is scaled twice: it takes pixels of 255 for 1;"),
        ("transposed", "it transposes each image;"),
        ("inverted", r"it inverts each image \(255 becomes 0\);"),
        ("order", "its labels are in another order: '1' stands where '0' should, '0' stands where '1' should"),
        ("quantised", r"its file is quantised \(int8\), which changes more than is allowed;"),
    ],
)
def test_a_bad_bundle_is_refused_by_name(place: Service, stock: tuple[Path, Any, Any], tmp_path: Path, kind: str, words: str) -> None:
    bad(kind, stock, tmp_path / "bad.tflite")
    plant(place, tmp_path / "bad.tflite")
    with pytest.raises(IntegrityError, match=f"must answer the validation rows as Keras did at export, but {words}"):
        validation.run(place, NAMES[0])
    assert not place.registry.verdicts("digits") and not place.registry.holdout_uses("digits")


def test_another_models_file_is_named(place: Service, stock: tuple[Path, Any, Any], tmp_path: Path) -> None:
    plant(place, place.registry.artefacts / NAMES[1] / MODEL_FILE)
    with pytest.raises(IntegrityError, match=f"but it holds the file of another model, {NAMES[1]};"):
        validation.run(place, NAMES[0])
    import keras

    # The same weights in a file of other bytes: only the answers tell.
    first = place.registry.model(NAMES[1])
    exported(wrapped(stock[1], lambda images: keras.ops.clip(images, 0, 255)), tmp_path / "same.tflite")
    folder = place.registry.artefacts / NAMES[1]
    wanted = parity.kept(place.registry.artefacts / NAMES[0])
    suspect = parity.Suspect(first.labels, folder, {NAMES[0]: place.registry.artefacts / NAMES[0]}, 1e-4)
    (place.registry.artefacts / NAMES[0] / MODEL_FILE).write_bytes(b"lost")
    rows = dataset.load(place.registry.warehouse, dataset.find(place.registry.warehouse)).validation
    why = parity.cause(lambda images: wanted.validation[: len(images)], rows, wanted.validation[::-1], suspect)
    assert why == f"it answers as another model does, {NAMES[0]}"


def test_a_handler_that_changes_the_images_is_refused(place: Service, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "cloud_function", tmp_path / "root" / "cloud_function")
    path = tmp_path / "root" / "cloud_function" / "main.py"
    source = path.read_text()
    changed = source.replace("self._answers(images", "self._answers(np.ascontiguousarray(images[:, :, ::-1])")
    assert changed != source
    path.write_text(changed)
    elsewhere = dataclasses.replace(place, settings=dataclasses.replace(place.settings, root=tmp_path / "root"))
    with pytest.raises(IntegrityError, match="but it mirrors each image left to right;"):
        validation.run(elsewhere, NAMES[0])


def test_labels_in_another_order_in_the_contract_are_refused(place: Service) -> None:
    model = place.registry.model(NAMES[0])
    folder = place.registry.artefacts / NAMES[0]
    card = json.loads((folder / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps(card | {"labels": card["labels"][::-1]}))
    place.registry.add(dataclasses.replace(model, card_sha256=file_hash(folder / CARD_FILE)))
    with pytest.raises(IntegrityError, match="its labels are in another order; found '9' instead of '0', '8' instead of '1'"):
        validation.run(place, NAMES[0])


def test_answers_that_were_changed_are_refused(place: Service) -> None:
    path = place.registry.artefacts / NAMES[0] / "answers.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"answers.npz is not the file that was registered"):
        validation.run(place, NAMES[0])


def test_a_model_without_kept_answers_is_held_to_its_golden_rows(place: Service, stock: tuple[Path, Any, Any], tmp_path: Path) -> None:
    folder = place.registry.artefacts / NAMES[0]
    bad("transposed", stock, tmp_path / "bad.tflite")
    card = json.loads((folder / CARD_FILE).read_text())
    del card["answers"]
    (folder / CARD_FILE).write_text(json.dumps(card))
    model = place.registry.model(NAMES[0])
    place.registry.add(dataclasses.replace(model, card_sha256=file_hash(folder / CARD_FILE)))
    assert validation.run(place, NAMES[0]).rule == "first model"
    plant(place, tmp_path / "bad.tflite")
    with pytest.raises(IntegrityError, match="must answer the golden rows as Keras did at export, but it transposes each image;"):
        validation.run(place, NAMES[0])


def test_a_quantised_file_is_held_to_its_own_limits(place: Service, stock: tuple[Path, Any, Any], tmp_path: Path) -> None:
    bad("quantised", stock, tmp_path / "bad.tflite")
    plant(place, tmp_path / "bad.tflite")
    folder = place.registry.artefacts / NAMES[0]
    card = json.loads((folder / CARD_FILE).read_text()) | {"parity": {"precision": "int8"}}
    card["golden"]["tolerance"] = 0.05
    (folder / CARD_FILE).write_text(json.dumps(card))
    place.registry.add(dataclasses.replace(place.registry.model(NAMES[0]), card_sha256=file_hash(folder / CARD_FILE)))
    assert parity.limits(folder, 0.5, rounded=True) == Limits(0.15, 0.5) and parity.limits(folder, 0.5) == Limits(0.05, 0.5)
    assert validation.run(place, NAMES[0]).rule == "first model"  # it flips 1 label of 361, of which 0.5 % may
    strict = dataclasses.replace(place.settings, gate=dataclasses.replace(place.settings.gate, flips=0.002))
    with pytest.raises(IntegrityError, match=r"but its file is quantised \(int8\), .* and 1 flipped labels of 361 \(at most 0\)"):
        validation.run(dataclasses.replace(place, settings=strict), NAMES[0])


@pytest.mark.parametrize(
    ("largest", "flips", "within"), [(1e-4, 0, True), (1.1e-4, 0, False), (1e-4, 2, True), (1e-4, 3, False), (np.nan, 0, False)]
)
def test_both_limits_count(largest: float, flips: int, within: bool) -> None:
    expected = np.tile([0.5, 0.49995], (1000, 1))
    answers = expected.copy()
    answers[5, 1] -= largest
    answers[:flips] = [0.49995, 0.5]
    assert (parity.difference(answers, expected, Limits(1.00001e-4, 0.002)) == "") == within
    assert "answers of shape (1000, 1) instead of (1000, 2)" in parity.difference(answers[:, :1], expected, Limits(1.0, 1.0))


def test_what_serves_must_answer_as_its_registered_files(place: Service, stock: tuple[Path, Any, Any], tmp_path: Path) -> None:
    holdout = dataset.load_holdout(place.registry.warehouse, dataset.find(place.registry.warehouse))
    bad("transposed", stock, tmp_path / "bad.tflite")
    true = {path.name: path.read_bytes() for path in (place.registry.artefacts / NAMES[0]).iterdir()}
    planted = plant(place, tmp_path / "bad.tflite")
    bundle = bundles.build(place.settings, place.registry, planted)

    class Wrong:  # pylint: disable=too-few-public-methods
        """A target at whose address the bad bundle answers."""

        address = "http://wrong"

        def open(self) -> Endpoint:
            """Ask it in this process."""
            return bundles.open_in_process(bundle)

    for name, content in true.items():
        (place.registry.artefacts / NAMES[0] / name).write_bytes(content)
    folder = place.registry.artefacts / NAMES[0]
    place.registry.add(dataclasses.replace(planted, sha256=file_hash(folder / MODEL_FILE), card_sha256=file_hash(folder / CARD_FILE)))
    with pytest.raises(IntegrityError, match="must answer the holdout as the registered files of .* do: it transposes each image;"):
        asking.incumbent(dataclasses.replace(place, target=Wrong()), NAMES[0], holdout)


def test_keras_answers_are_kept_for_the_validation_rows(place: Service, stock: tuple[Path, Any, Any]) -> None:
    data: Dataset = dataset.load(place.registry.warehouse, dataset.find(place.registry.warehouse))
    kept = parity.kept(place.registry.artefacts / NAMES[0])
    assert kept.keys == data.validation.keys
    assert np.allclose(kept.validation, stock[1].predict(data.validation.images, verbose=0), atol=1e-6)
    assert np.allclose(kept.bright, stock[1].predict(kept.silhouettes * np.uint8(255), verbose=0), atol=1e-6)
    assert np.allclose(kept.dim, stock[1].predict(kept.silhouettes, verbose=0), atol=1e-6)
    rows = parity.aligned(kept, data.validation.keys[::-1])
    assert np.array_equal(rows, kept.validation[::-1]) and parity.aligned(kept, ["nobody"]) is None
