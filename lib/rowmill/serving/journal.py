"""The attempt to change what serves that is under way: a file of this machine, so that others see it, and what was cut off is found."""

import contextlib
import dataclasses
import datetime
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rowmill.records import now

log = logging.getLogger("rowmill.release")


@dataclass(frozen=True)
class Attempt:
    """One attempt, as far as it has come.

    Attributes:
        action: `deploy` or `roll back`.
        sha256, verdict, forced: As its record will have them.
        serves: The model id that answered when it began.
        before: What had the traffic then, revision to percent.
        steps: Each with `name`, `state` (`running`, `done`, `failed`) and `seconds`, in their order.
    """

    model_id: str
    action: str
    actor: str
    reason: str
    sha256: str = ""
    verdict: str = ""
    forced: bool = False
    serves: str = ""
    before: dict[str, int] = field(default_factory=dict)
    steps: tuple[dict[str, Any], ...] = ()
    at: datetime.datetime = field(default_factory=now)

    @property
    def seconds(self) -> dict[str, float]:
        """How long each step took, name to seconds."""
        return {step["name"]: step["seconds"] for step in self.steps}

    @property
    def last(self) -> str:
        """The name of the last step, or an empty text."""
        return str(self.steps[-1]["name"]) if self.steps else ""


class Journal:
    """A service's attempt under way; whoever changes it holds the service's lock."""

    def __init__(self, state: Path, service: str) -> None:
        self._path = state / "serving" / service / "attempt.json"

    def read(self) -> Attempt | None:
        """Return the attempt that is under way, or was cut off; None when the last one ended."""
        try:
            values = json.loads(self._path.read_text("utf-8"))
            at = datetime.datetime.fromisoformat(values.pop("at"))
            return Attempt(**{**values, "at": at, "steps": tuple(values["steps"])})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def write(self, attempt: Attempt) -> None:
        """Keep the attempt, whole or not at all."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({**dataclasses.asdict(attempt), "at": attempt.at.isoformat()}), "utf-8")
        new.replace(self._path)

    def note(self, **values: Any) -> None:
        """Add to what is known of the attempt."""
        attempt = self.read()
        assert attempt is not None, "there is nothing to add to"
        self.write(dataclasses.replace(attempt, **values))

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Note a step while it runs, and how it ended."""
        attempt = self.read()
        assert attempt is not None, "a step belongs to an attempt"
        started = time.monotonic()

        def note(state: str) -> None:
            seconds = round(time.monotonic() - started, 3)
            self.note(steps=(*attempt.steps, {"name": name, "state": state, "seconds": seconds}))
            log.info("%s: %s", name, state if state == "running" else f"{state} in {seconds:.1f} s")

        note("running")
        try:
            yield
        except BaseException:
            note("failed")
            raise
        note("done")

    def end(self) -> None:
        """Forget the attempt: it is on record."""
        self._path.unlink(missing_ok=True)
