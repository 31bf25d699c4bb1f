"""A change is asked for, seen while it runs, put on record, and taken up where it was cut off."""

import contextlib
import dataclasses
import datetime
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from rowmill import jobs
from rowmill.errors import EndpointError, IntegrityError, NotFoundError, ParameterError
from rowmill.records import Deployment, Verdict
from rowmill.serving import history, release
from rowmill.serving.release import Service
from rowmill.settings import Settings

from tests.conftest import ROOT


def serves(service: Service) -> str:
    """Return the model that answers at the service's address."""
    return httpx.get(service.target.address, trust_env=False).json()["model"]


def judge(service: Service, model_id: str, outcome: str) -> None:
    """Put a verdict on record."""
    service.registry.add(Verdict(model_id, "", "digits", outcome, "a sentence"))


def test_a_model_without_the_verdict_better_needs_a_force_with_a_reason(service: Service, good: str, weak: str) -> None:
    with pytest.raises(IntegrityError, match=f"Model {good} was never judged; judge it by 03_validate first, or force it with a reason"):
        release.deploy(service, good)
    with pytest.raises(ParameterError, match=f"To force {good} needs a reason"):
        release.deploy(service, good, " ", force=True)
    assert not service.registry.deployments("digits")
    judge(service, good, "better")
    done = release.deploy(service, good, force=True)
    assert (done.forced, done.verdict) == (False, "better")
    judge(service, weak, "worse")
    with pytest.raises(IntegrityError, match=f"The verdict about model {weak} is not `better` but `worse`"):
        release.deploy(service, weak)
    forced = release.deploy(service, weak, "to see it fail", force=True)
    assert (forced.forced, forced.verdict, forced.reason) == (True, "worse", "to see it fail") == _last(service)


def _last(service: Service) -> tuple[bool, str, str]:
    row = service.registry.deployments("digits")[-1]
    return row.forced, row.verdict, row.reason


def test_a_deployment_says_who_what_and_how_long(service: Service, good: str) -> None:
    done = release.deploy(service, good, "first", force=True)
    (row,) = service.registry.deployments("digits")
    assert row == done and row.actor == service.target.actor and row.revision.startswith(good)
    assert list(row.steps) == ["preflight", "build the bundle", "start dark", "probe", "shift 100 %", "verify 100 %"]
    assert sum(row.steps.values()) <= row.seconds < 30 and release.attempt(service) is None


def test_what_served_when(service: Service, good: str, weak: str) -> None:
    first = release.deploy(service, good, "first", force=True)
    second = release.deploy(service, weak, "second", force=True)
    moments = [first.at - datetime.timedelta(microseconds=1), first.at, second.at - datetime.timedelta(microseconds=1), second.at]
    assert [release.at(service, moment) for moment in moments] == ["", good, good, weak]


def test_what_serves_served_or_is_rolled_back_to_is_not_deleted(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "first", force=True)
    release.deploy(service, weak, "second", force=True)
    with pytest.raises(IntegrityError, match=f"Model {weak} serves, so it cannot be deleted; deploy another one first"):
        release.delete(service, weak)
    with pytest.raises(IntegrityError, match=f"Model {good} is what a roll back would go to"):
        release.delete(service, good)
    assert {model.model_id for model in service.registry.models("digits")} == {good, weak}


def test_a_deleted_model_leaves_the_list_and_the_disk_but_not_the_record(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "first", force=True)
    done = release.delete(service, weak, "not needed")
    assert (done.action, done.outcome, done.reason) == ("delete", "deleted", "not needed")
    assert [model.model_id for model in service.registry.models("digits")] == [good]
    assert not (service.registry.artefacts / weak).exists()
    with pytest.raises(NotFoundError, match=f"There is no model '{weak}' of service 'digits'; found {good}"):
        release.deploy(service, weak, "again", force=True)
    assert release.rollback_target(service) == "" and serves(service) == good


def test_nothing_is_deleted_while_nobody_knows_what_serves(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "first", force=True)
    jobs.stop(service.settings.state, "function-digits")
    with socket.create_server(("127.0.0.1", service.settings.target_port)):
        with pytest.raises(EndpointError, match=f"What serves digits cannot be asked, so {weak} is not deleted; found Port .* is in use"):
            release.delete(service, weak)
    assert weak in {model.model_id for model in service.registry.models("digits")}


def test_a_deleted_model_is_no_place_to_roll_back_to() -> None:
    def row(model_id: str, outcome: str = "serving", action: str = "deploy") -> Deployment:
        return Deployment(model_id, "digits", action, "local", "", "", outcome, "", "me", 0.0)

    rows = [row("a"), row("b"), row("c")]
    assert history.rollback_target(rows) == "b" and history.rollback_target([*rows, row("b", "deleted", "delete")]) == "a"
    again = [row("a"), row("b"), row("a"), row("b", "deleted", "delete")]
    assert history.rollback_target(again) == ""


def test_steps_are_checked_first(service: Service, good: str) -> None:
    for steps in ((), (10,), (100, 10), (0, 100), (50, 50, 100), (10, 200)):
        with pytest.raises(ParameterError, match="Steps are whole percents that rise to 100"):
            release.deploy(service, good, "x", force=True, steps=steps)
    with pytest.raises(ParameterError, match=r"This machine's host switches at once; found steps \(10, 100\)"):
        release.deploy(service, good, "x", force=True, steps=(10, 100))


