"""What is registered answers as Keras does, or it is not registered."""

import json

import keras
import numpy as np
import pytest
from rowmill.data.dataset import Dataset
from rowmill.errors import IntegrityError, NotFoundError
from rowmill.records import Candidate, ModelRecord
from rowmill.registry import Registry, connected
from rowmill.settings import Settings
from rowmill.training import artefact, search

from tests.conftest import digits_in, project_in


@pytest.fixture
def models(project: Settings) -> Registry:
    """An empty registry."""
    return connected(project)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The registry of the search, another one than where the tests export to."""
    return connected(project_in(tmp_path_factory.mktemp("elsewhere")))


@pytest.fixture(scope="module")
def data(elsewhere: Registry) -> Dataset:
    """The digits."""
    return digits_in(elsewhere)


@pytest.fixture(scope="module")
def candidate(elsewhere: Registry, data: Dataset) -> Candidate:
    """A convolutional network after one epoch."""
    models = elsewhere
    return search.run(data, models, search.Plan("cnn", {}, search.Goal(1.0, trials=1, minutes=5, epochs=1), seed=2))


def test_a_model_is_registered_with_its_contract(models: Registry, data: Dataset, candidate: Candidate) -> None:
    model = artefact.export(candidate, data, models)
    folder = models.artefact(model)
    card = json.loads((folder / "model.json").read_text())
    assert models.model(model.model_id) == model and model.size == (folder / "model.tflite").stat().st_size
    assert card["model"] == model.model_id and card["sha256"] == model.sha256 and card["contract"] == 1
    assert card["input"] == {"shape": [8, 8, 1], "dtype": "uint8", "minimum": 0, "maximum": 255}
    assert card["labels"] == [str(digit) for digit in range(10)]


def test_golden_answers_are_kerass_own(models: Registry, data: Dataset, candidate: Candidate) -> None:
    folder = models.artefact(artefact.export(candidate, data, models))
    golden = json.loads((folder / "model.json").read_text())["golden"]
    images = np.array(golden["instances"], np.uint8)
    assert len(images) == 10 and np.allclose(candidate.network.predict(images, verbose=0), golden["predictions"], atol=1e-5)


def test_scaling_is_inside_the_model(data: Dataset, candidate: Candidate) -> None:
    assert candidate.network.input.dtype == "uint8"
    scaling = next(layer for layer in candidate.network.layers if isinstance(layer, keras.layers.Normalization))
    scaled = scaling(data.train.images.astype(np.float32))
    assert float(keras.ops.std(scaled)) == pytest.approx(1, abs=0.01)


def test_a_file_that_answers_otherwise_is_refused(models: Registry, data: Dataset, candidate: Candidate) -> None:
    path = models.artefact(artefact.export(candidate, data, models)) / "model.tflite"
    expected = candidate.network.predict(data.validation.images, verbose=0)
    artefact.check_parity(path, data.validation.images, expected)
    nudged = expected.copy()
    nudged[7, 3] += 2e-4
    flipped = np.roll(expected, 1, axis=1)
    with pytest.raises(IntegrityError, match="found a difference of 0.0002 and 0 flips in 361 examples"):
        artefact.check_parity(path, data.validation.images, nudged)
    with pytest.raises(IntegrityError, match="flips in 361 examples"):
        artefact.check_parity(path, data.validation.images, flipped)
    with pytest.raises(IntegrityError, match="found a difference of nan"):
        artefact.check_parity(path, data.validation.images, np.full_like(expected, np.nan))


def test_nothing_is_left_when_parity_fails(models: Registry, data: Dataset, candidate: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefact, "TOLERANCE", -1.0)
    with pytest.raises(IntegrityError, match="must answer as Keras does"):
        artefact.export(candidate, data, models)
    assert not models.models("digits") and not list(models.artefacts.iterdir())


def test_an_artefact_is_never_overwritten(models: Registry, data: Dataset, candidate: Candidate) -> None:
    model = artefact.export(candidate, data, models)
    with pytest.raises(IntegrityError, match="never overwritten"):
        artefact.export(candidate, data, models)
    assert models.artefact(model) and len(models.models("digits")) == 1


def test_a_damaged_artefact_is_refused(models: Registry, data: Dataset, candidate: Candidate) -> None:
    model: ModelRecord = artefact.export(candidate, data, models)
    path = models.artefacts / model.model_id / "model.tflite"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match=f"model.tflite of model {model.model_id} must have SHA-256 {model.sha256[:12]}"):
        models.artefact(model)


def test_an_unknown_model_names_its_neighbours(models: Registry, data: Dataset, candidate: Candidate) -> None:
    model = artefact.export(candidate, data, models)
    with pytest.raises(NotFoundError, match=f"There is no model 'zzzzzzzz-t001' of service 'digits'; found {model.model_id}"):
        models.model("zzzzzzzz-t001", "digits")
