"""What every place that serves can do, and a service in its place."""

import contextlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from rowmill.records import Bundle, ModelId
from rowmill.registry import Registry
from rowmill.serving.endpoint import Endpoint
from rowmill.settings import Settings

Traffic = dict[str, int]  # revision to its share of the requests, in percent; empty: nothing serves


@dataclass(frozen=True)
class Revision:
    """A bundle that was started somewhere: the target's name for it, and the address where it alone answers."""

    name: str
    address: str


class Target(Protocol):
    """A place that serves one service at one stable address.

    Attributes:
        kind: As `target.kind` in the settings names it.
        embedded: Whether it is a part of this machine, so that what is silent may simply be started again.
    """

    kind: str
    embedded: bool

    @property
    @abstractmethod
    def address(self) -> str:
        """The stable address, whether or not something answers there; empty where the place has not given one yet."""

    @property
    @abstractmethod
    def actor(self) -> str:
        """Who acts there."""

    @abstractmethod
    def traffic(self) -> Traffic:
        """Ask the place what serves; it is brought back where it only went down."""

    @abstractmethod
    def open(self, address: str = "") -> Endpoint:
        """Return a client, with what it needs to be let in: of a revision's address, or of the stable one."""

    @abstractmethod
    def dark(self, bundle: Bundle) -> contextlib.AbstractContextManager[Revision]:
        """Serve the bundle without traffic (but for a service's first, where the place cannot), as long as the context lasts."""

    @abstractmethod
    def shift(self, shares: Mapping[str, int]) -> None:
        """Let the revisions share the stable address, and return when it is so; without any, nothing serves."""


@dataclass(frozen=True)
class Service:
    """Models, deployments, the endpoint and its address belong to one service."""

    name: str
    settings: Settings
    registry: Registry
    target: Target


def model_of(revision: str) -> str:
    """Return the id of the model that a revision serves; the revision's own name where rowmill did not make it."""
    found = ModelId.PATTERN.search(revision)
    return found[0] if found else revision


def told(traffic: Mapping[str, int]) -> str:
    """Return in words which models have the traffic."""
    if len(traffic) == 1:
        return model_of(next(iter(traffic)))
    largest_first = sorted(traffic.items(), key=lambda share: -share[1])
    return " and ".join(f"{model_of(revision)} ({percent} %)" for revision, percent in largest_first) or "nothing"