def test_a_plan_runs_nothing(service: Service, good: str) -> None:
    plan = release.plan(service, good)
    assert plan.force == f"Model {good} was never judged" and not plan.commands and len(plan.steps) == 5
    assert jobs.names(service.settings.state) == [] and not service.registry.deployments("digits")


def test_a_model_that_is_too_slow_gets_no_traffic(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "first", force=True)
    hasty = dataclasses.replace(service, settings=dataclasses.replace(service.settings, target_latency=0.001))
    with pytest.raises(IntegrityError, match=f"Model {weak} must answer one example within 0.001 ms; found [0-9]+ ms"):
        release.deploy(hasty, weak, "x", force=True)
    assert serves(service) == good and list(service.registry.deployments("digits")[-1].steps)[-1] == "probe"


def test_the_host_answers_under_names_of_this_machine_alone(service: Service, good: str) -> None:
    release.deploy(service, good, "first", force=True)
    answers = [httpx.get(service.target.address, headers={"Host": host}, trust_env=False) for host in ("evil.example:80", "localhost:1")]
    assert [answer.status_code for answer in answers] == [421, 200]
    assert "found 'evil.example:80'; ask it by one of these names" in answers[0].json()["error"]["message"]


def test_an_alarm_names_what_differs(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "first", force=True)
    assert release.look(service).alarm == "" and release.look(service).platform == {good: 100}
    release.deploy(service, weak, "second", force=True)
    other = service.registry.deployments("digits")[0]
    service.registry.add(dataclasses.replace(other, at=other.at + datetime.timedelta(hours=1)))
    assert release.look(service).alarm.startswith(f"By the records {good} should serve, but the endpoint answers with {weak}: deploy")


def cut(project: Settings, model_id: str, message: str, steps: tuple[int, ...] = (100,)) -> None:
    """Deploy, and be killed with signal 9 at the moment when the journal says `message`."""

    class Killer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith(message):
                os.kill(os.getpid(), signal.SIGKILL)

    logger = logging.getLogger("rowmill.release")
    logger.setLevel(logging.INFO)
    logger.addHandler(Killer())
    release.deploy(release.open_service(project, "digits"), model_id, "to be cut", force=True, steps=steps)


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ("preflight: running", "failed"),
        ("build the bundle: running", "failed"),
        ("start dark: done", "failed"),
        ("probe: running", "failed"),
        ("shift 100 %: running", "failed"),
        ("shift 100 %: done", "serving"),
        ("verify 100 %: done", "serving"),
    ],
)
def test_a_killed_deployment_is_finished_or_cleared_away(service: Service, good: str, weak: str, message: str, outcome: str) -> None:
    release.deploy(service, good, "first", force=True)
    process = multiprocessing.get_context("spawn").Process(target=cut, args=(service.settings, weak, message))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert serves(service) == (weak if outcome == "serving" else good)
    left = release.attempt(service)
    assert left is not None and left.model_id == weak and f"{left.last}:" == message.rpartition(" ")[0]
    release.deploy(service, good, "after all", force=True)
    rows = service.registry.deployments("digits")
    assert [(row.model_id, row.outcome) for row in rows] == [(good, "serving"), (weak, outcome), (good, "serving")]
    assert rows[1].reason.startswith(f"It was cut off at the step '{left.last}'")
    assert serves(service) == good and jobs.names(service.settings.state) == ["function-digits"] and release.attempt(service) is None


def test_a_roll_back_after_a_kill_goes_to_what_served_before_it(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "first", force=True)
    release.deploy(service, weak, "second", force=True)
    process = multiprocessing.get_context("spawn").Process(target=cut, args=(service.settings, good, "verify 100 %: done"))
    process.start()
    process.join()
    assert release.roll_back(service, "back").model_id == weak == serves(service)


def interrupted(*_: object) -> None:
    """Be stopped by hand."""
    raise KeyboardInterrupt


def test_a_kill_between_the_link_and_the_reload_gives_the_traffic_back(
    service: Service, good: str, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release.deploy(service, good, "first", force=True)
    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr("rowmill.serving.local.LocalTarget._reload", interrupted)
        release.deploy(service, weak, "to be stopped", force=True)
    assert serves(service) == good and release.look(service).alarm == ""
    assert service.registry.deployments("digits")[-1].reason == "stopped by KeyboardInterrupt"


def command(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of rowmill on the service's state."""
    state = service.settings.state
    found = {"ROWMILL_STATE": str(state), "ROWMILL_TARGET_PORT": str(service.settings.target_port)}
    line = [sys.executable, "-m", "rowmill", *arguments]
    return subprocess.run(line, cwd=ROOT, env={**os.environ, **found}, capture_output=True, text=True, check=False)


def test_the_command_line_deploys_plans_and_rolls_back(service: Service, good: str, weak: str) -> None:
    refused = command(service, "deploy", good)
    assert refused.returncode == 1 and refused.stderr == (
        f"rowmill: Model {good} was never judged; judge it by 03_validate first, or force it with a reason.\n"
    )
    assert f"# Model {good} was never judged: give --force and --reason." in command(service, "plan", good).stdout
    done = command(service, "deploy", good, "--force", "--reason", "by hand")
    assert done.returncode == 0 and "probe: done in" in done.stdout and f"{good} serves digits; it took" in done.stdout
    assert command(service, "deploy", weak, "--force", "--reason", "by hand", "--steps", "x").returncode == 1
    command(service, "deploy", weak, "--force", "--reason", "by hand")
    assert command(service, "rollback").returncode == 0 and serves(service) == good
    assert command(service, "delete", good).returncode == 1
    assert f"{good} serves digits at" in command(service, "status").stdout
