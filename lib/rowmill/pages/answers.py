"""What models answered, as markup, and the request as a command for a terminal."""

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt
import orjson

from rowmill.data import images
from rowmill.pages import parts, plots, words

_MOST_BARS, _FEW_BARS = 10, 3
_LONGEST_COMMAND = 100_000  # characters; Linux takes 131,072 in one argument

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Given:
    """Images to ask about.

    Attributes:
        images: uint8, (images, height, width, channels).
        names: One per image, perhaps empty.
        truths: Their labels on record; empty where nobody knows them.
        faults: Why other images could not be asked about, each a sentence.
    """

    images: Pixels
    names: Sequence[str]
    truths: Sequence[str] = ()
    faults: Sequence[str] = ()


def html(given: Given, is_inverted: bool, labels: Sequence[str], said: Mapping[str, npt.NDArray[np.float64]]) -> str:
    """Return markup of each image as the model saw it, with what was answered.

    Args:
        given: What was asked.
        is_inverted: Whether the function took 255 less each pixel.
        labels: Of the probabilities.
        said: Model id to probabilities, (images, labels); the model that serves is the first.
    """
    shown, most = [], _MOST_BARS if len(given.names) == 1 else _FEW_BARS
    for place, name in enumerate(given.names):
        seen = 255 - given.images[place] if is_inverted else given.images[place]
        truth = given.truths[place] if given.truths else ""
        shares = [(model_id, dict(zip(labels, rows[place], strict=True))) for model_id, rows in said.items()]
        columns = [_column(model_id, share, truth, most, is_serving=not number) for number, (model_id, share) in enumerate(shares)]
        shown.append(f'<section class="rm-answer">{_picture(seen, name, truth)}{"".join(columns)}</section>')
    return f'<div class="rm-answers">{"".join(shown)}</div>'


def command(given: Given, is_inverted: bool, address: str, *, is_private: bool = False) -> str:
    """Return the request as a curl line that works as it is; where a terminal cannot take the images, with a file in their place.

    Args:
        given: What was asked.
        is_inverted: Whether the function took 255 less each pixel.
        address: Of the function.
        is_private: Whether it answers only those whom gcloud knows.
    """
    files = [{"b64": base64.b64encode(images.encode(pixels)).decode()} for pixels in given.images]
    body = orjson.dumps({"instances": files, **({"parameters": {"invert": True}} if is_inverted else {})}).decode()
    line = shlex.join(["-H", "Content-Type: application/json", "-d", body, address])
    if len(line) > _LONGEST_COMMAND:
        header = ["-H", 'X-Parameters: {"invert": true}'] if is_inverted else []
        line = shlex.join(["-H", "Content-Type: image/png", *header, "--data-binary", "@image.png", address])
    bearer = '-H "Authorization: Bearer $(gcloud auth print-identity-token)" ' if is_private else ""
    return f"curl -s {bearer}{line}"


def data_url(pixels: Pixels) -> str:
    """Return an image, (height, width, channels), as a page's `img` takes it; a grey one from black to white, for eyes."""
    return f"data:image/png;base64,{base64.b64encode(images.encode(_stretched(pixels))).decode()}"


def _picture(seen: Pixels, name: str, truth: str) -> str:
    size = words.say("tryit.size", height=seen.shape[0], width=seen.shape[1])
    below = "".join(
        f'<figcaption class="rm-quiet rm-broken">{escape(text)}</figcaption>'
        for text in (name, truth and words.say("tryit.truth", label=truth))
        if text
    )
    told = f'alt="{escape(words.say("tryit.seen"))}" title="{escape(size)}"'
    return f'<figure><img class="rm-seen" src="{data_url(seen)}" {told}>{below}</figure>'


def _stretched(pixels: Pixels) -> Pixels:
    """Return a grey image from black to white, for eyes: a data set's brightest pixel may be 16, as in scikit-learn's digits."""
    low, high = int(pixels.min()), int(pixels.max())
    if pixels.shape[2] > 1 or high == low:
        return pixels
    return ((pixels - low) * (255.0 / (high - low))).round().astype(np.uint8)


def _column(model_id: str, shares: Mapping[str, float], truth: str, most: int, *, is_serving: bool) -> str:
    ranked = sorted(shares.items(), key=lambda entry: -entry[1])
    best, share = ranked[0]
    # In their own order where all have room, so that bars stay where they are from one drawing to the next.
    bars = shares if len(shares) <= most else dict(ranked[:most])
    serves = parts.badge(words.say("tryit.serves"), "live") if is_serving else ""
    is_right = best == truth
    mark = parts.badge(words.say("tryit.right" if is_right else "tryit.wrong"), "good" if is_right else "bad") if truth else ""
    head = f'<p class="rm-best"><b>{escape(best)}</b> <span>{100 * share:.1f} %</span> {mark}</p>'
    name = f'<p class="rm-quiet"><span class="rm-id">{escape(model_id)}</span> {serves}</p>'
    return f'<div class="rm-column">{name}{head}{plots.bars(bars)}</div>'
