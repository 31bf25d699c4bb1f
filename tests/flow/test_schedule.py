"""When it runs by itself, by a simulated clock and the real rules of a zone; what else begins a run; other calendars."""

import contextlib
import dataclasses
import datetime
import itertools
import json
import multiprocessing
import subprocess
import sys
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rowmill import jobs, scheduler
from rowmill.data import dataset, sources
from rowmill.data.warehouse import connect
from rowmill.errors import HeldError, PipelineError
from rowmill.flow import calendars, runs, schedule
from rowmill.flow.schedule import Schedule
from rowmill.settings import Settings

from tests.flow import mill as mills
from tests.google.stub import Google

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture(name="mill")
def fixture_mill(tmp_path: Path) -> Iterator[Settings]:
    """A project that never ran; all that is left running is stopped."""
    mill = mills.make(tmp_path / "mill")
    yield mill
    for name in jobs.names(mill.state):
        jobs.stop(mill.state, name)


def plan(mill: Settings, line: str) -> None:
    """Write the section `schedule`."""
    path = mill.root / "pipeline.yaml"
    path.write_text(path.read_text().partition("schedule:")[0] + f"schedule: {line}\n")


def at(*moment: int, fold: int = 0) -> datetime.datetime:
    """Return a moment in UTC, given by Berlin's clock."""
    return datetime.datetime(*moment, tzinfo=BERLIN, fold=fold).astimezone(datetime.UTC)


def fires(mill: Settings, begin: datetime.datetime, end: datetime.datetime, step: datetime.timedelta = MINUTE) -> list[str]:
    """Let the scheduler look again and again; return when it began runs, by Berlin's clock."""
    found: list[str] = []
    moment = begin
    while moment <= end:
        told = moment.astimezone(BERLIN)
        scheduler.look(mill, moment, lambda _, told=told: found.append(f"{told:%d %H:%M %Z}"))
        moment += step
    return found


@pytest.mark.parametrize(
    ("cron", "day", "wanted"),
    [
        pytest.param("30 2 * * *", 29, ["29 03:00 CEST"], id="spring, a time that is skipped"),
        pytest.param("0 3 * * *", 29, ["29 03:00 CEST"], id="spring, behind it"),
        pytest.param("0 * * * *", 29, ["29 01:00 CET", "29 03:00 CEST", "29 04:00 CEST"], id="spring, hourly"),
    ],
)
def test_in_spring_nothing_is_left_out_and_nothing_comes_twice(mill: Settings, cron: str, day: int, wanted: list[str]) -> None:
    plan(mill, f'{{cron: "{cron}", zone: Europe/Berlin}}')
    assert fires(mill, at(2026, 3, day, 0, 10), at(2026, 3, day, 4, 10)) == wanted


@pytest.mark.parametrize(
    ("cron", "wanted"),
    [
        pytest.param("30 2 * * *", ["25 02:30 CEST"], id="autumn, a time that comes twice"),
        pytest.param("0 3 * * *", ["25 03:00 CET"], id="autumn, behind it"),
        pytest.param("0 * * * *", ["25 01:00 CEST", "25 02:00 CEST", "25 02:00 CET", "25 03:00 CET", "25 04:00 CET"], id="autumn, hourly"),
    ],
)
def test_in_autumn_nothing_is_left_out_and_nothing_comes_twice(mill: Settings, cron: str, wanted: list[str]) -> None:
    plan(mill, f'{{cron: "{cron}", zone: Europe/Berlin}}')
    assert fires(mill, at(2026, 10, 25, 0, 10), at(2026, 10, 25, 4, 10)) == wanted


def test_every_second_monday_over_years_keeps_its_hour_and_its_weeks() -> None:
    weekly = Schedule("0 3 * * MON", "Europe/Berlin", weeks=2)
    planned = list(weekly.after(at(2024, 1, 1, 0, 0), at(2027, 1, 1, 0, 0)))
    assert len(planned) == 78 and {(moment.hour, moment.minute, moment.weekday()) for moment in planned} == {(3, 0, 0)}
    assert {moment.tzname() for moment in planned} == {"CET", "CEST"}
    days = [moment.date() for moment in planned]
    assert {later - earlier for earlier, later in itertools.pairwise(days)} == {datetime.timedelta(weeks=2)}


def test_missed_fires_are_caught_up_once_by_a_scheduler_that_starts_again(mill: Settings) -> None:
    plan(mill, '{cron: "0 3 * * *", zone: Europe/Berlin}')
    assert fires(mill, at(2026, 5, 1, 2, 59), at(2026, 5, 1, 3, 1)) == ["01 03:00 CEST"]
    # Switched off for ten days; what it knows is on disk.
    assert fires(mill, at(2026, 5, 11, 12, 0), at(2026, 5, 11, 12, 5)) == ["11 12:00 CEST"]
    assert fires(mill, at(2026, 5, 12, 2, 59), at(2026, 5, 12, 3, 5)) == ["12 03:00 CEST"]


