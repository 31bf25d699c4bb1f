"""The built-in networks as layers: `mlp` and `cnn`; their values and ranges are in `builtin`."""

import math
from collections.abc import Mapping
from typing import Any

from rowmill.training.backend import keras

# Of the 28 x 28 images on which the ranges of `mlp` were chosen.
_PIXELS = 784


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
    # A step moves a unit's sum by the learning rate times the sum of its inputs' squares: more pixels than the ranges were
    # chosen on are made smaller, or the same learning rate would throw the sums far apart.
    inputs, images = _scaled(pixels, max(1.0, math.prod(pixels.shape) / _PIXELS))
    features = keras.layers.Flatten()(images)
    for _ in range(values["hidden_layers"]):
        features = _hidden(features, values)
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(features))


def _scaled(pixels: Any, spread: float = 1.0) -> tuple[Any, Any]:
    inputs = keras.Input(pixels.shape, dtype="uint8")
    scaling = keras.layers.Normalization(axis=-1, mean=pixels.mean, variance=[value * spread for value in pixels.variance])
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
