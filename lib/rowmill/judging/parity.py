"""Parity: the handler answers as Keras did at export, or the cause is named."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter
from scipy.optimize import linear_sum_assignment

from rowmill.data.dataset import Examples
from rowmill.errors import IntegrityError
from rowmill.judging.statistics import Floats
from rowmill.registry import CARD_FILE, MODEL_FILE, file_hash

Images = npt.NDArray[np.uint8]
Ask = Callable[[Images], Floats]

_TRIED = 200
# How far weights of this precision may move a probability; labels are what counts, and they have a limit of their own.
_ROUNDING = {"float16": 0.01, "int8": 0.15}
_CHANGES: Mapping[str, Callable[[Images, int], Images]] = {
    "transposes each image": lambda images, _: images.swapaxes(1, 2),
    "inverts each image (255 becomes 0)": lambda images, _: 255 - images,
    "inverts each image (the brightest becomes 0)": lambda images, brightest: np.maximum(brightest, images) - images,
    "mirrors each image left to right": lambda images, _: images[:, :, ::-1],
    "turns each image upside down": lambda images, _: images[:, ::-1],
    "reverses the colour channels": lambda images, _: images[..., ::-1],
}


@dataclass(frozen=True)
class Limits:
    """How far answers may differ: a probability's largest difference, and the share of rows whose label flips."""

    difference: float
    flips: float


@dataclass(frozen=True)
class Kept:
    """Keras's own answers that were kept at export; see `training.answers`."""

    keys: list[str]
    validation: Floats
    silhouettes: Images
    dim: Floats
    bright: Floats


@dataclass(frozen=True)
class Suspect:
    """A model whose handler does not answer as expected.

    Attributes:
        labels: In the order of its probabilities.
        folder: Its files.
        others: The folders of other models, by id.
        difference: The largest difference of a probability that is allowed.
    """

    labels: tuple[str, ...]
    folder: Path
    others: Mapping[str, Path]
    difference: float


def limits(folder: Path, flips: float, rounded: bool = False) -> Limits:
    """Return the limits of the model in this folder: its contract's tolerance, and the share of flips.

    Args:
        folder: The model's files.
        flips: The share, 0 to 1.
        rounded: Whether the file is compared with Keras, from which its precision takes it away, and not with itself.
    """
    card = json.loads((folder / CARD_FILE).read_text("utf-8"))
    tolerance = float(card["golden"]["tolerance"])
    return Limits(_ROUNDING.get(card.get("parity", {}).get("precision"), tolerance) if rounded else tolerance, flips)


def kept(folder: Path) -> Kept | None:
    """Return Keras's answers that lie in a model's folder; None for a model that was exported without.

    Raises:
        IntegrityError: The file is missing or another one than its contract says.
    """
    entry = json.loads((folder / CARD_FILE).read_text("utf-8")).get("answers")
    if entry is None:
        return None
    path = folder / entry["file"]
    if file_hash(path) != entry["sha256"]:
        raise IntegrityError(f"{path} is not the file that was registered", step="restore it from a copy, or search anew")
    with np.load(path, allow_pickle=False) as file:
        arrays: dict[str, npt.NDArray[Any]] = {name: file[name] for name in file.files}
    validation, dim, bright = (np.asarray(arrays[name], np.float64) for name in ("validation", "dim", "bright"))
    return Kept(bytes(arrays["keys"]).decode().split("\n"), validation, arrays["silhouettes"], dim, bright)


def difference(answers: Floats, expected: Floats, allowed: Limits) -> str:
    """Return in a clause how answers, (rows, labels), differ beyond the limits; an empty text where they do not."""
    if answers.shape != expected.shape:
        return f"answers of shape {answers.shape} instead of {expected.shape}"
    largest = float(np.abs(answers - expected).max())
    flips = int((answers.argmax(axis=1) != expected.argmax(axis=1)).sum())
    most = int(allowed.flips * len(expected))
    # Not `largest > ...`: NaN must count, too.
    if largest <= allowed.difference and flips <= most:
        return ""
    found = f"a difference of up to {largest:.2g} (at most {allowed.difference:g})"
    return f"{found} and {flips} flipped labels of {len(expected)} (at most {most})"


