"""What is registered answers as Keras does, or it is not registered."""

import dataclasses
import json

import keras
import numpy as np
import onnxruntime
import pytest
from rowmill.data.dataset import Dataset
from rowmill.errors import IntegrityError, NotFoundError, ParameterError
from rowmill.records import Candidate, ModelRecord
from rowmill.registry import Registry, connected, file_hash
from rowmill.settings import Settings
from rowmill.training import artefact, exports, search
from rowmill.training.exports import Form

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
    assert card["input"] == {"shape": [8, 8, 1], "dtype": "uint8", "minimum": 0, "maximum": 255, "resize": False}
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
    monkeypatch.setitem(exports.LIMITS, "float32", exports.Limit(-1.0, 0.0))
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


@pytest.fixture(scope="module")
def stronger(elsewhere: Registry, data: Dataset) -> Candidate:
    """A small network that has learnt something: of one that is unsure, rounding flips labels."""
    return search.run(data, elsewhere, search.Plan("mlp", {}, search.Goal(1.0, trials=1, minutes=5, epochs=15), seed=3))


@pytest.mark.parametrize(("precision", "share"), [("float16", 0.6), ("int8", 0.4)])
def test_a_smaller_precision_makes_a_smaller_file_and_tells_how_far_it_is_off(
    models: Registry, data: Dataset, stronger: Candidate, precision: str, share: float
) -> None:
    model = artefact.export(stronger, data, models, Form(precision))
    card = json.loads((models.artefact(model) / "model.json").read_text())
    stronger.network.export(str(models.state / "whole.tflite"), format="litert", verbose=False)
    assert model.size < share * (models.state / "whole.tflite").stat().st_size
    assert card["parity"]["precision"] == precision and card["parity"]["rows"] == 361
    assert 1e-6 < card["parity"]["largest"] < exports.LIMITS[precision].difference
    answers = exports.answers(exports.runtime(models.artefact(model) / "model.tflite"), data.validation.images)
    found = [
        key
        for key, ours, keras_own in zip(data.validation.keys, answers, predictions(stronger, data), strict=True)
        if ours.argmax() != keras_own.argmax()
    ]
    assert card["parity"]["flips"] == found and len(found) <= 1
    golden = card["golden"]
    images = np.array(golden["instances"], np.uint8)
    assert np.allclose(exports.answers(exports.runtime(models.artefact(model) / "model.tflite"), images), golden["predictions"], atol=1e-6)


def predictions(candidate: Candidate, data: Dataset) -> np.ndarray:
    """Return Keras's own answers on the validation split."""
    return candidate.network.predict(data.validation.images, verbose=0)


def test_keras_and_onnx_files_are_written_and_answer_alone(models: Registry, data: Dataset, stronger: Candidate) -> None:
    model = artefact.export(stronger, data, models, Form(also=("keras", "onnx"), resize=True))
    folder = models.artefact(model)
    card = json.loads((folder / "model.json").read_text())
    assert card["input"]["resize"] and card["limits"] == {"instances": 1024, "bytes": 8 * 2**20, "pixels": 16 * 2**20}
    for name in ("keras", "onnx"):
        assert card["also"][name]["sha256"] == file_hash(folder / f"model.{name}") and card["also"][name]["largest"] <= 1e-4
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: data.validation.images})
    assert np.allclose(found, predictions(stronger, data), atol=1e-4)
    loaded = keras.saving.load_model(folder / "model.keras", safe_mode=True)
    assert np.allclose(loaded.predict(data.validation.images, verbose=0), predictions(stronger, data), atol=1e-4)


def test_a_network_with_code_inside_is_no_keras_file(models: Registry, data: Dataset, candidate: Candidate) -> None:
    inside = keras.Sequential(
        [
            keras.Input((8, 8, 1), dtype="uint8"),
            keras.layers.Flatten(),
            keras.layers.Lambda(lambda x: x),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    with pytest.raises(IntegrityError, match="cannot be read from a .keras file in safe mode"):
        artefact.export(dataclasses.replace(candidate, network=inside), data, models, Form(also=("keras",)))
    assert not models.models("digits") and not list(models.artefacts.iterdir())


def test_too_many_flips_are_refused() -> None:
    exports.check("int8", exports.Parity(1000, 0.1, tuple(range(5))), exports.LIMITS["int8"])
    with pytest.raises(IntegrityError, match="int8 file .* within 0.15 and with at most 5 flipped labels; found .* 6 flips in 1000"):
        exports.check("int8", exports.Parity(1000, 0.1, tuple(range(6))), exports.LIMITS["int8"])


@pytest.mark.parametrize(
    ("values", "words"), [({"precision": "int4"}, "precision 'int4'; use one of float32"), ({"also": ("pickle",)}, "exported as 'pickle'")]
)
def test_an_unknown_form_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        Form(**values)
