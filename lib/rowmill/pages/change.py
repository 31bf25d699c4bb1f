"""Deploy, roll back, delete: the plan to be confirmed, the job that does it outside the page, and how far it has come."""

import datetime
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ipywidgets import Text

from rowmill import jobs
from rowmill.errors import ParameterError
from rowmill.jobs import Job, Work
from rowmill.pages import parts
from rowmill.pages.stand import Stand, local
from rowmill.pages.words import say
from rowmill.records import now
from rowmill.serving import release
from rowmill.settings import Settings

_COMMANDS = {"deploy": "deploy", "roll back": "rollback", "delete": "delete"}
_LEAST_STEPS = 6  # of a deployment: preflight, bundle, dark start, probe, shift, verify
_RECENT = datetime.timedelta(minutes=10)
_FAILED = "rowmill: "  # how the command line begins the sentence of what went wrong


@dataclass(frozen=True)
class Change:
    """What somebody means to do; `action` as in the records."""

    action: str
    model_id: str
    plan: release.Plan | None


class Confirmation:
    """Shows what would be run, and runs it when that is confirmed.

    Args:
        settings: The project.
        started: Is called when a job was started.
    """

    def __init__(self, settings: Settings, started: Callable[[], None]) -> None:
        self._settings, self._started = settings, started
        self._stand: Stand | None = None
        self._change: Change | None = None
        self.notice = parts.Notice()
        self._plan = parts.html()
        self._reason = parts.field(Text, say("change.reason"), placeholder=say("change.reason_hint"))
        self._shares = parts.field(Text, say("change.shares"), value="100", placeholder="10,100")
        self._go = parts.button("", parts.guarded(self.notice, self._run), kind="main")
        leave = parts.button(say("change.leave"), lambda _: self.close())
        actions = parts.row(self._go, leave, name="rm-actions")
        self.root = parts.card("", self._plan, self._reason, self._shares, actions, self.notice, name="rm-confirm")
        parts.show(self.root, False)

    def ask(self, stand: Stand, action: str, model_id: str) -> None:
        """Show what the change would do.

        Raises:
            SettingsError: The dashboard is read-only.
            NotFoundError, IntegrityError: There is no such model, or its files are not what was registered.
        """
        parts.check_writable(self._settings)
        plan = release.plan(stand.service, model_id, action) if action != "delete" else None
        self._stand, self._change = stand, Change(action, model_id, plan)
        self._plan.value = _plan_markup(self._change)
        self._go.description = say(f"change.{_COMMANDS[action]}_now")
        self._reason.value, self._shares.value = "", "100"
        self.notice.say("")
        parts.show(self._shares, action == "deploy" and not stand.service.target.embedded)
        parts.show(self.root, True)
        self._reason.focus()

    def close(self) -> None:
        """Show nothing any more."""
        self._change = None
        parts.show(self.root, False)

    def _run(self) -> None:
        parts.check_writable(self._settings)
        if not self._change or not self._stand:
            return
        reason = self._reason.value.strip()
        if self._change.plan and self._change.plan.force and not reason:
            raise ParameterError(say("change.needs_reason"), step=say("change.needs_reason_step"))
        start(self._stand, self._change, reason, self._shares.value)
        self.close()
        self._started()


def start(stand: Stand, change: Change, reason: str, shares: str) -> Work:
    """Start the job that makes the change; it runs on, whatever becomes of the page.

    Raises:
        BusyError: Another change of this service is under way.
    """
    command = [sys.executable, "-m", "rowmill", _COMMANDS[change.action]]
    if change.action == "roll back":
        command.append(f"--expected={change.model_id}")
    else:
        command.append(change.model_id)
    command += [f"--service={stand.service.name}", f"--reason={reason or say('change.by_hand')}"]
    if change.action == "deploy":
        command += [f"--steps={shares}", *(["--force"] if change.plan and change.plan.force else [])]
    settings, what = stand.service.settings, say(f"change.{_COMMANDS[change.action]}_what", model=change.model_id)
    return jobs.start_once(settings.state, Job(job_name(stand.service.name), what, command, settings.root))


