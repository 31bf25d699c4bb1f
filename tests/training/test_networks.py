"""Networks, built-in or a user's own: they fit any small image, every hyperparameter is one, and what cannot be trained is told."""

import hashlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from rowmill.errors import ParameterError
from rowmill.records import Candidate, Trial
from rowmill.registry import connected
from rowmill.settings import Settings
from rowmill.training import artefact, networks, search, space
from rowmill.training.goal import Goal
from rowmill.training.networks import Pixels

from tests.training.conftest import Make

OWN = """
import keras

NOT_A_FUNCTION = 3

def small(values, pixels, classes):
    inputs = keras.Input(pixels.shape, dtype="uint8")
    flat = keras.layers.Flatten()(keras.ops.cast(inputs, "float32") / 255)
    hidden = keras.layers.Dense(values["hidden"], activation="relu")(flat)
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(hidden))
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's file."""
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def layers(model: Any, kind: type) -> list[Any]:
    """Return a model's layers of a kind."""
    return [layer for layer in model.layers if isinstance(layer, kind)]


@pytest.mark.parametrize(
    ("network", "shape"),
    [("cnn", (8, 8, 1)), ("cnn", (28, 28, 1)), ("cnn", (32, 32, 3)), ("cnn", (64, 64, 3)), ("mlp", (64, 64, 3))],
    ids=str,
)
def test_any_small_images_are_trained_and_exported(network: str, shape: tuple[int, int, int], made: Make, project: Settings) -> None:
    data = made(shape, rows=16)
    found = networks.find(network)
    model = found.build({"units": 32}, Pixels.of(data.train.images), 4, steps=1)
    model.fit(data.train.images, data.train.targets, batch_size=16, verbose=0)
    trial = Trial("testtest-t001", "made", data.version.version, "completed", {"network": network}, score=0.5)
    record = artefact.export(Candidate(trial, model), data, connected(project))
    assert record.shape == shape and record.size == pytest.approx(networks.size_mb(model) * 1e6, rel=0.1, abs=8000)


def test_wide_images_do_not_throw_the_mlp_apart() -> None:
    keras.utils.set_random_seed(1)
    draw = np.random.default_rng(1)
    targets = draw.integers(0, 4, 320)
    images = (draw.integers(0, 224, (320, 64, 64, 3)) + 8 * targets[:, None, None, None]).astype(np.uint8)
    model = networks.find("mlp").build({}, Pixels.of(images), 4, steps=20)
    model.fit(images, targets, batch_size=16, verbose=0)
    assert model.evaluate(images, targets, verbose=0)[0] < 0.5


@pytest.mark.parametrize("network", ["cnn", "mlp"])
def test_a_built_in_space_is_whole_and_starts_at_the_defaults(network: str) -> None:
    found = networks.find(network)
    ranges = space.read(found.space, found.defaults)
    assert all(entry["default"] == found.defaults[name] for name, entry in ranges.items())
    assert set(found.defaults) - set(ranges) <= {"flip"}
    assert found.batch_size({}) == found.defaults["batch_size"] and found.batch_size({"batch_size": 7}) == 7


def test_the_named_layers_are_there(made: Make) -> None:
    data = made((12, 12, 1), rows=16)
    cnn, pixels = networks.find("cnn"), Pixels.of(data.train.images)
    bare = cnn.build({"shift": 0.0, "batch_norm": False, "kernel": 5, "depth": 1, "filters": 6}, pixels, 4, 1)
    assert not layers(bare, keras.layers.RandomTranslation) and not layers(bare, keras.layers.BatchNormalization)
    assert {layer.kernel_size for layer in layers(bare, keras.layers.Conv2D)} == {(5, 5)}
    assert [layer.filters for layer in layers(bare, keras.layers.Conv2D)] == [6, 6]
    assert not layers(cnn.build({}, pixels, 4, 1), keras.layers.RandomFlip)
    assert layers(cnn.build({"flip": True}, pixels, 4, 1), keras.layers.RandomFlip)


