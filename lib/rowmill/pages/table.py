"""A table to filter, sort and choose a row from; a thousand rows without lag."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

import anywidget
import traitlets

from rowmill.pages import words


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        label: Its heading.
        title: What is said when the pointer rests on the heading.
        kind: `text`, `code` for ids, `number` for what stands to the right.
    """

    label: str
    title: str = ""
    kind: str = "text"


@dataclass(frozen=True)
class Cell:
    """What stands in a row under a column; plain text, never markup.

    Attributes:
        text: Its words.
        sort: By what the column is sorted; by the words when not given.
        badge: `good`, `bad`, `unsure`, `live` or `quiet` puts the words on a coloured ground.
        title: What is said when the pointer rests on it.
    """

    text: str
    sort: float | str | None = None
    badge: str = ""
    title: str = ""


class Table(anywidget.AnyWidget):  # pylint: disable=abstract-method  # ipywidgets refuses to be copied
    """The widget; `chosen` is the id of the row that was chosen last, by pointer or keyboard.

    Args:
        label: What the table holds, for screen readers.
        columns: Its columns.
        choose: Is called with the id of a row that the viewer chose, on the kernel's main thread: it returns at once.
    """

    _esm = resources.files(__package__).joinpath("table.js").read_text("utf-8")
    columns: Any = traitlets.List().tag(sync=True)
    rows: Any = traitlets.List().tag(sync=True)
    chosen = traitlets.Unicode().tag(sync=True)
    words = traitlets.Dict().tag(sync=True)

    def __init__(self, label: str, columns: Sequence[Column], choose: Callable[[str], None] | None = None) -> None:
        super().__init__(columns=[asdict(column) for column in columns], words={**words.section("table"), "label": label})
        self.add_class("rm-table")
        if choose:
            self.on_msg(lambda _, content, __: choose(str(content["chosen"])))

    def fill(self, rows: Sequence[tuple[str, Sequence[Cell]]]) -> None:
        """Show these rows, each an id with its cells; the browser is told only what is new.

        Args:
            rows: In the order in which they stand until the viewer sorts them.
        """
        self.rows = [{"id": name, "cells": [_told(cell) for cell in cells]} for name, cells in rows]


def _told(cell: Cell) -> dict[str, str | float]:
    return {name: value for name, value in vars(cell).items() if value not in ("", None) and str(value) != "nan"}  # JSON knows no NaN