def job_name(service: str) -> str:
    """Return the name of a service's changes among the jobs; one of them runs at a time."""
    return f"release-{service}"


class Progress:
    """Shows the change that is under way, whoever started it, step by step; afterwards how it ended."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.notice = parts.Notice()
        self._steps, self._log = parts.html(), parts.html()
        self.root = parts.column(self.notice, self._steps, self._log, name="rm-change")
        self.is_running = False

    def show(self, service: release.Service) -> bool:
        """Show how things are; return whether a change has ended since the last call."""
        name = job_name(service.name)
        work, attempt = jobs.look(self._settings.state, name), release.attempt(service)
        before, self.is_running = self.is_running, bool(work and work.is_running)
        lines = jobs.tail(self._settings.state, name) if work else []
        recent = work and (self.is_running or before or now() - work.at < _RECENT)
        self._tell(service.name, work if recent else None, attempt, lines)
        self._steps.value = _steps_markup(attempt, self.is_running)
        self._log.value = parts.log(lines, say("change.log")) if recent and (self.is_running or _failed(lines)) else ""
        return before and not self.is_running

    def _tell(self, service: str, work: Work | None, attempt: release.Attempt | None, lines: Sequence[str]) -> None:
        if self.is_running and work:
            self.notice.say(say("change.running", what=work.what[0].upper() + work.what[1:], who=work.actor, at=local(work.at)), "running")
        elif attempt:
            key = "change.elsewhere" if jobs.held(self._settings.state, f"deploy-{service}") else "change.cut_off"
            self.notice.say(say(key, action=attempt.action, model=attempt.model_id, who=attempt.actor, step=attempt.last), "running")
        elif work and lines:
            failed = _failed(lines)
            self.notice.say(lines[-1].removeprefix(_FAILED), "failed" if failed else "done")
        else:
            self.notice.say("")


def _failed(lines: Sequence[str]) -> bool:
    return bool(lines) and lines[-1].startswith(_FAILED)


def _plan_markup(change: Change) -> str:
    title = escape(say(f"change.{_COMMANDS[change.action]}_title", model=change.model_id))
    if change.plan is None:
        return f"<h2>{title}</h2><p>{escape(say('change.delete_plan', model=change.model_id))}</p>"
    steps = "".join(f"<li>{escape(step)}</li>" for step in change.plan.steps)
    commands = escape("\n".join(change.plan.commands))
    pasted = f"<details><summary>{escape(say('change.commands'))}</summary>{parts.log([commands], say('change.commands'))}</details>"
    force = parts.alarm(say("change.forced", why=change.plan.force)) if change.plan.force else ""
    verdict = f'<p><span class="rm-quiet">{escape(say("change.verdict"))}</span> {escape(change.plan.verdict)}</p>'
    return f"<h2>{title}</h2>{verdict}{force}<h3>{escape(say('change.steps'))}</h3><ol>{steps}</ol>{pasted if commands else ''}"


def _steps_markup(attempt: release.Attempt | None, is_running: bool) -> str:
    if attempt is None:
        return parts.progress(0.02, say("change.progress")) if is_running else ""
    done = sum(step["state"] == "done" for step in attempt.steps)
    rows = "".join(_step_row(step) for step in attempt.steps)
    share = (done + 0.5) / max(_LEAST_STEPS, len(attempt.steps) + 1)
    return f'{parts.progress(share, say("change.progress"))}<ol class="rm-steps">{rows}</ol>'


def _step_row(step: dict[str, Any]) -> str:
    kind = {"done": "good", "failed": "bad"}.get(step["state"], "unsure")
    seconds = f' <span class="rm-quiet">{step["seconds"]:.1f} s</span>' if step["state"] != "running" else ""
    return f"<li>{escape(step['name'])} {parts.badge(say('step.' + step['state']), kind)}{seconds}</li>"