def test_another_plan_or_a_lost_memory_is_no_reason(mill: Settings) -> None:
    plan(mill, '{cron: "0 3 * * *"}')
    fires(mill, at(2026, 5, 1, 12, 0), at(2026, 5, 1, 12, 1))
    plan(mill, '{cron: "0 9 * * *"}')
    assert fires(mill, at(2026, 5, 1, 23, 0), at(2026, 5, 1, 23, 1)) == []
    (mill.state / "schedule.json").write_text("torn")
    assert fires(mill, at(2026, 5, 3, 23, 0), at(2026, 5, 3, 23, 1)) == []
    plan(mill, "{}")
    assert fires(mill, at(2026, 5, 9, 0, 0), at(2026, 5, 9, 0, 1)) == []


def test_new_labelled_rows_are_a_reason_once(mill: Settings, tmp_path: Path) -> None:
    rows = tmp_path / "rows.txt"
    lines = [f"{number}:{','.join(str((number * 7 + place) % 256) for place in range(16))}:{number % 2}\n" for number in range(60)]
    rows.write_text("".join(lines[:50]))
    mills.declare(mill, {"reads: [source]}": f"reads: [source], parameters: {{source: {json.dumps(str(rows))}, service: fruit}}}}"})
    dataset.ingest(connect(mill), sources.load(str(rows)), "fruit")
    plan(mill, "{new_rows: 5}")
    moment = at(2026, 5, 1, 12, 0)
    assert fires(mill, moment, moment) == []
    rows.write_text("".join(lines[:55]))
    assert fires(mill, moment, moment) == []  # five are not more than five
    rows.write_text("".join(lines))
    with jobs.lock(mill.state, runs.LOCK, what="a run"):
        assert fires(mill, moment, moment) == []  # it would be skipped, and forgotten
    reasons: list[str] = []
    for _ in range(2):
        scheduler.look(mill, moment, reasons.append)
    assert reasons == ["10 new labelled rows"]


def test_new_rows_of_a_query_cannot_be_counted(mill: Settings) -> None:
    mills.declare(mill, {"reads: [source]}": "reads: [source], parameters: {source: 'bigquery:SELECT 1'}}"})
    plan(mill, "{new_rows: 5}")
    with pytest.raises(PipelineError, match="New rows of a query are known only when it has run"):
        scheduler.look(mill, at(2026, 5, 1, 12, 0), print)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{cron: 0 3 * *}", "cron in the schedule of pipeline.yaml must be five fields, such as '0 3 * * MON'"),
        ("{cron: 0 25 * * *}", "(Bad hour); found '0 25 * * *'"),
        ("{cron: 0 3 31 2 *}", "found '0 3 31 2 *'"),
        ("{cron: 0 3 * * MON#1}", "found '0 3 * * MON#1'"),
        (
            "{cron: 0 3 * * *, zone: Berlin}",
            "zone in the schedule of pipeline.yaml must be a time zone's name, such as 'Europe/Berlin'; found 'Berlin'",
        ),
        ("{zone: ../../etc}", "zone in the schedule"),
        ("{weeks: 0}", "weeks in the schedule of pipeline.yaml must be of the kind of 1; found 0"),
        ("{new_rows: -1}", "found -1"),
        ("{deploy: 1}", "deploy in the schedule of pipeline.yaml must be of the kind of False; found 1"),
        ("{crom: 0 3 * * *}", "has the unknown word 'crom'; use some of cron, zone"),
        ("[]", None),
        ("weekly", "schedule of pipeline.yaml must be names with what belongs to them; found 'weekly'"),
    ],
)
def test_a_schedule_that_cannot_be_used_is_one_sentence(mill: Settings, line: str, words: str | None) -> None:
    plan(mill, line)
    with contextlib.nullcontext() if words is None else pytest.raises(PipelineError) as caught:
        schedule.load(mill)
    assert words is None or words in str(caught.value)


def test_a_scheduled_run_deploys_only_where_it_may(mill: Settings) -> None:
    plan(mill, "{deploy: false}")
    scheduler.fire(mill, "planned for today")
    assert "sell" not in mills.ran(mill)
    (first,) = runs.known(mill, connect(mill))
    assert (first.outcome, first.trigger, first.states["sell"]) == ("completed", "planned for today", "waiting")
    plan(mill, "{deploy: true}")
    scheduler.fire(mill, "10 new labelled rows")
    assert mills.ran(mill) == ["sell"]


