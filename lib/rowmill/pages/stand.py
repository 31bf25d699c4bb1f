"""How things stand with a service: all that the Models page shows of it, read at one moment."""

import contextlib
import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from rowmill.data import dataset
from rowmill.records import DatasetVersion, Deployment, ModelRecord, Verdict
from rowmill.registry import connected
from rowmill.serving import release
from rowmill.settings import Settings

# A look at what serves asks the endpoint; on the cloud it takes gcloud's seconds, and a warehouse there is paid by the query.
LOOK_SECONDS, FAR_LOOK_SECONDS = 10.0, 60.0
KINDS = {"better": "good", "worse": "bad", "cannot tell": "unsure", "serving": "good", "failed": "bad", "deleted": ""}
_Z = 1.959964  # of a normal distribution's middle 95 %


@dataclass(frozen=True)
class Stand:
    """What was read.

    Attributes:
        services: The names of all services, in alphabetical order.
        earlier: The model id that a roll back would go to, or an empty text.
        models: Newest first.
        verdicts: Each model's latest, by its id.
        versions: Data set versions by their names.
        deployments: Newest first.
    """

    service: release.Service
    services: Sequence[str]
    serving: release.Serving
    earlier: str
    models: Sequence[ModelRecord]
    verdicts: dict[str, Verdict]
    versions: dict[str, DatasetVersion]
    deployments: Sequence[Deployment]

    def model(self, model_id: str) -> ModelRecord | None:
        """Return a model of the list, or None."""
        return next((model for model in self.models if model.model_id == model_id), None)

    def interval(self, model: ModelRecord) -> tuple[float, float] | None:
        """Return the 95 % interval of a model's accuracy, by the count of validation rows; None where either is not known."""
        version = self.versions.get(model.dataset_version)
        rows = version.counts.get("validation", 0) if version else 0
        return wilson(model.accuracy, rows) if rows and 0 <= model.accuracy <= 1 else None


def read(settings: Settings, name: str) -> Stand | None:
    """Ask registry, target and endpoint; None where there is no model of any service yet.

    Args:
        settings: The project.
        name: The service; that of the newest model when there is none of this name.

    Raises:
        RowmillError: The registry cannot be read; what is wrong with the endpoint is told by `serving`.
    """
    registry = connected(settings)
    known = registry.services()
    if not known:
        return None
    service = release.open_service(settings, name if name in known else known[0])
    return Stand(
        service=service,
        services=sorted(known),
        serving=release.look(service),
        earlier=release.rollback_target(service),
        models=registry.models(service.name),
        verdicts={verdict.candidate: verdict for verdict in registry.verdicts(service.name)},
        versions={version.version: version for version in dataset.versions(registry.warehouse, service.name)},
        deployments=registry.deployments(service.name)[::-1],
    )


class Watch:
    """Tells when to look again: when somebody wrote to the warehouse, or when it is time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        is_far = settings.warehouse_kind != "sqlite" or settings.target_kind != "local"
        self._pause = FAR_LOOK_SECONDS if is_far else LOOK_SECONDS
        self._next, self._stamp = 0.0, 0

    def hurry(self) -> None:
        """Let the next look be due."""
        self._next = 0.0

    def is_due(self) -> bool:
        """Return whether a look is due; it is taken for done."""
        stamp = self._read_stamp()
        if time.monotonic() < self._next and stamp == self._stamp:
            return False
        self._next, self._stamp = time.monotonic() + self._pause, stamp
        return True

    def _read_stamp(self) -> int:
        """Return a number that changes when anybody writes to the warehouse; always 0 where that is not on this machine."""
        if self._settings.warehouse_kind != "sqlite":
            return 0
        paths = [path for path in self._settings.state.glob("warehouse.sqlite*") if not path.name.endswith("-shm")]
        with contextlib.suppress(FileNotFoundError):  # the last reader removes the log beside the file
            found = [path.stat() for path in paths]
            return hash(tuple((entry.st_mtime_ns, entry.st_size) for entry in found))
        return 0


def wilson(share: float, rows: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share of so many rows (E. B. Wilson, 1927)."""
    middle = share + _Z**2 / (2 * rows)
    reach = _Z * (share * (1 - share) / rows + _Z**2 / (4 * rows**2)) ** 0.5
    return max(0.0, (middle - reach) / (1 + _Z**2 / rows)), min(1.0, (middle + reach) / (1 + _Z**2 / rows))


def percent(share: float) -> str:
    """Return a share as text, in percent; `?` where it is not known."""
    return f"{100 * share:.2f} %" if share == share else "?"  # pylint: disable=comparison-with-itself  # NaN


def size(count: int) -> str:
    """Return a count of bytes as text."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


def moment(at: datetime.datetime) -> str:
    """Return markup of a moment, in this machine's time; in UTC where the pointer rests on it."""
    return f'<time datetime="{escape(at.isoformat())}" title="{at:%Y-%m-%d %H:%M:%S} UTC">{local(at)}</time>'


def local(at: datetime.datetime) -> str:
    """Return a moment as text, in this machine's time."""
    return f"{at.astimezone():%Y-%m-%d %H:%M}"
