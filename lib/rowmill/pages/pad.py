"""Widgets of Try it: a pad to draw on, a place for image files, a command to copy."""

from importlib import resources
from typing import Any

import anywidget
import traitlets

from rowmill.pages import words
from rowmill.pages.drawing import Style

# A kernel's connection breaks at messages of 10 MiB.
LIMITS = {"files": 16, "bytes": 8 * 10**6}


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


class _Tool(anywidget.AnyWidget):  # pylint: disable=abstract-method  # ipywidgets refuses to be copied
    """A widget whose words come from the table."""

    words = traitlets.Dict().tag(sync=True)

    def __init__(self, **given: Any) -> None:
        super().__init__(words=words.section("tryit"), **given)


class Pad(_Tool):  # pylint: disable=abstract-method  # ipywidgets refuses to be copied
    """A pad to draw on; it sends `{"strokes": ...}`, as `drawing.image` takes them.

    Attributes:
        shape: Height and width of what the model takes; their ratio is the pad's.
        brush: Share of its width; a thick one is shown thinner than the image's, for eyes.
        ground: 0 for light strokes on a dark pad, 255 for dark ones on a light pad.
    """

    _esm = _file("pad.js")
    shape = traitlets.List([28, 28]).tag(sync=True)
    brush = traitlets.Float(Style.brush).tag(sync=True)
    ground = traitlets.Int(Style.ground).tag(sync=True)


class Drop(_Tool):  # pylint: disable=abstract-method  # ipywidgets refuses to be copied
    """A place for image files; it sends `{"names": ...}` with the files as buffers, or `{"refused": sentence}`."""

    _esm = _file("drop.js")
    limits = traitlets.Dict(LIMITS).tag(sync=True)


class Command(_Tool):  # pylint: disable=abstract-method  # ipywidgets refuses to be copied
    """A command to copy; nothing is shown while it is empty."""

    _esm = _file("copy.js")
    text = traitlets.Unicode().tag(sync=True)
