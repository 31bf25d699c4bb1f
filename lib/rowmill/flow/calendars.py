"""The schedule as other calendars write it: a crontab's lines, a workflow of GitHub Actions, Cloud Scheduler by gcloud."""

import shlex

import yaml

from rowmill.errors import PipelineError
from rowmill.flow import steps
from rowmill.flow.schedule import Schedule
from rowmill.settings import Settings

FIRE = ".venv/bin/python -m rowmill fire"


def crontab(settings: Settings, schedule: Schedule) -> str:
    """Return lines for `crontab -e` on this machine.

    Raises:
        PipelineError: Nothing is planned by the clock.
    """
    _check(schedule)
    log = settings.state / "fire.log"
    command = f"cd {shlex.quote(str(settings.root))} && mkdir -p {shlex.quote(str(log.parent))} && {FIRE} >>{shlex.quote(str(log))} 2>&1"
    told = f"# Times of {schedule.zone}. A cron that does not know CRON_TZ, as Debian's, takes the machine's own zone."
    return "\n".join((told, f"CRON_TZ={schedule.zone}", f"{schedule.cron} {command.replace('%', chr(92) + '%')}"))


def workflow(settings: Settings, schedule: Schedule) -> str:
    """Return a workflow of GitHub Actions, for `.github/workflows/rowmill.yml`: one run at a time, none is cut off.

    Raises:
        PipelineError: Nothing is planned by the clock.
    """
    _check(schedule)
    name = settings.service_name or "rowmill"
    job = {
        "runs-on": "ubuntu-latest",
        "timeout-minutes": 360,
        "steps": [
            {"uses": "actions/checkout@v4"},
            {"uses": "actions/setup-python@v5", "with": {"python-version": "3.13"}},
            {"run": "sh bootstrap.sh run"},
            {"run": FIRE},
        ],
    }
    whole = {
        "name": name,
        "on": {"schedule": [{"cron": schedule.cron, "timezone": schedule.zone}], "workflow_dispatch": None},
        "concurrency": {"group": f"{name}-run", "cancel-in-progress": False},
        "permissions": {"contents": "read"},
        "jobs": {"run": job},
    }
    told = "# Between runs nothing stays on a runner: warehouse and target must be Google's, with a login before the last step."
    return f"{told}\n{yaml.safe_dump(whole, sort_keys=False).rstrip().replace(chr(39) + 'on' + chr(39) + ':', 'on:')}"


def cloud_scheduler(settings: Settings, schedule: Schedule) -> str:
    """Return the line of gcloud that has Cloud Scheduler start a Cloud Run job, whose container runs one fire.

    Raises:
        PipelineError: Nothing is planned by the clock, or no project is named.
    """
    _check(schedule)
    cloud = settings.cloud
    if not cloud.project:
        raise PipelineError("Cloud Scheduler needs a project", step="set cloud.project in rowmill.toml")
    name = f"{settings.service_name or 'rowmill'}-run"
    account = cloud.service_account or f"rowmill-scheduler@{cloud.project}.iam.gserviceaccount.com"
    address = f"https://run.googleapis.com/v2/projects/{cloud.project}/locations/{cloud.region}/jobs/{name}:run"
    flags = {
        "project": cloud.project,
        "location": cloud.region,
        "schedule": schedule.cron,
        "time-zone": schedule.zone,
        "uri": address,
        "http-method": "post",
        "oauth-service-account-email": account,
    }
    return shlex.join(["gcloud", "scheduler", "jobs", "create", "http", name, *(f"--{flag}={value}" for flag, value in flags.items())])


def _check(schedule: Schedule) -> None:
    if not schedule.cron:
        raise PipelineError(f"The schedule of {steps.FILE} has no cron line", step="give one, such as cron: 0 3 * * MON")
