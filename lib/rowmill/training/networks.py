"""Keras builders for the built-in networks: uint8 pixels in, probabilities out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

DEFAULTS: dict[str, dict[str, Any]] = {
    "cnn": {"depth": 2, "filters": 16, "units": 64, "dropout": 0.2, "learning_rate": 3e-3, "batch_size": 64},
    "mlp": {"depth": 2, "units": 128, "dropout": 0.2, "learning_rate": 1e-3, "batch_size": 64},
}


@dataclass(frozen=True)
class Pixels:
    """What a network must know of its input.

    Attributes:
        shape: (height, width, channels).
        mean, variance: Per channel, over the train split's pixel values.
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    variance: tuple[float, ...]

    @classmethod
    def of(cls, images: npt.NDArray[np.uint8]) -> "Pixels":
        """Measure images, (examples, height, width, channels)."""
        values = images.reshape(-1, images.shape[-1])
        variance = np.maximum(values.var(axis=0, dtype=np.float64), 1.0)
        return cls(images.shape[1:], tuple(values.mean(axis=0, dtype=np.float64).tolist()), tuple(variance.tolist()))


def build(network: str, values: Mapping[str, Any], pixels: Pixels, classes: int) -> Any:
    """Return an uncompiled Keras model.

    Preprocessing is a layer of the model, so that no caller can forget or double it.

    Args:
        network: `cnn` or `mlp`.
        values: Hyperparameters; those not named take the network's defaults.
        pixels: The input, uint8 (batch, height, width, channels).
        classes: Probabilities per example, (batch, classes).
    """
    chosen = {**DEFAULTS[network], **values}
    inputs = keras.Input(pixels.shape, dtype="uint8")
    scaled = keras.layers.Normalization(axis=-1, mean=pixels.mean, variance=pixels.variance)(keras.ops.cast(inputs, "float32"))
    features = _convolutions(scaled, chosen) if network == "cnn" else _dense_layers(scaled, chosen)
    dropped = keras.layers.Dropout(chosen["dropout"])(features)
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(dropped))


def _convolutions(images: Any, chosen: Mapping[str, Any]) -> Any:
    for block in range(chosen["depth"]):
        for strides in (1, 2):
            images = keras.layers.Conv2D(chosen["filters"] * (block + 1), 3, strides=strides, padding="same", use_bias=False)(images)
            images = keras.layers.ReLU()(keras.layers.BatchNormalization()(images))
    return keras.layers.Dense(chosen["units"], activation="relu")(keras.layers.Flatten()(images))


def _dense_layers(images: Any, chosen: Mapping[str, Any]) -> Any:
    features = keras.layers.Flatten()(images)
    for _ in range(chosen["depth"]):
        features = keras.layers.Dense(chosen["units"], activation="relu")(features)
    return features
