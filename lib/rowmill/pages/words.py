"""The sentences of all pages, from one table, `words.toml`: another language is another table."""

import functools
import tomllib
from importlib import resources
from typing import Any


def say(key: str, **values: Any) -> str:
    """Return a sentence as plain text, with the values in their places; who puts it into HTML escapes it.

    Args:
        key: Its section and name in `words.toml`, such as `models.never`.
        values: What stands in braces there.
    """
    where, _, name = key.partition(".")
    return _table()[where][name].format(**values)


def section(name: str) -> dict[str, str]:
    """Return all sentences of a section, for a widget's JavaScript."""
    return dict(_table()[name])


@functools.cache
def _table() -> dict[str, dict[str, str]]:
    return tomllib.loads(resources.files(__package__).joinpath("words.toml").read_text("utf-8"))
