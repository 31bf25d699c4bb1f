"""The cloud place to serve: Cloud Run functions, by the real gcloud; a target.

gcloud's exit code is not believed: `update-traffic` can end with 1 although the traffic moved. After every command the function is read
again, and what is found there counts.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rowmill import settings
from rowmill.errors import EndpointError, IntegrityError, RowmillError, TargetError
from rowmill.records import Bundle
from rowmill.serving import commands, refusals
from rowmill.serving.commands import Commands, State
from rowmill.serving.endpoint import Endpoint
from rowmill.serving.target import Revision, told
from rowmill.settings import Settings

_SECONDS = 90.0  # for what changes nothing or only the traffic
_TOKEN_SECONDS = 1800.0  # a token lives an hour
_QUIET = {"CLOUDSDK_CORE_DISABLE_PROMPTS": "1", "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true"}


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    output: str
    errors: str


Run = Callable[[Sequence[str], float], Answer]


def run(arguments: Sequence[str], seconds: float) -> Answer:
    """Run gcloud, never by a shell; after `seconds` it is stopped with all that it started.

    Raises:
        TargetError: There is no gcloud.
    """
    try:
        child = subprocess.Popen(
            arguments,
            env=settings.environment(_QUIET),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        raise TargetError(
            "gcloud is not on the PATH", step="install it from https://cloud.google.com/sdk/docs/install, then run `gcloud auth login`"
        ) from error
    with child:
        try:
            output, errors = child.communicate(timeout=seconds)
            return Answer(child.returncode, output, errors)
        except subprocess.TimeoutExpired:
            return Answer(124, "", f"ERROR: `{' '.join(arguments[:4])}` did not end within {seconds:g} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


class CloudTarget:
    """One service's function on Google Cloud.

    Attributes:
        kind: `gcloud`.
        embedded: False.
    """

    kind = "gcloud"
    embedded = False

    def __init__(self, project: Settings, service: str, runner: Run = run) -> None:
        self._cloud, self._service, self._run = project.cloud, service, runner
        self._commands = Commands(project.cloud, service)
        self._seen: State | None = None
        self._token = ("", 0.0)

    @property
    def address(self) -> str:
        """The function's address; empty where there is none, or nobody can be asked."""
        with contextlib.suppress(RowmillError):
            return (self._seen or self._read()).url
        return ""

    @property
    def actor(self) -> str:
        """gcloud's account; the machine's user where it does not say."""
        with contextlib.suppress(RowmillError):
            return self._run(self._commands.account(), _SECONDS).output.strip() or settings.actor()
        return settings.actor()

    def traffic(self) -> dict[str, int]:
        """Return which revisions have the traffic.

        Raises:
            TargetError: gcloud or Google Cloud refuses, or another tool made the function.
        """
        self._seen = self._read()
        return dict(self._seen.shares)

    def open(self, address: str = "") -> Endpoint:
        """Return a client with the identity token that a private function wants.

        Raises:
            EndpointError: There is no such function.
            TargetError: There is no token for gcloud's account.
        """
        stable = self.address
        if not stable:
            raise EndpointError(f"There is no function {self._service} in {self._place}", step="deploy a model")
        return Endpoint(address or stable, token="" if self._cloud.public else self._identity(stable))

    @contextlib.contextmanager
    def dark(self, bundle: Bundle) -> Iterator[Revision]:
        """Start the bundle without traffic, under a tag's address; a function's first gets all of it and is deleted if it fails.

        A revision of this bundle and these settings that is there already is only given the address.

        Raises:
            TargetError: Google Cloud refuses, the build fails, or the function does not start.
        """
        state = self._seen or self._read()
        if not state.exists:
            with self._first(bundle) as revision:
                yield revision
            return
        name = self._commands.revision(bundle)
        there = self._ready(name)
        if leftover := state.left_dark():
            self._run(self._commands.untag(leftover), _SECONDS)
        try:
            command = self._commands.tag(bundle) if there else self._commands.deploy(bundle, first=False)
            answer = self._run(command, self._build_seconds)
            yield Revision(name, self._own_address(bundle, name, answer, there))
        except BaseException:
            self._tidy(bundle, None if there else name)
            raise
        self._tidy(bundle, None)

    def shift(self, shares: Mapping[str, int]) -> None:
        """Share the traffic; without any revision, delete the function.

        Raises:
            IntegrityError: Somebody else changed the traffic since it was read last.
            TargetError: Google Cloud refuses; the traffic is as before.
        """
        now = self._read()
        if self._seen is not None and now.shares != self._seen.shares:
            raise self._elsewhere(self._seen, now)
        if not shares:
            self._delete()
            return
        if now.shares == dict(shares) and now.pinned:
            return
        answer = self._run(self._commands.shift(shares), _SECONDS)
        self._seen = self._read()
        if self._seen.shares != dict(shares) or not self._seen.pinned:
            raise self._refused(f"The traffic of {self._service} stays on {told(self._seen.shares)}", answer)
        if self._seen.generation > now.generation + 1:
            raise self._elsewhere(now, self._seen)

    @contextlib.contextmanager
    def _first(self, bundle: Bundle) -> Iterator[Revision]:
        name = self._commands.revision(bundle)
        try:
            answer = self._run(self._commands.deploy(bundle, first=True), self._build_seconds)
            self._seen = self._read()
            if self._seen.shares != {name: 100} or self._seen.ready != name:
                raise self._refused(f"Model {bundle.model_id} does not start as {name}", answer)
            yield Revision(name, self._seen.url)
        except BaseException as error:
            self._withdraw(name, error)
            raise

    def _withdraw(self, revision: str, error: BaseException) -> None:
        """Delete the function again, if nobody else has begun to use it."""
        try:
            self._seen = self._read()
            if self._seen.latest == revision:
                self._delete()
        except RowmillError as second:
            why = f"{str(error).rstrip('.')}, and the function could not be withdrawn ({str(second).rstrip('.')})"
            raise TargetError(why, step=f"delete it by `gcloud run services delete {self._service}`") from error

    def _own_address(self, bundle: Bundle, name: str, answer: Answer, there: bool) -> str:
        before, self._seen = self._seen, self._read()
        if before and before.shares != self._seen.shares:
            raise self._elsewhere(before, self._seen)
        revision, address = self._seen.tags.get(bundle.model_id, ("", ""))
        if revision != name or not (there or self._seen.ready == name):
            raise self._refused(f"Model {bundle.model_id} does not start as {name}", answer)
        return address

    def _ready(self, name: str) -> bool:
        """Say whether a revision is there and can serve."""
        answer = self._run(self._commands.read_revision(name), _SECONDS)
        if answer.code:
            if "Cannot find" in answer.errors or "NOT_FOUND" in answer.errors or "could not be found" in answer.errors:
                return False
            raise self._refused(f"The revision {name} cannot be read", answer)
        return commands.ready(answer.output)

    def _tidy(self, bundle: Bundle, revision: str | None) -> None:
        """Take the dark address away, and the revision that failed, as far as Google lets it go: the newest one stays, without traffic."""
        self._run(self._commands.untag([bundle.model_id]), _SECONDS)
        if revision:
            self._run(self._commands.delete_revision(revision), _SECONDS)

    def _delete(self) -> None:
        answer = self._run(self._commands.delete(), _SECONDS)
        self._seen = self._read()
        if self._seen.exists:
            raise self._refused(f"The function {self._service} could not be withdrawn", answer)

    def _read(self) -> State:
        answer = self._run(self._commands.describe(), _SECONDS)
        if answer.code:
            if "Cannot find service" in answer.errors:
                return State()
            raise self._refused(f"The function {self._service} in {self._place} cannot be read", answer)
        state = State.read(answer.output)
        if state.manager == "cloudfunctions":
            raise TargetError(
                f"The function {self._service} was made by `gcloud functions deploy`, which would take the traffic back at its next run",
                step=f"hand it over, its address stays: `gcloud beta functions detach {self._service} --region={self._cloud.region}`",
            )
        return state

    def _identity(self, audience: str) -> str:
        token, until = self._token
        if time.monotonic() < until:
            return token
        answer = self._run(self._commands.token(audience), _SECONDS)
        if "account type for `--audiences`" in answer.errors:
            answer = self._run(self._commands.token(), _SECONDS)
        if answer.code or not answer.output.strip():
            raise self._refused(f"There is no identity token to ask {self._service} with", answer)
        self._token = (answer.output.strip(), time.monotonic() + _TOKEN_SECONDS)
        return self._token[0]

    def _refused(self, what: str, answer: Answer) -> TargetError:
        if not answer.code:
            return TargetError(what, found="gcloud said that all is done", step="look at the function in Google's console, then try again")
        why, words, step = refusals.meaning(answer.errors)
        return TargetError(f"{what}: {why}", found=words, step=step)

    def _elsewhere(self, before: State, after: State) -> IntegrityError:
        who = after.modifier
        if who in ("", self.actor):  # our own dark start came later: then who made the revision that has the traffic now
            new = [revision for revision in after.shares if revision not in before.shares]
            read = self._run(self._commands.read_revision(new[0]), _SECONDS).output if new else ""
            who = commands.creator(read) or "Somebody else"
        return IntegrityError(
            f"{who} changed the function {self._service} meanwhile: {told(before.shares)} had the traffic",
            found=told(after.shares),
            step="look at the history, ask them, then decide again",
        )

    @property
    def _place(self) -> str:
        return f"{self._cloud.region} of project {self._cloud.project}"

    @property
    def _build_seconds(self) -> float:
        return 60.0 * self._cloud.build_minutes
