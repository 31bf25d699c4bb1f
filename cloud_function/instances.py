"""The instances of a request become images: lists of pixels, flat or nested, and PNG or JPEG files."""

import base64
import functools
import io
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from werkzeug.exceptions import abort

Images = npt.NDArray[np.uint8]
_BITS_PER_CHANNEL = 24  # the byte of a PNG file that says so
_START, _TO_ZEROS = b'{"instances":', bytes.maketrans(b"123456789", b"000000000")
_END = {"PNG": b"IEND", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9"}


@dataclass(frozen=True)
class Wanted:
    """What a model takes.

    Attributes:
        shape: (height, width, channels).
        resize: Whether PNG and JPEG files of another size are resized.
        most: How many instances may come at once.
        pixels: To how many pixels all files of a request together may unpack.
        forms: The shapes that an instance of numbers may have.
        brackets: A whole body of one instance without its digits, in each of these forms.
    """

    shape: tuple[int, int, int]
    resize: bool
    most: int
    pixels: int

    @functools.cached_property
    def forms(self) -> tuple[tuple[int, ...], ...]:  # pylint: disable=missing-function-docstring  # an attribute
        height, width, channels = self.shape
        return ((height * width * channels,), self.shape, (height, width))[: 3 if channels == 1 else 2]

    @functools.cached_property
    def brackets(self) -> frozenset[bytes]:  # pylint: disable=missing-function-docstring  # an attribute
        return frozenset(orjson.dumps({"instances": np.zeros((1, *form), int).tolist()}).replace(b"0", b"") for form in self.forms)

    def __str__(self) -> str:
        return f"each instance is {math.prod(self.shape)} whole numbers from 0 to 255, flat or nested as {list(self.shape)}"


def read_one(body: bytes, wanted: Wanted) -> Images | None:
    """Return what `read` would, three times sooner, where the body is one list of pixels in the usual notation; else None.

    The numbers are read as one flat list, once the rest is proven to be the very brackets and commas of the wanted shape: taking out the
    digits leaves these, and no digit stands before a space, before an opening or after a closing bracket.
    """
    compact = body.translate(None, b" ")
    zeros = compact.translate(_TO_ZEROS)
    if not body.startswith(_START) or compact.translate(None, b"0123456789") not in wanted.brackets:
        return None
    if b"]0" in zeros or b"0[" in zeros or b"0 " in body.translate(_TO_ZEROS):
        return None
    numbers = compact[len(_START) : -1].translate(None, b"[]")
    try:
        return np.frombuffer(bytes(orjson.loads(b"[%b]" % numbers)), np.uint8).reshape(1, *wanted.shape)
    except ValueError:  # not JSON, or not from 0 to 255
        return None


def read(instances: Any, wanted: Wanted) -> Images:
    """Return uint8 images, (instances, *shape), or abort with 400 or 413.

    Args:
        instances: Lists of pixels, flat, as (height, width) where there is one channel, or as (height, width, channels); or files, as
            bytes, `{"b64": ...}` or `{"image_bytes": {"b64": ...}}`.
        wanted: What the model takes.
    """
    if not isinstance(instances, list) or not instances:
        abort(400, 'The body has no instances; send {"instances": [...]} with at least one.')
    if len(instances) > wanted.most:
        abort(413, f"The body has {len(instances)} instances; send at most {wanted.most} in one request.")
    if isinstance(instances[0], dict | bytes):
        return np.stack([_picture(_file(entry), wanted, wanted.pixels // len(instances)) for entry in instances])
    return _numbers(instances, wanted).reshape(-1, *wanted.shape)


def read_object(what: str, given: Any) -> dict[str, Any]:
    """Return a JSON object, given as itself or as its text, or abort with 400."""
    try:
        if isinstance(found := orjson.loads(given) if isinstance(given, bytes | str) else given, dict):
            return found
    except orjson.JSONDecodeError:
        pass
    abort(400, f'{what} is no JSON object in UTF-8; send {{"instances": [...]}}, and such as {{"top": 1}} for parameters.')


def _numbers(instances: list[Any], wanted: Wanted) -> Images:
    leaves: list[Any] = instances
    form: list[int] = []
    try:
        while isinstance(leaves[0], list):
            (length,) = set(map(len, leaves))
            leaves, form = list(itertools.chain.from_iterable(leaves)), [*form, length]
    except (TypeError, ValueError, IndexError):
        abort(400, f"The instances differ in shape, or one is empty; {wanted}.")
    # Before numpy and bytes() see them: both take true for a number.
    kinds = set(map(type, leaves))
    if not kinds <= {int, float}:
        abort(400, f"The instances hold something else than numbers, or differ in shape; {wanted}.")
    if tuple(form) not in wanted.forms:
        abort(400, f"An instance has shape {form[:9]}; {wanted}.")
    if kinds == {int} and min(leaves) >= 0 and max(leaves) <= 255:
        return np.frombuffer(bytes(leaves), np.uint8)
    pixels = np.asarray(leaves, np.float64)
    bad = ~((pixels >= 0) & (pixels <= 255) & (pixels == np.floor(pixels)))
    if bad.any():
        abort(400, f"A pixel is {leaves[int(bad.argmax())]}; {wanted}.")
    return pixels.astype(np.uint8)


def _file(entry: Any) -> bytes:
    """Return the bytes of a PNG or JPEG file."""
    if isinstance(entry, bytes):
        return entry
    text = entry.get("image_bytes", entry) if isinstance(entry, dict) else None
    text = text.get("b64") if isinstance(text, dict) else None
    if not isinstance(text, str):
        abort(400, 'An instance is no file; send each as {"b64": "..."} or {"image_bytes": {"b64": "..."}}, or all as lists of pixels.')
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        abort(400, "An instance's b64 is not base64; encode the whole file, with its padding.")


def _picture(file: bytes, wanted: Wanted, most: int) -> Images:
    """Return a file's pixels as training reads them: upright, palettes as colours, colours as grey (ITU-R 601) for a grey model."""
    from PIL import Image, ImageOps  # pylint: disable=import-outside-toplevel  # 40 ms, and only where an image arrives

    image, too_large = None, False
    try:
        image = Image.open(io.BytesIO(file), formats=("PNG", "JPEG"))
        too_large = image.width * image.height > most  # known from the header, before anything is unpacked
        upright = image if too_large else ImageOps.exif_transpose(image)
        if _END[str(image.format)] not in file:  # Pillow is content when the last row is there
            raise EOFError
    except Exception as error:  # pylint: disable=broad-exception-caught  # Pillow raises of all kinds for broken files
        abort(400, f"An image is broken, cut short or too large, or no PNG or JPEG file ({type(error).__name__}); send it whole.")
    if too_large:
        abort(413, f"An image has {image.height} x {image.width} pixels; the images of one request may unpack to {wanted.pixels} pixels.")
    _refuse_ambiguous(image, file)
    height, width, channels = wanted.shape
    plain = upright.convert("L" if channels == 1 else "RGB")
    if (plain.height, plain.width) != (height, width):
        if not wanted.resize:
            abort(400, f"An image has {plain.height} x {plain.width} pixels; this model takes {height} x {width} and resizes nothing.")
        plain = plain.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(plain, np.uint8).reshape(wanted.shape)


def _refuse_ambiguous(image: Any, file: bytes) -> None:
    """Abort with 400 where nobody can tell which 8-bit pixels are meant."""
    deep = image.format == "PNG" and file[_BITS_PER_CHANNEL] > 8
    if deep or image.mode not in ("1", "L", "P", "RGB", "CMYK", "LA", "PA", "RGBA"):
        abort(400, f"An image has not 8 bits a channel (Pillow's mode {image.mode}); convert it to 8-bit grey or RGB.")
    if getattr(image, "n_frames", 1) > 1:
        abort(400, f"An image has {image.n_frames} frames; send one of them.")
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
        abort(400, "An image is transparent in places, and nobody can tell what is behind; put it on a background.")
