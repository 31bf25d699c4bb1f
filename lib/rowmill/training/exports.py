"""A Keras network becomes a file: LiteRT in three precisions, `.keras`, ONNX; and how far a file's answers are from Keras's own."""

import importlib
import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from rowmill.errors import IntegrityError, ParameterError

Images = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]
# Answers a batch of images.
Answer = Callable[[Images], Probabilities]
TOLERANCE = 1e-4
BATCH = 1024
_OPSET = 18


@dataclass(frozen=True)
class Form:
    """How a model is exported.

    Attributes:
        precision: Of the weights in the served file: `float32`; `float16` halves it, `int8` quarters it.
        also: Further files, each as exact as a served `float32`: `keras`, `onnx`.
        resize: Whether the function resizes PNG and JPEG files of another size; by the filter that the ingest uses.
    """

    precision: str = "float32"
    also: tuple[str, ...] = ()
    resize: bool = False

    def __post_init__(self) -> None:
        if self.precision not in LIMITS:
            raise ParameterError(f"A model cannot be exported in precision {self.precision!r}", step=f"use one of {', '.join(LIMITS)}")
        unknown = [name for name in self.also if name not in ALSO]
        if unknown:
            raise ParameterError(f"A model cannot also be exported as {unknown[0]!r}", step=f"use some of {', '.join(ALSO)}")


@dataclass(frozen=True)
class Parity:
    """How a file's answers differ from Keras's.

    Attributes:
        rows: How many were compared.
        largest: Difference of two probabilities.
        flips: The rows whose likeliest label is another one.
    """

    rows: int
    largest: float
    flips: tuple[int, ...]


@dataclass(frozen=True)
class Limit:
    """How far a file may be from Keras: the difference of two probabilities, and the share of rows whose label flips."""

    difference: float
    flips: float


LIMITS = {"float32": Limit(TOLERANCE, 0.0), "float16": Limit(1e-2, 0.001), "int8": Limit(0.15, 0.005)}


def served(network: Any, path: Path, precision: str) -> None:
    """Write a LiteRT file; in `int8` weights are quantised per channel and sums stay in floats (dynamic range quantisation)."""
    # TensorFlow would report each file of its own on the way.
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    options: dict[str, Any] = {}
    if precision != "float32":
        from rowmill.training.backend import tf  # pylint: disable=import-outside-toplevel  # seconds, and loaded with the network anyway

        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            options["target_spec"] = {"supported_types": [tf.float16]}
    network.export(str(path), format="litert", verbose=False, **options)


def also(network: Any, folder: Path, name: str) -> tuple[Path, Answer]:
    """Write one of the further files; return it with what answers by it alone.

    Raises:
        ParameterError: A package that this needs is not installed.
        IntegrityError: The network cannot be written so.
    """
    return ALSO[name](network, folder / f"model.{name}")


def _keras(network: Any, path: Path) -> tuple[Path, Answer]:
    from rowmill.training.backend import keras  # pylint: disable=import-outside-toplevel  # loaded with the network anyway

    network.save(path)
    try:
        # In safe mode nothing in the file can run code of its own.
        loaded = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError) as error:
        sentence = "The network cannot be read from a .keras file in safe mode"
        raise IntegrityError(
            sentence, found=str(error).split("\n", maxsplit=1)[0], step="use layers of Keras alone, without Lambda"
        ) from error
    return path, lambda images: np.asarray(loaded.predict(images, batch_size=BATCH, verbose=0), np.float32)


def _onnx(network: Any, path: Path) -> tuple[Path, Answer]:
    """Write ONNX by way of LiteRT: Keras's own way makes inputs of a scaling layer's constants."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tf2onnx looks for names that numpy had once
            onnxruntime, tf2onnx = importlib.import_module("onnxruntime"), importlib.import_module("tf2onnx")
    except ImportError as error:
        raise ParameterError(f"ONNX needs a package that is not here: {error.name}", step='run `uv pip install -e ".[onnx]"`') from error
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        served(network, Path(folder) / "model.tflite", "float32")
        tf2onnx.convert.from_tflite(str(Path(folder) / "model.tflite"), opset=_OPSET, output_path=str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    place = session.get_inputs()[0].name
    return path, lambda images: np.asarray(session.run(None, {place: images})[0], np.float32)


ALSO: dict[str, Callable[[Any, Path], tuple[Path, Answer]]] = {"keras": _keras, "onnx": _onnx}


def runtime(path: Path) -> Answer:
    """Return what answers by a LiteRT file."""
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    place, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def ask(images: Images) -> Probabilities:
        interpreter.resize_tensor_input(place, images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(place, images)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(answer), np.float32)

    return ask


def answers(ask: Answer, images: Images) -> Probabilities:
    """Return the probabilities, (examples, labels), of uint8 images, (examples, height, width, channels), asked in batches."""
    return np.concatenate([ask(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])


def compare(found: Probabilities, expected: Probabilities) -> Parity:
    """Return how a file's answers differ from Keras's, both (examples, labels)."""
    flips = np.flatnonzero(found.argmax(axis=1) != expected.argmax(axis=1))
    return Parity(len(expected), float(np.abs(found - expected).max()), tuple(int(row) for row in flips))


def check(what: str, parity: Parity, limit: Limit) -> None:
    """Refuse a file that does not answer as Keras does.

    Raises:
        IntegrityError: Too many labels flip, or a probability differs by too much.
    """
    # Not `largest > difference`: NaN must fail, too.
    if len(parity.flips) > int(limit.flips * parity.rows) or not parity.largest <= limit.difference:  # pylint: disable=unnecessary-negation
        flips = f"with at most {int(limit.flips * parity.rows)} flipped labels" if limit.flips else "without a flipped label"
        raise IntegrityError(
            f"The exported {what} file must answer as Keras does, within {limit.difference:g} and {flips}",
            found=f"a difference of {parity.largest:.2g} and {len(parity.flips)} flips in {parity.rows} examples",
            step="nothing is registered: look for a layer that it computes otherwise, or take float32",
        )