def test_shifts_are_for_training_alone(made: Make) -> None:
    images = made((12, 12, 1), rows=16).train.images
    model = networks.find("cnn").build({"dropout": 0.0, "batch_norm": False, "shift": 0.2}, Pixels.of(images), 4, 1)
    still, moved = np.asarray(model(images, training=False)), np.asarray(model(images, training=True))
    assert np.array_equal(still, np.asarray(model(images, training=False))) and np.abs(still - moved).max() > 1e-4


def test_the_learning_rate_follows_its_schedule(made: Make) -> None:
    data = made(rows=32)
    mlp, pixels = networks.find("mlp"), Pixels.of(data.train.images)
    for schedule, last in (("cosine", 0.0), ("constant", 0.05)):
        values = {"schedule": schedule, "learning_rate": 0.05, "optimizer": "sgd", "batch_size": 16}
        model = mlp.build(values, pixels, 4, steps=2)
        model.fit(data.train.images, data.train.targets, batch_size=16, verbose=0)
        assert float(model.optimizer.learning_rate) == pytest.approx(last, abs=1e-6)
        assert isinstance(model.optimizer, keras.optimizers.SGD) and model.optimizer.momentum == 0.9


@pytest.mark.parametrize(("name", "value"), [("optimizer", "sgdd"), ("schedule", "linear"), ("learning_rate", 0.0), ("learning_rate", "a")])
def test_a_value_that_cannot_be_used_is_named(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=f"{name}.*found .*{value}"):
        networks.find("mlp").build({name: value}, Pixels((8, 8, 1), (0.0,), (1.0,)), 4, 1)


def test_keras_metrics_count_class_numbers(made: Make) -> None:
    data = made(rows=40)
    names = ("recall", "TopKCategoricalAccuracy", "f1_score", "sparse_top_k_categorical_accuracy", "mean_squared_error")
    model = networks.find("mlp", names).build({}, Pixels.of(data.train.images), 4, 1)
    logs = model.evaluate(data.train.images, data.train.targets, return_dict=True, verbose=0)
    answers = model.predict(data.train.images, verbose=0)
    truth = np.eye(4)[data.train.targets]
    f1 = []
    for label in range(4):
        said, true = answers.argmax(axis=1) == label, data.train.targets == label
        f1.append(2 * (said & true).sum() / max(1, said.sum() + true.sum()))
    assert logs["recall"] == pytest.approx(((answers > 0.5) & (truth == 1)).sum() / 40, abs=1e-6)
    assert logs["f1_score"] == pytest.approx(np.mean(f1), abs=1e-5)
    assert logs["mean_squared_error"] == pytest.approx(((answers - truth) ** 2).mean(), abs=1e-6)
    assert logs["TopKCategoricalAccuracy"] == logs["sparse_top_k_categorical_accuracy"] == 1.0


@pytest.mark.parametrize("metric", ["wombat", "mean", "sensitivity_at_specificity"])
def test_an_unknown_metric_is_refused(metric: str) -> None:
    with pytest.raises(ParameterError, match=f"'{metric}' is no metric of Keras that needs no arguments"):
        networks.find("mlp", (metric,))


def test_a_users_function_is_trained(own: Path, made: Make) -> None:
    data = made(rows=64)
    found = networks.find(f"{own}:small")
    digests = []
    for rate in (0.1, 0.1, 0.2):
        keras.utils.set_random_seed(1)
        values = {"hidden": 6, "optimizer": "sgd", "learning_rate": rate}
        model = found.build(values, Pixels.of(data.train.images), 4, steps=10)
        model.fit(data.train.images, data.train.targets, batch_size=found.batch_size(values), verbose=0)
        digests.append(hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest())
    assert digests[0] == digests[1] != digests[2]
    assert found.batch_size({}) == 64 and found.defaults == found.space == {} and found.name.endswith("own.py:small")


def test_a_users_function_is_searched_by_a_space_from_a_file(own: Path, made: Make, project: Settings) -> None:
    (own.parent / "space.yaml").write_text("hidden: {type: int, min: 2, max: 9, default: 7}\nbatch_size: {type: choice, values: [16]}\n")
    plan = search.Plan(f"{own}:small", str(own.parent / "space.yaml"), Goal(1.0, trials=1, minutes=5, epochs=1), seed=1)
    candidate = search.run(made(), connected(project), plan)
    assert candidate.trial.hyperparameters == {"network": f"{own}:small", "hidden": 7, "batch_size": 16}
    assert layers(candidate.network, keras.layers.Dense)[0].units == 7