def cause(ask: Ask, asked: Examples, expected: Floats, model: Suspect) -> str:
    """Return in a clause why a handler does not answer as expected; found by experiments, the likeliest last resort at the end.

    Args:
        ask: Asks the handler: uint8 (rows, *shape) in, probabilities (rows, labels) out.
        asked: What was asked.
        expected: The answers to it, (rows, labels).
        model: Whose answers they should be.
    """
    images, wanted = asked.images[:_TRIED], expected[:_TRIED]
    answers = ask(images)
    if answers.shape != wanted.shape:
        return "it answers another count of labels"
    near = Limits(max(0.01, 3 * model.difference), 0.02)
    found = _other_model(answers, asked.keys[:_TRIED], model, near) or _other_order(answers, wanted, model.labels, near)
    found = found or _other_pixels(ask, images, wanted, near) or _other_scale(ask, model) or _rounded(answers, wanted, model)
    return found or _surer(answers, wanted) or "the cause is not known"


def _other_model(answers: Floats, keys: list[str], model: Suspect, near: Limits) -> str:
    for model_id, folder in model.others.items():
        if (folder / MODEL_FILE).is_file() and file_hash(folder / MODEL_FILE) == file_hash(model.folder / MODEL_FILE):
            return f"it holds the file of another model, {model_id}"
        theirs = kept(folder) if (folder / CARD_FILE).is_file() else None
        rows = aligned(theirs, keys) if theirs else None
        if rows is not None and rows.shape == answers.shape and not difference(answers, rows, near):
            return f"it answers as another model does, {model_id}"
    return ""


def aligned(answers: Kept, keys: list[str]) -> Floats | None:
    """Return Keras's answers to the rows with these keys, or None where it was not asked about one of them."""
    place = {key: number for number, key in enumerate(answers.keys)}
    return answers.validation[[place[key] for key in keys]] if all(key in place for key in keys) else None


def _other_order(answers: Floats, wanted: Floats, labels: tuple[str, ...], near: Limits) -> str:
    gaps = np.abs(answers[:, :, None] - wanted[:, None, :]).mean(axis=0)
    columns, places = linear_sum_assignment(gaps)
    moved = [(labels[place], labels[column]) for column, place in zip(columns, places, strict=True) if column != place]
    if not moved or difference(answers[:, np.argsort(places)], wanted, near):
        return ""
    named = ", ".join(f"{meant!r} stands where {said!r} should" for meant, said in moved[:3])
    return f"its labels are in another order: {named}"


def _other_pixels(ask: Ask, images: Images, wanted: Floats, near: Limits) -> str:
    brightest = int(images.max())
    for what, change in _CHANGES.items():
        changed = np.ascontiguousarray(change(images, brightest))
        # Changed back by hand, it answers as expected.
        if changed.shape == images.shape and not np.array_equal(changed, images) and not difference(ask(changed), wanted, near):
            return f"it {what}"
    return ""


def _other_scale(ask: Ask, model: Suspect) -> str:
    # Exactly: bright silhouettes make answers so sure that many scales come near.
    answers, near = kept(model.folder), Limits(model.difference, 0.0)
    if answers is None or not difference(answers.dim, answers.bright, near):
        return ""
    shades = answers.silhouettes
    if not difference(ask(shades * np.uint8(255)), answers.dim, near):
        return "its input is scaled twice: it takes pixels of 255 for 1"
    if not difference(ask(shades), answers.dim, Limits(0.05, 0.0)):
        return ""
    for brightest in (1, 2, *range(3, 255, 4)):
        if not difference(ask(shades * np.uint8(brightest)), answers.bright, near):
            return f"its input is scaled otherwise: it gets pixels from 0 to 255 and wants them from 0 to {brightest}"
    return ""


def _rounded(answers: Floats, wanted: Floats, model: Suspect) -> str:
    kind = _weights(model.folder / MODEL_FILE)
    agree = (answers.argmax(axis=1) == wanted.argmax(axis=1)).mean()
    if not kind or agree < 0.5 or _surer(answers, wanted):
        return ""
    return f"its file is quantised ({kind}), which changes more than is allowed"


def _surer(answers: Floats, wanted: Floats) -> str:
    agree = (answers.argmax(axis=1) == wanted.argmax(axis=1)).mean()
    if agree < 0.5 or answers.max(axis=1).mean() < wanted.max(axis=1).mean() + 0.02:
        return ""
    return "its input may be scaled otherwise: most labels agree, but it is far surer than Keras"


def _weights(path: Path) -> str:
    """Return the kind of number that a LiteRT file's weights are rounded to, or an empty text."""
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    kinds = {np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details() if np.prod(tensor["shape"]) > 64}
    return next((kind for kind in ("int8", "int4", "int16", "float16") if kind in kinds), "")
