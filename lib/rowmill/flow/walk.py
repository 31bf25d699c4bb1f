"""One way through the steps: each runs where something changed that it depends on, and what depends on a failed one does not."""

import dataclasses
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rowmill.errors import RowmillError
from rowmill.flow import notebook, runs, stamps
from rowmill.flow.notebook import Kernels
from rowmill.flow.stamps import Stamp, Stamps
from rowmill.flow.steps import Step
from rowmill.run import Run
from rowmill.settings import Settings

_BROKEN = ("failed", "left out")


class Walk:
    """A run that goes on; it is on file before and after each step.

    Attributes:
        run: Its record, as it is now.
        failure: The first step's that failed; None while none did.
        handed: All that steps handed on, as `step.value` to the value.
    """

    def __init__(self, settings: Settings, run: Run, steps: Sequence[Step], given: Mapping[str, Any]) -> None:
        self._settings, self._steps, self._given = settings, steps, given
        self._read = {name for step in steps for name in step.reads} | {"source"}  # a batch's rows are no examples
        self._stamps = Stamps(settings, run.service)
        self.run = dataclasses.replace(run, states={step.name: "to do" for step in steps} | dict(run.states))
        self.failure: RowmillError | None = None
        self.handed: dict[str, Any] = {}

    def go(self, again: Collection[str] = ()) -> None:
        """Go through the steps; those of `again` run whether something changed or not."""
        runs.note(self._settings, self.run)
        with Kernels(self._settings, runs.folder_of(self._settings, self.run.run_id)) as kernels:
            self._go(kernels, again)

    def _go(self, kernels: Kernels, again: Collection[str]) -> None:
        for number, step in enumerate(self._steps, 1):
            place = f"[{number}/{len(self._steps)}] {step.notebook}"
            if any(self.run.states.get(before) in _BROKEN for before in step.before):
                print(f"{place}: left out", flush=True)
                self._note(step, "left out")
                continue
            try:
                self._take(kernels, step, place, again=step.name in again or step.optional)
            except RowmillError as error:
                self._note(step, "failed", reason=str(error))
                self.failure = self.failure or error

    def _take(self, kernels: Kernels, step: Step, place: str, *, again: bool) -> None:
        own = notebook.parameters(self._settings, step.notebook)
        needed = {need: self.handed[need] for need in step.needs if need in self.handed}
        given = {name: value for name, value in self._given.items() if name not in self._read or name in step.reads}
        values = {**step.parameters, **{need.partition(".")[2]: value for need, value in needed.items()}, **given}
        values = {name: value for name, value in values.items() if name in own}
        inputs = stamps.inputs_of(self._settings, step, {**own, **values}, needed)
        why = "asked for" if again else self._stamps.why(step, inputs)
        stamp = self._stamps.read(step)
        if not why and stamp:
            print(f"{place}: up to date", flush=True)
            self._note(step, "up to date", stamp)
            return
        print(f"{place}: {why}" if stamp else place, flush=True)
        self._stamps.forget(step)
        self._note(step, "running")
        stamp = self._execute(kernels, step, values, inputs)
        self._stamps.write(step, stamp)
        self._note(step, "done", stamp)

    def _execute(self, kernels: Kernels, step: Step, values: Mapping[str, Any], inputs: Mapping[str, Any]) -> Stamp:
        started = time.monotonic()
        output = runs.folder_of(self._settings, self.run.run_id) / f"{step.notebook}.ipynb"
        following = [other.notebook for other in self._steps[self._steps.index(step) + 1 :] if other.notebook != step.notebook]
        result = notebook.execute(kernels, step.notebook, output, values, *following[:1])
        stamps.check_made(self._settings, step, result)
        return Stamp(dict(inputs), result, self.run.run_id, round(time.monotonic() - started, 3))

    def _note(self, step: Step, state: str, stamp: Stamp | None = None, reason: str = "") -> None:
        """Put a step's new state on file, with what it handed on."""
        run = self.run
        changes: dict[str, Any] = {"states": {**run.states, step.name: state}, "reason": run.reason or reason}
        if stamp:
            self.handed |= {f"{step.name}.{name}": value for name, value in stamp.result.items()}
            changes["results"] = {**run.results, step.name: stamp.result}
        if state == "done" and stamp:
            changes["seconds"] = {**run.seconds, step.name: stamp.seconds}
        if state in ("running", "up to date"):
            changes["notebooks"] = {**run.notebooks, step.name: f"{stamp.run if stamp else run.run_id}/{step.notebook}.ipynb"}
        self.run = dataclasses.replace(run, **changes)
        runs.note(self._settings, self.run)
