"""What `make` and the pages call, such as run, deploy, stop. Parses, calls one function, shows the answer."""

import argparse
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rowmill import jobs, pipeline, scheduler
from rowmill import settings as project
from rowmill.errors import EndpointError, ParameterError, RowmillError
from rowmill.flow import calendars, cluster, schedule
from rowmill.pages import host
from rowmill.pipeline import Order
from rowmill.records import Deployment
from rowmill.registry import connected
from rowmill.serving import pack, predictions, release
from rowmill.serving.commands import Commands
from rowmill.serving.release import Service
from rowmill.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        return _obey(project.load(), chosen)
    except RowmillError as error:
        print(f"rowmill: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"rowmill: {error.filename or 'The system'} cannot be used: {error.strerror}; look at its rights and the free space.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("rowmill: stopped by hand; what served keeps serving.", file=sys.stderr)
        return 130


def _obey(settings: Settings, chosen: argparse.Namespace) -> int:
    if chosen.command in ("lab", "tensorboard"):
        return _open(settings, chosen.command)
    if chosen.command == "run":
        _run(settings, Order(chosen.source, chosen.parameters, chosen.steps, chosen.again))
    elif chosen.command == "schedule":
        _schedule(settings, chosen.calendar)
    elif chosen.command == "export":
        _export(settings, chosen)
    elif chosen.command == "fire":
        scheduler.fire(settings, chosen.reason)
    elif chosen.command == "search":
        _search(settings, chosen.parameters)
    elif chosen.command == "pack":
        _pack(settings, chosen.model)
    elif chosen.command == "stop":
        _stop(settings)
    else:
        logging.basicConfig(format="%(message)s", stream=sys.stdout)
        logging.getLogger("rowmill").setLevel(logging.INFO)  # the steps, and not each request
        _RELEASES[chosen.command](release.open_service(settings, chosen.service), chosen)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rowmill")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_runs(commands)
    search = commands.add_parser("search", help="run the search alone; what it registers is not judged yet")
    search.add_argument("--parameters", default="")
    packing = commands.add_parser("pack", help="pack a model to go")
    packing.add_argument("--model", default="")
    for name, what in (
        ("deploy", "make a model serve"),
        ("plan", "say what deploy would do, with gcloud's lines"),
        ("delete", "delete a model"),
    ):
        of_model = commands.add_parser(name, help=what)
        of_model.add_argument("model")
        _add_release(of_model)
    _add_release(commands.add_parser("rollback", help="serve what served before"))
    _add_release(commands.add_parser("status", help="ask what serves"))
    lines = commands.add_parser("predictions", help="take in what the function answered; on Google Cloud: say how to have it delivered")
    lines.add_argument("--forget", default="", metavar="REQUEST_ID", help="remove a request for good instead")
    _add_release(lines)
    commands.add_parser("stop", help="stop all that `run` left running")
    commands.add_parser("tensorboard", help="open the searches in TensorBoard, for this machine alone")
    commands.add_parser("lab", help="open JupyterLab on the notebooks")
    return parser


def _add_runs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    run = commands.add_parser("run", help="run all notebooks in which something changed, serve the better model, show the dashboard")
    run.add_argument("--source", default="")
    run.add_argument("--parameters", default="")
    run.add_argument("--steps", default="", help="these alone, with what they need")
    run.add_argument("--again", default="", help="steps to run whether something changed or not")
    clock = commands.add_parser("schedule", help="run the pipeline by itself, as pipeline.yaml says, until it is ended")
    clock.add_argument("--calendar", default="", choices=("", *_CALENDARS), help="print the same for another calendar instead")
    export = commands.add_parser("export", help="write the pipeline for Kubeflow Pipelines")
    export.add_argument("--image", default="", help="the container image that holds the project, with a tag of its own or its digest")
    export.add_argument("--steps", default="", help="these alone, with what they need")
    export.add_argument("--output", default="", help="the YAML file; left out: pipeline.kfp.yaml where rowmill writes")
    fire = commands.add_parser("fire", help="one scheduled run; it is skipped where one goes on")
    fire.add_argument("--reason", default="", help="why, for the record; without one, the schedule's weeks are heeded")


def _add_release(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--service", default="")
    parser.add_argument("--reason", default="", help="why, for the record")
    parser.add_argument("--force", action="store_true", help="without the verdict `better`; needs a reason")
    parser.add_argument("--steps", default="100", help="percents of the traffic one after the other, such as 10,100")
    parser.add_argument("--expected", default="", help="the model that a roll back must go to")


def _steps(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError("--steps takes whole percents", found=repr(text), step="give such as 10,100") from error


def _deploy(service: Service, chosen: argparse.Namespace) -> None:
    _tell(release.deploy(service, chosen.model, chosen.reason, force=chosen.force, steps=_steps(chosen.steps)))


def _roll_back(service: Service, chosen: argparse.Namespace) -> None:
    _tell(release.roll_back(service, chosen.reason, chosen.expected))


def _delete(service: Service, chosen: argparse.Namespace) -> None:
    print(f"{release.delete(service, chosen.model, chosen.reason).model_id} is deleted.")


def _plan(service: Service, chosen: argparse.Namespace) -> None:
    plan = release.plan(service, chosen.model, steps=_steps(chosen.steps))
    needs = (f"# {plan.force}: give --force and --reason.",) if plan.force else ()
    print("\n".join((f"# {plan.verdict}", *needs, *(f"# {step}" for step in plan.steps), *plan.commands)))


def _status(service: Service, _: argparse.Namespace) -> None:
    print(release.status(service))


def _tell(deployment: Deployment) -> None:
    print(f"{deployment.model_id} serves {deployment.service}; it took {deployment.seconds:.1f} s.")


def _predictions(service: Service, chosen: argparse.Namespace) -> None:
    settings, store = service.settings, service.registry.warehouse
    if chosen.forget:
        removed = predictions.forget(settings, store, service.name, chosen.forget)
        print(f"Request {chosen.forget} is forgotten ({removed} rows).")
    elif settings.target_kind == "gcloud":
        print("\n".join(Commands(settings.cloud, service.name).sink_lines(settings.warehouse_dataset)))
    else:
        print(predictions.take_in(settings, store, service.name))


_RELEASES = {"deploy": _deploy, "rollback": _roll_back, "plan": _plan, "delete": _delete, "status": _status, "predictions": _predictions}


_CALENDARS = {"cron": calendars.crontab, "actions": calendars.workflow, "cloud": calendars.cloud_scheduler}


def _run(settings: Settings, order: Order) -> None:
    host.check(settings)
    handed = pipeline.run(settings, order)
    if "model_id" not in handed:
        return  # some steps alone were asked for, and none that makes a model
    service = release.open_service(settings, handed["service"])
    silence = None
    try:
        answers = release.serving(service) is not None
    except EndpointError as error:
        answers, silence = False, error
    print(f"Model: {handed['model_id']}")
    if "sentence" in handed:
        print(f"Verdict: {handed['sentence']}")
    print(f"Function: {service.target.address if answers else 'none answers'}")
    print(f"Dashboard: {host.start(settings)}")
    if answers:
        print(f"Try: {release.curl(service)}")
    print("Stop: make stop", flush=True)
    if silence:
        raise silence


def _schedule(settings: Settings, calendar: str) -> None:
    if calendar:
        print(_CALENDARS[calendar](settings, schedule.load(settings)))
    else:
        scheduler.watch(settings)


def _export(settings: Settings, chosen: argparse.Namespace) -> None:
    path = Path(chosen.output) if chosen.output else settings.state / "pipeline.kfp.yaml"
    print(f"Exported: {cluster.export(settings, chosen.image, chosen.steps.split(), path)}")


def _open(settings: Settings, name: str) -> int:
    """Run a server of another project in the foreground; return its exit code."""
    command = ["jupyterlab", f"--ServerApp.root_dir={settings.root}", "--LabApp.default_url=/lab/tree/notebooks"]
    if name == "tensorboard":
        command = ["tensorboard.main", "--logdir", str(settings.state / "tensorboard"), "--host", "127.0.0.1"]
    return subprocess.run([sys.executable, "-m", *command], cwd=settings.root, check=False).returncode


def _search(settings: Settings, parameters: str) -> None:
    # Pages and what serves go first; where nothing else runs, it loses nothing.
    os.nice(10)
    handed = pipeline.search(settings, parameters)
    print(f"Model: {handed['model_id']}", flush=True)


def _pack(settings: Settings, model_id: str) -> None:
    registry = connected(settings)
    folder = pack.pack(settings, registry, registry.model(model_id, settings.service_name))
    print(f"Packed: {folder}")
    print(f"Zip: {folder}.zip")
    print(f"Next: read {folder / 'README.md'}")


def _stop(settings: Settings) -> None:
    stopped = [name for name in jobs.names(settings.state) if jobs.stop(settings.state, name)]
    print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


if __name__ == "__main__":
    sys.exit(main())
