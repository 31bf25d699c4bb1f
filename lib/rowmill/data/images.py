"""One encoded image, PNG or JPEG, becomes pixels, and pixels a PNG."""

import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from rowmill.data.reading import MAX_PIXELS, Reading
from rowmill.errors import SourceError

# What Pillow calls images of 8 bits; the rest (16 bits, floats) would lose values.
_GREY, _COLOUR = ("1", "L"), ("P", "RGB", "CMYK", "YCbCr")
_ALPHA = {"LA": "L", "PA": "RGB", "RGBA": "RGB"}


def decode(data: bytes, name: str, reading: Reading) -> npt.NDArray[np.uint8]:
    """Return an image's pixels, turned upright as its EXIF data says.

    Args:
        data: The bytes of a PNG or JPEG file.
        name: Its file or key, for errors.
        reading: Its size (resized by an antialiased bilinear filter; the ratio of its sides is not kept) and colour.

    Returns:
        uint8, (height, width, channels).

    Raises:
        SourceError: It is empty, cut off, of another format or depth, transparent, or larger than `MAX_PIXELS`.
    """
    if not data:
        raise SourceError(f"{name} is empty", found="0 bytes", step="take the image out, or get it anew")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of odd EXIF data; what Pillow warns of as a bomb is over our own limit
            return _pixels(Image.open(io.BytesIO(data), formats=("PNG", "JPEG")), name, reading)
    except Image.DecompressionBombError as error:
        raise SourceError(f"{name} unpacks to more than {MAX_PIXELS:,} pixels: {error}", step="take the image out") from error
    except UnidentifiedImageError as error:
        raise SourceError(
            f"{name} is no PNG or JPEG image", found=f"first bytes 0x{data[:8].hex()}", step="convert it, or take it out"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises for broken files
        raise SourceError(
            f"{name} is a broken image: {error}", found=f"{len(data)} bytes", step="take the image out, or get it anew"
        ) from error


def encode(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return the bytes of a PNG file.

    Args:
        pixels: (height, width, channels), one channel for grey or three for RGB.
    """
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def _pixels(image: Image.Image, name: str, reading: Reading) -> npt.NDArray[np.uint8]:
    if image.width * image.height > MAX_PIXELS:  # known from the header, before anything is unpacked
        raise SourceError(
            f"{name} unpacks to more than {MAX_PIXELS:,} pixels", found=f"{image.height} x {image.width}", step="take the image out"
        )
    flat = _opaque(image, name)
    upright = ImageOps.exif_transpose(flat)
    is_grey = reading.colour == "grey" or (reading.colour == "as is" and upright.mode in _GREY)
    converted = upright.convert("L" if is_grey else "RGB")
    if reading.shape and reading.shape != (converted.height, converted.width):
        converted = converted.resize((reading.shape[1], reading.shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(converted, np.uint8).reshape(converted.height, converted.width, -1)


def _opaque(image: Image.Image, name: str) -> Image.Image:
    """Return the image without its alpha channel, where that hides nothing."""
    image.load()
    if image.has_transparency_data:
        lowest = image.convert("RGBA").getchannel("A").getextrema()[0]
        if lowest != 255:
            raise SourceError(
                f"{name} is transparent in places, and nobody can tell what is behind",
                found=f"alpha {lowest} of 255",
                step="put it on a background",
            )
    mode = _ALPHA.get(image.mode, image.mode)
    if mode not in (*_GREY, *_COLOUR):
        raise SourceError(f"{name} has not 8 bits a channel", found=f"Pillow's mode {image.mode}", step="convert it to 8-bit grey or RGB")
    return image if mode == image.mode else image.convert(mode)