def test_a_fire_from_elsewhere_heeds_the_weeks(mill: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    weeks = 50_000  # none of them is now
    plan(mill, f"{{weeks: {weeks}}}")
    assert scheduler.fire(mill) == {} and "not one of the weeks" in capsys.readouterr().out and mills.ran(mill) == []


def _fire(root: Path, gate: "multiprocessing.synchronize.Barrier") -> None:
    from rowmill import settings  # pylint: disable=import-outside-toplevel

    mill = settings.load(root)
    gate.wait()
    scheduler.fire(mill, "planned")


def test_of_two_fires_at_once_one_runs_and_one_is_recorded_as_skipped(mill: Settings) -> None:
    mills.declare(mill, {"steps:\n": "steps:\n  alone: {notebook: report, parameters: {wait: 2.0}}\n"})
    text = (mill.root / "pipeline.yaml").read_text()
    (mill.root / "pipeline.yaml").write_text("\n".join(text.splitlines()[:3]) + "\n")
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(2)
    both = [context.Process(target=_fire, args=(mill.root, gate)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0] and mills.ran(mill) == ["report"]
    known = runs.known(mill, connect(mill))
    assert sorted(run.outcome for run in known) == ["completed", "skipped"]
    assert next(run for run in known if run.outcome == "skipped").reason.startswith("A run is going on already; found process ")


def test_what_the_scheduler_begins_outlives_it_and_a_second_scheduler_is_refused(mill: Settings) -> None:
    scheduler.begin(mill, "planned")
    scheduler.begin(mill, "planned")  # the first one goes on
    work = jobs.look(mill.state, scheduler.JOB)
    assert work and work.is_running and work.what == "a run, planned"
    assert [run.outcome for run in runs.known(mill, connect(mill)) if run.outcome == "skipped"] == ["skipped"]
    jobs.stop(mill.state, scheduler.JOB)
    with jobs.lock(mill.state, "schedule", what="a schedule"), pytest.raises(HeldError, match="A schedule is going on already"):
        scheduler.watch(mill)


WEEKLY = Schedule("0 3 * * MON", "Europe/Berlin")


def test_the_crontabs_line_does_what_it_says(mill: Settings) -> None:
    strange = mill.root.with_name("a mill, 100 % good")
    mill.root.rename(strange)
    moved = dataclasses.replace(mill, root=strange, state=strange / ".rowmill")
    comment, zone, line = calendars.crontab(moved, WEEKLY).splitlines()
    assert comment.startswith("#") and zone == "CRON_TZ=Europe/Berlin" and line.startswith("0 3 * * MON cd ")
    (strange / ".venv" / "bin").mkdir(parents=True)
    python = strange / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    # As cron reads it: the sixth field to the end, a percent sign by a backslash before it.
    command = line.split(maxsplit=5)[5].replace("\\%", "%")
    subprocess.run(["/bin/sh", "-c", command], check=True, cwd="/", env={"PATH": "/usr/bin:/bin"})
    assert (moved.state / "fire.log").read_text() == "-m rowmill fire\n"


def test_the_workflow_is_one_that_runs_one_at_a_time(mill: Settings) -> None:
    text = calendars.workflow(mill, WEEKLY)
    read = yaml.safe_load(text)
    assert "\non:\n" in text and read[True]["schedule"] == [{"cron": "0 3 * * MON", "timezone": "Europe/Berlin"}]
    assert read["concurrency"] == {"group": "rowmill-run", "cancel-in-progress": False}
    assert read["jobs"]["run"]["steps"][-1] == {"run": ".venv/bin/python -m rowmill fire"}
    path = mill.root / "rowmill.yml"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    for written, code in ((text, 0), (text.replace("cron:", "crown:"), 1)):
        path.write_text(written)
        assert subprocess.run(command, capture_output=True, check=False).returncode == code


def test_without_a_cron_line_or_a_project_other_calendars_are_refused(mill: Settings) -> None:
    for calendar in (calendars.crontab, calendars.workflow, calendars.cloud_scheduler):
        with pytest.raises(PipelineError, match="has no cron line"):
            calendar(mill, Schedule())
    with pytest.raises(PipelineError, match="Cloud Scheduler needs a project; set cloud.project"):
        calendars.cloud_scheduler(mill, WEEKLY)


def test_gcloud_takes_the_line_for_cloud_scheduler(mill: Settings, google: Google) -> None:
    cloud = dataclasses.replace(mill.cloud, project=google.project, region="europe-west1")
    line = calendars.cloud_scheduler(dataclasses.replace(mill, cloud=cloud), WEEKLY)
    done = subprocess.run(["bash", "-c", line], env=google.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (job,) = google.projects.things("jobs")
    assert (job["schedule"], job["timeZone"]) == ("0 3 * * MON", "Europe/Berlin")
    target = job["httpTarget"]
    assert target["uri"] == f"https://run.googleapis.com/v2/projects/{google.project}/locations/europe-west1/jobs/rowmill-run:run"
    assert target["httpMethod"] == "POST" and target["oauthToken"]["serviceAccountEmail"].startswith("rowmill-scheduler@")