def test_a_compiled_model_keeps_its_optimizer(made: Make) -> None:
    def compiled(_: object, pixels: Pixels, classes: int) -> Any:
        inputs = keras.Input(pixels.shape, dtype="uint8")
        flat = keras.layers.Flatten()(keras.ops.cast(inputs, "float32"))
        model = keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(flat))
        model.compile(keras.optimizers.RMSprop(0.01), "mse")
        return model

    data = made(rows=16)
    model = networks.find(compiled).build({}, Pixels.of(data.train.images), 4, 1)
    history = model.fit(data.train.images, data.train.targets, verbose=0).history
    assert isinstance(model.optimizer, keras.optimizers.RMSprop) and set(history) == {"loss", "accuracy"}
    assert history["loss"][0] != pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("transformer", "There is no network 'transformer'; use one of cnn, mlp, or your own as path/to/file.py:function"),
        ("{folder}/none.py:small", "file .*none.py is not there"),
        ("{folder}/own.py:large", "has no function 'large'; found small"),
        ("{folder}/own.py:NOT_A_FUNCTION", "has no function 'NOT_A_FUNCTION'"),
        ("{folder}/own.py", "There is no network"),
        ("{folder}/broken.py:small", "broken.py stops with SyntaxError"),
        ("{folder}/raises.py:small", "raises.py stops with ZeroDivisionError: division by zero"),
    ],
)
def test_a_network_that_is_not_there_is_named(network: str, words: str, own: Path) -> None:
    (own.parent / "broken.py").write_text("def")
    (own.parent / "raises.py").write_text("1 / 0")
    with pytest.raises(ParameterError, match=words):
        networks.find(network.format(folder=own.parent))


def _model(shape: tuple[int, ...], dtype: str, classes: int, activation: str | None) -> Any:
    inputs = keras.Input(shape, dtype=dtype)
    flat = keras.layers.Flatten()(keras.ops.cast(inputs, "float32"))
    return keras.Model(inputs, keras.layers.Dense(classes, activation=activation, bias_initializer="ones")(flat))


@pytest.mark.parametrize(
    ("made_by", "words"),
    [
        (lambda *_: None, "must return a keras.Model that knows its input; found NoneType"),
        (lambda *_: keras.Sequential([keras.layers.Dense(4)]), "knows its input; found Sequential"),
        (lambda *_: _model((8, 8, 3), "uint8", 4, "softmax"), r"one input of shape \(None, 8, 8, 1\); found \[\(None, 8, 8, 3\)\]"),
        (lambda *_: _model((8, 8, 1), "float32", 4, "softmax"), "take pixels as uint8 .*; found float32"),
        (lambda *_: _model((8, 8, 1), "uint8", 5, "softmax"), r"one output of shape \(None, 4\); found \[\(None, 5\)\]"),
        (lambda *_: _model((8, 8, 1), "uint8", 4, None), "end with probabilities, .*; found a sum of 4 for one image"),
    ],
)
def test_a_model_that_cannot_serve_is_refused(made_by: Any, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        networks.find(made_by).build({}, Pixels((8, 8, 1), (0.0,), (1.0,)), 4, 1)


def test_nll_leaves_a_regularizers_penalty_out() -> None:
    images = keras.Input((2, 2, 1), dtype="uint8")
    flat = keras.layers.Flatten()(keras.ops.cast(images, "float32") / 255)
    outputs = keras.layers.Dense(3, activation="softmax", kernel_regularizer=keras.regularizers.L2(10.0))(flat)
    own = networks.Network("own", lambda *_: keras.Model(images, outputs), metrics=("nll",))
    pixels, targets = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1), np.array([0, 2])
    model = own.build({}, networks.Pixels.of(pixels), 3, steps=1)
    logs = model.evaluate(pixels, targets, return_dict=True, verbose=0)
    true = -np.log(model.predict(pixels, verbose=0)[[0, 1], targets]).mean()
    assert logs["nll"] == pytest.approx(true, rel=1e-5) and logs["loss"] > logs["nll"] + 0.1
