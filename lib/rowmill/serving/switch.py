"""The one way from what serves to another bundle: dark, probed, shifted, verified; else everything is as before."""

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rowmill.errors import EndpointError, IntegrityError, RowmillError
from rowmill.records import Bundle
from rowmill.serving import bundle as bundles
from rowmill.serving.endpoint import Endpoint
from rowmill.serving.journal import Journal
from rowmill.serving.target import Revision, Target, Traffic, model_of, told

_TIMED = 5  # requests, of which the middle one counts
_SETTLE_SECONDS = 30.0  # a place may take some seconds until its front knows of a shift


@dataclass(frozen=True)
class Switch:
    """What a switch needs to know.

    Attributes:
        target: Where.
        journal: Where its steps are noted.
        bundle: What shall serve.
        before: What has the traffic.
        percents: The shares that it gets one after the other; the last is 100.
        latency: The longest that one golden example may take, in milliseconds.
    """

    target: Target
    journal: Journal
    bundle: Bundle
    before: Traffic
    percents: Sequence[int]
    latency: float

    def run(self) -> str:
        """Make the switch, and return the revision that serves.

        Raises:
            EndpointError: The bundle does not start or does not answer; the traffic is as before.
            IntegrityError: It answers otherwise than it must, or somebody else changed the traffic meanwhile.
        """
        with contextlib.ExitStack() as stack:
            with self.journal.step("start dark"):
                revision = stack.enter_context(self.target.dark(self.bundle))
            with self.journal.step("probe"), self.target.open(revision.address) as endpoint:
                probe(endpoint, self.bundle, self.latency)
            self._shift(revision)
        return revision.name

    def _shift(self, revision: Revision) -> None:
        made: list[Traffic] = []
        try:
            for percent in self.percents:
                made.append(shared(self.before, revision.name, percent))
                with self.journal.step(f"shift {percent} %"):
                    self.target.shift(made[-1])
                with self.journal.step(f"verify {percent} %"):
                    self._verify(revision, percent)
        except BaseException as error:
            self._give_back(made, error)
            raise

    def _verify(self, revision: Revision, percent: int) -> None:
        if percent < 100:
            with self.target.open(revision.address) as endpoint:
                probe(endpoint, self.bundle, self.latency)
        with self.target.open() as endpoint:
            known = {self.bundle.model_id} if percent == 100 else {self.bundle.model_id, *map(model_of, self.before)}
            settle(endpoint, lambda model: model in known)
            if percent == 100:
                probe(endpoint, self.bundle, self.latency)

    def _give_back(self, made: Sequence[Traffic], error: BaseException) -> None:
        """Give the traffic back that this switch took; what somebody else made of it meanwhile is left alone."""
        try:
            if self.target.traffic() in made:
                self.target.shift(self.before)
        except RowmillError as second:
            raise EndpointError(
                f"{str(error).rstrip('.')}, and {told(self.before)} could not be given its traffic back ({str(second).rstrip('.')})",
                step="look at what serves, then deploy the model that should",
            ) from error


def shared(before: Traffic, revision: str, percent: int) -> Traffic:
    """Return the traffic with a share for the revision; what had it before shares the rest as it did."""
    others = {name: share * (100 - percent) // 100 for name, share in before.items() if name != revision}
    others = {name: share for name, share in others.items() if share}
    return {**others, revision: 100 - sum(others.values())}


def settle(endpoint: Endpoint, right: Callable[[str], bool]) -> None:
    """Wait until the endpoint answers with a right model.

    Raises:
        IntegrityError: Another one answers.
        EndpointError: None answers.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    while not right(model := endpoint.describe()["model"]):
        if time.monotonic() > deadline:
            raise IntegrityError(
                f"{endpoint.address} still answers with another model after {_SETTLE_SECONDS:g} s", found=model, step="ask who else deploys"
            )
        time.sleep(0.2)


def probe(endpoint: Endpoint, bundle: Bundle, latency: float) -> None:
    """Ask the golden examples.

    Args:
        endpoint: Where the bundle answers.
        bundle: Whose answers they must be.
        latency: The longest that one example may take, in milliseconds; of several requests the middle one counts.

    Raises:
        IntegrityError: Another model answers, an answer is not the golden one, or it is too slow.
        EndpointError: No usable answer.
    """
    images, expected, tolerance = bundles.golden(bundle)
    answers, model_id = endpoint.predict(images, check=True)
    if model_id != bundle.model_id:
        step = "try again when nobody else deploys"
        raise IntegrityError(f"Model {bundle.model_id} must answer at {endpoint.address}", found=model_id, step=step)
    largest = float(np.abs(answers - expected).max()) if answers.shape == expected.shape else np.inf
    # Not `largest > tolerance`: NaN must fail, too.
    if not largest <= tolerance:  # pylint: disable=unnecessary-negation
        raise IntegrityError(
            f"Model {bundle.model_id} must give its golden answers within {tolerance:g}",
            found=f"a difference of {largest:.2g}",
            step="it gets no traffic: search anew",
        )
    found = statistics.median(_milliseconds(endpoint, images[:1]) for _ in range(_TIMED))
    if found > latency:
        raise IntegrityError(
            f"Model {bundle.model_id} must answer one example within {latency:g} ms",
            found=f"{found:.0f} ms",
            step="take a smaller model, or raise target.latency in rowmill.toml",
        )


def _milliseconds(endpoint: Endpoint, image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> float:
    started = time.perf_counter()
    endpoint.predict(image, check=True)
    return 1000 * (time.perf_counter() - started)
