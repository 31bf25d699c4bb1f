"""What `make` and the pages call: run, search, pack, stop, lab, tensorboard. Parses, calls one function, shows the answer."""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence

from rowmill import jobs, pipeline
from rowmill import settings as project
from rowmill.errors import EndpointError, RowmillError
from rowmill.pages import host
from rowmill.registry import connected
from rowmill.serving import pack, release
from rowmill.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        settings = project.load()
        if chosen.command == "run":
            _run(settings, chosen.source, chosen.parameters)
        elif chosen.command == "search":
            _search(settings, chosen.parameters)
        elif chosen.command == "pack":
            _pack(settings, chosen.model)
        elif chosen.command == "stop":
            _stop(settings)
        else:
            command = ["jupyterlab", "notebooks"]
            if chosen.command == "tensorboard":
                command = ["tensorboard.main", "--logdir", str(settings.state / "tensorboard"), "--host", "127.0.0.1"]
            return subprocess.run([sys.executable, "-m", *command], cwd=settings.root, check=False).returncode
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
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rowmill")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run all notebooks, serve the better model, show the dashboard")
    run.add_argument("--source", default="")
    run.add_argument("--parameters", default="")
    search = commands.add_parser("search", help="run the search alone; what it registers is not judged yet")
    search.add_argument("--parameters", default="")
    packing = commands.add_parser("pack", help="pack a model to go")
    packing.add_argument("--model", default="")
    commands.add_parser("stop", help="stop all that `run` left running")
    commands.add_parser("tensorboard", help="open the searches in TensorBoard, for this machine alone")
    commands.add_parser("lab", help="open JupyterLab on the notebooks")
    return parser


def _run(settings: Settings, source: str, parameters: str) -> None:
    host.check(settings)
    handed = pipeline.run(settings, source, parameters)
    service = release.open_service(settings, handed["service"])
    silence = None
    try:
        answers = release.serving(service) is not None
    except EndpointError as error:
        answers, silence = False, error
    print(f"Model: {handed['model_id']}")
    print(f"Verdict: {handed['sentence']}")
    print(f"Function: {service.target.address if answers else 'none answers'}")
    print(f"Dashboard: {host.start(settings)}")
    if answers:
        example = settings.state / "serving" / service.name / "current" / "example.json"
        print(f"Try: curl -s -H 'Content-Type: application/json' -d @{shlex.quote(str(example))} {service.target.address}")
    print("Stop: make stop", flush=True)
    if silence:
        raise silence


def _search(settings: Settings, parameters: str) -> None:
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
