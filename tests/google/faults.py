"""What goes wrong on purpose: rules that meet calls by method and address, and act before or after them."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from werkzeug import Response

from tests.google.wire import ApiError, Call

Act = Callable[[Call], Response | None]


class Refused(Exception):
    """The connection is to be reset without an answer."""


@dataclass
class Fault:
    """One rule.

    Attributes:
        pattern: Searched for in such as `PUT run.googleapis.com/apis/.../services/digits`, without the region before the host.
        act: What happens; an answer that it returns is given instead of the call's own.
        late: Whether the call is carried out before.
        skip: How many calls that meet the pattern pass first.
        times: How many it meets then.
    """

    pattern: str
    act: Act
    late: bool = False
    skip: int = 0
    times: int = 1
    met: int = 0


@dataclass
class Faults:
    """The rules of now."""

    _rules: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _released: threading.Event = field(default_factory=threading.Event)

    def add(self, fault: Fault) -> Fault:
        """Add a rule; `met` tells later how often it was met."""
        with self._lock:
            self._rules.append(fault)
        return fault

    def clear(self) -> None:
        """Forget all rules, and let go of the calls that hang."""
        with self._lock:
            self._rules.clear()
            released, self._released = self._released, threading.Event()
        released.set()

    def act(self, call: Call, late: bool) -> Response | None:
        """Do what the rules say of this call at this moment."""
        line = f"{call.request.method} {call.api}.googleapis.com{call.request.path}"
        for rule in self._due(line, late):
            answer = rule.act(call)
            if answer is not None:
                return answer
        return None

    def _due(self, line: str, late: bool) -> list[Fault]:
        due = []
        with self._lock:
            for rule in self._rules:
                if rule.late == late and rule.met < rule.skip + rule.times and re.search(rule.pattern, line):
                    rule.met += 1
                    if rule.met > rule.skip:
                        due.append(rule)
        return due

    def hanging(self, call: Call) -> Response | None:
        """Answer nothing until the rules are cleared."""
        del call
        self._released.wait()
        raise Refused


def failing(code: int) -> Act:
    """Return what answers with an error."""

    def act(call: Call) -> Response | None:
        raise ApiError(code, f"The call was refused with {code} on purpose: {call.request.path}")

    return act


def refusing(call: Call) -> Response | None:
    """Reset the connection."""
    raise Refused
