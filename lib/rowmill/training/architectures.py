"""The built-in networks as data and layers: `mlp` and `cnn`, their defaults and the ranges that a search tries."""

from collections.abc import Mapping
from typing import Any

from rowmill.training.backend import keras

DEFAULTS: dict[str, dict[str, Any]] = {
    "cnn": {
        "depth": 2,
        "filters": 32,
        "kernel": 3,
        "batch_norm": True,
        "shift": 0.07,
        "flip": False,
        "units": 128,
        "dropout": 0.1,
        "optimizer": "adam",
        "learning_rate": 3e-3,
        "schedule": "cosine",
        "batch_size": 128,
    },
    "mlp": {
        "hidden_layers": 1,
        "units": 256,
        "dropout": 0.2,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "schedule": "cosine",
        "batch_size": 128,
    },
}

# First values instead where a search has too little time for a few trials of its defaults.
FRUGAL: dict[str, dict[str, Any]] = {
    "cnn": {"depth": 3, "filters": 16, "shift": 0.0, "optimizer": "sgd", "learning_rate": 0.03, "batch_size": 64},
    "mlp": {},
}

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "constant")
_TRAINING: dict[str, dict[str, Any]] = {
    "optimizer": {"type": "choice", "values": list(OPTIMIZERS)},
    "learning_rate": {"type": "float", "min": 1e-3, "max": 0.3, "sampling": "log"},
    "schedule": {"type": "choice", "values": list(SCHEDULES)},
    "batch_size": {"type": "choice", "values": [32, 64, 128, 256]},
}
SPACES: dict[str, dict[str, dict[str, Any]]] = {
    "cnn": {
        "depth": {"type": "int", "min": 1, "max": 3},
        "filters": {"type": "int", "min": 16, "max": 48, "step": 16},
        "kernel": {"type": "choice", "values": [3, 5]},
        "batch_norm": {"type": "bool"},
        "shift": {"type": "float", "min": 0.0, "max": 0.14, "step": 0.07},
        "units": {"type": "int", "min": 32, "max": 256, "step": 2, "sampling": "log"},
        "dropout": {"type": "float", "min": 0.0, "max": 0.5, "step": 0.1},
        **_TRAINING,
        "learning_rate": {"type": "float", "min": 3e-4, "max": 3e-2, "sampling": "log"},
    },
    "mlp": {
        "hidden_layers": {"type": "int", "min": 1, "max": 3},
        "units": {"type": "int", "min": 32, "max": 512, "step": 2, "sampling": "log"},
        "dropout": {"type": "float", "min": 0.0, "max": 0.5, "step": 0.1},
        **_TRAINING,
    },
}


def cnn(values: Mapping[str, Any], pixels: Any, classes: int) -> Any:
    """Return convolutions of twice the filters at half the resolution in each block, then dense units."""
    inputs, images = _scaled(pixels)
    # Both layers do nothing at inference, so nothing of them is in the exported file.
    if values["shift"]:
        images = keras.layers.RandomTranslation(values["shift"], values["shift"], fill_mode="nearest")(images)
    if values["flip"]:
        images = keras.layers.RandomFlip("horizontal")(images)
    for block in range(values["depth"]):
        for strides in (2, 1):
            images = _convolution(images, values["filters"] * 2**block, strides, values)
    features = keras.layers.Dropout(values["dropout"])(keras.layers.Flatten()(images))
    features = _hidden(features, values)
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(features))


def mlp(values: Mapping[str, Any], pixels: Any, classes: int) -> Any:
    """Return hidden layers of equal size, each followed by dropout."""
    inputs, images = _scaled(pixels)
    features = keras.layers.Flatten()(images)
    for _ in range(values["hidden_layers"]):
        features = _hidden(features, values)
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(features))


def _scaled(pixels: Any) -> tuple[Any, Any]:
    inputs = keras.Input(pixels.shape, dtype="uint8")
    scaling = keras.layers.Normalization(axis=-1, mean=pixels.mean, variance=pixels.variance)
    return inputs, scaling(keras.ops.cast(inputs, "float32"))


def _convolution(images: Any, filters: int, strides: int, values: Mapping[str, Any]) -> Any:
    convolution = keras.layers.Conv2D(filters, values["kernel"], strides=strides, padding="same", use_bias=not values["batch_norm"])
    images = convolution(images)
    if values["batch_norm"]:
        # Keras's momentum of 0.99 still averages over the first steps when a short training ends.
        images = keras.layers.BatchNormalization(momentum=0.9)(images)
    return keras.layers.ReLU()(images)


def _hidden(features: Any, values: Mapping[str, Any]) -> Any:
    features = keras.layers.Dense(values["units"], activation="relu")(features)
    return keras.layers.Dropout(values["dropout"])(features)
