"""What a model needs to serve, measured in the handler beside what the incumbent needs."""

import time
from collections.abc import Mapping

import numpy as np

from rowmill.records import Bundle, ModelRecord
from rowmill.serving import bundle as bundles
from rowmill.serving.endpoint import Endpoint

_STARTS, _ASKED, _WARM = 3, 120, 10


def measure(ours: tuple[ModelRecord, Bundle], theirs: tuple[ModelRecord, Bundle], images: np.ndarray) -> Mapping[str, tuple[float, float]]:
    """Return what each side needs: `size` in bytes, `cold start` and `latency` in seconds, as `checks.run` takes it.

    A cold start is the handler's, which reads, checks, loads and warms its model; the median of three. The latency is the 95th
    percentile of one prediction. Both sides take turns, in this process, so that a busy machine slows both.

    Args:
        ours, theirs: The candidate and the incumbent with their bundles.
        images: uint8, (rows, *shape); each is asked alone.

    Raises:
        IntegrityError: A handler refuses to start.
        EndpointError: A handler does not answer.
    """
    sides = (ours[1], theirs[1])
    starts = np.array([[_start(side) for side in sides] for _ in range(_STARTS)])
    with bundles.open_in_process(sides[0]) as first, bundles.open_in_process(sides[1]) as second:
        asked = [images[number % len(images)][None] for number in range(_WARM + _ASKED)]
        seconds = np.array([[_ask(endpoint, image) for endpoint in (first, second)] for image in asked])[_WARM:]
    cold, slow = np.median(starts, axis=0), np.quantile(seconds, 0.95, axis=0)
    return {
        "size": (float(ours[0].size), float(theirs[0].size)),
        "cold start": (float(cold[0]), float(cold[1])),
        "latency": (float(slow[0]), float(slow[1])),
    }


def _start(bundle: Bundle) -> float:
    begun = time.perf_counter()
    with bundles.open_in_process(bundle):
        return time.perf_counter() - begun


def _ask(endpoint: Endpoint, image: np.ndarray) -> float:
    begun = time.perf_counter()
    endpoint.predict(image)
    return time.perf_counter() - begun
