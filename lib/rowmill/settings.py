"""What is true of a project: one frozen object, read once from `rowmill.toml` and `ROWMILL_*`."""

import dataclasses
import getpass
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rowmill.errors import ParameterError, SettingsError
from rowmill.records import check_service
from rowmill.sections import CHECKS, Cloud, Gate, Monitor

FILE = "rowmill.toml"


@dataclass(frozen=True)
class Settings:
    """A project's settings.

    Attributes:
        root: The folder that holds `rowmill.toml`, `notebooks/` and `cloud_function/`.
        state: The folder of everything written locally.
        service_name: The service of every run; empty for the source's name.
        warehouse_kind: `sqlite` or `bigquery`.
        warehouse_project, warehouse_dataset, warehouse_location: The Google Cloud project that pays and holds the
            data set, the data set's name, and where it lies, such as `EU` or `europe-west4`; for `bigquery`, and the
            project for a source in BigQuery.
        warehouse_maximum_bytes_billed: The most that one query may be billed, in bytes.
        warehouse_emulator: Address of an emulator in BigQuery's place, with its scheme; by Google's own variable
            `BIGQUERY_EMULATOR_HOST` alone, for their client reads that too. Empty for Google.
        artefacts_root: The folder of registered model files.
        target_kind: `local`, or `gcloud` for Cloud Run functions.
        target_port: Port on 127.0.0.1 of the first service; each further service takes the next.
        target_latency: The longest that one golden example may take when a model is probed, in milliseconds.
        target_allow_origin: Whose pages may ask the function from a browser, such as `https://example.org`, or `*`; empty: nobody's.
        dashboard_port: Port on 127.0.0.1 of the dashboard.
        dashboard_read_only: Whether the dashboard only shows: its viewers see all, and its buttons refuse.
        gate: The thresholds of verdicts.
        cloud: Where on Google Cloud a function serves, and as what; for `gcloud`.
        monitor: What is kept of the requests that a function answered.
    """

    root: Path
    state: Path
    service_name: str
    warehouse_kind: str
    warehouse_project: str
    warehouse_dataset: str
    warehouse_location: str
    warehouse_maximum_bytes_billed: int
    warehouse_emulator: str
    artefacts_root: Path
    target_kind: str
    target_port: int
    target_latency: float
    target_allow_origin: str
    dashboard_port: int
    dashboard_read_only: bool
    gate: Gate = Gate()
    cloud: Cloud = Cloud()
    monitor: Monitor = Monitor()


DEFAULTS: dict[str, dict[str, Any]] = {
    "service": {"name": ""},
    "warehouse": {"kind": "sqlite", "project": "", "dataset": "rowmill", "location": "EU", "maximum_bytes_billed": 10 * 10**9},
    "artefacts": {"root": ".rowmill/artefacts"},
    "target": {"kind": "local", "port": 8501, "latency": 1000.0, "allow_origin": ""},
    "cloud": dataclasses.asdict(Cloud()),
    "monitor": dataclasses.asdict(Monitor()),
    "dashboard": {"port": 8866, "read_only": False},
    "gate": {**dataclasses.asdict(Gate()), "checks": ", ".join(CHECKS)},
}
CHOICES = {
    ("warehouse", "kind"): ("sqlite", "bigquery"),
    ("target", "kind"): ("local", "gcloud"),
    ("cloud", "ingress"): ("all", "internal", "internal-and-cloud-load-balancing"),
    ("gate", "measure"): ("accuracy", "cost"),
}
_PROJECT = (r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]", "'my-project-1234', as `gcloud projects list` shows it")
# What a text must look like where it is used: by the setting that uses it.
_PATTERNS = {
    ("warehouse", "bigquery"): {
        "project": _PROJECT,
        "dataset": (r"[A-Za-z0-9_]{1,1024}", "'rowmill': letters, digits and underscores"),
        "location": (r"[A-Za-z]+(-[a-z]+[0-9]+)?", "'EU', 'US' or a region such as 'europe-west4'"),
    },
    ("target", "gcloud"): {
        "project": _PROJECT,
        "region": (r"[a-z]+-[a-z]+[0-9]+", "'europe-west1', as `gcloud run regions list` shows it"),
        "service_account": (r"([a-z0-9-]+@[a-z0-9.-]+)?", "'rowmill-function@my-project-1234.iam.gserviceaccount.com'"),
        "memory": (r"[0-9]+(Mi|Gi)", "'512Mi' or '1Gi'"),
        "base_image": (r"[a-z0-9./:-]+", "'python313'"),
        "hash_key": (r"([A-Za-z0-9_-]{1,255}:([0-9]+|latest))?", "'rowmill-hash-key:1', a secret with its version"),
    },
}
# Lowest and highest of numbers that are no whole ones.
_RANGES = {"level": (1e-6, 0.5), "flips": (0.0, 1.0), "abstain_below": (0.0, 1.0), "size": (1.0, 1e6)}
_RANGES |= {"cold_start": (1.0, 1e6), "latency": (1.0, 1e6), "minimal_effect": (0.0, 100.0), "class_drop": (0.1, 100.0)}


def load(folder: Path | None = None) -> Settings:
    """Read the settings of the project that `folder` (or the working directory) lies in.

    Raises:
        SettingsError: There is no `rowmill.toml` here or above, or it holds something that cannot be used.
    """
    root = _find_root((folder or Path.cwd()).resolve())
    values = _merge(_read(root / FILE), os.environ)
    state = root / os.environ.get("ROWMILL_STATE", ".rowmill")
    artefacts = Path(values["artefacts"]["root"])
    moved = artefacts.parts[:1] == (".rowmill",)
    return Settings(
        root=root,
        state=state,
        service_name=values["service"]["name"],
        **{f"warehouse_{key}": value for key, value in values["warehouse"].items()},
        warehouse_emulator=os.environ.get("BIGQUERY_EMULATOR_HOST", ""),
        artefacts_root=state.joinpath(*artefacts.parts[1:]) if moved else root / artefacts,
        target_kind=values["target"]["kind"],
        target_port=values["target"]["port"],
        target_latency=values["target"]["latency"],
        target_allow_origin=_origin(values["target"]["allow_origin"]),
        dashboard_port=values["dashboard"]["port"],
        dashboard_read_only=values["dashboard"]["read_only"],
        gate=Gate(**{**values["gate"], "checks": _checks(values["gate"])}),
        cloud=Cloud(**values["cloud"]),
        monitor=Monitor(**values["monitor"]),
    )


def _origin(value: str) -> str:
    # What a browser sends, to the letter: no path, no slash at the end.
    if value and not re.fullmatch(r"\*|https?://[a-z0-9.-]+(:[0-9]+)?", value):
        raise SettingsError(
            "Setting target.allow_origin must be '*' or one such as 'https://example.org'", found=repr(value), step=f"mend it in {FILE}"
        )
    return value


def actor() -> str:
    """Return who acts: the user's name, or the uid where it has none, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@dataclass(frozen=True)
class Chief:
    """Where the chief of a search with workers listens, and this worker's name, by Keras Tuner's own variables."""

    host: str
    port: int
    worker: str


def chief() -> Chief:
    """Return this worker's chief.

    Raises:
        SettingsError: A variable is not set.
    """
    names = ("KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID")
    missing = [name for name in names if not os.environ.get(name) or (name == names[1] and not os.environ[name].isdecimal())]
    if missing:
        raise SettingsError(f"A worker needs the variable {missing[0]}", step="set it to what the search's chief was given")
    host, port, worker = (os.environ[name] for name in names)
    return Chief(host, int(port), worker)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with `variables` on top, for a process to be started."""
    return {**os.environ, **variables}


def _find_root(start: Path) -> Path:
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder
    raise SettingsError(f"There is no {FILE} in {start} or above it", step="start from inside the project's folder")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no TOML: {error}", step="mend that line") from error


def _merge(written: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    unknown = [name for name, section in written.items() if name not in DEFAULTS or not isinstance(section, dict)]
    if unknown:
        raise SettingsError(f"{FILE} has the unknown section {unknown[0]!r}", step=f"use one of {', '.join(f'[{s}]' for s in DEFAULTS)}")
    unknown = [f"{s}.{k}" for s, d in DEFAULTS.items() for k in written.get(s, {}) if k not in d]
    if unknown:
        known = ", ".join(f"{s}.{k}" for s, d in DEFAULTS.items() for k in d)
        raise SettingsError(f"{FILE} has the unknown setting {unknown[0]!r}", step=f"use one of {known}")
    merged: dict[str, dict[str, Any]] = {}
    for section, defaults in DEFAULTS.items():
        merged[section] = {}
        for key, default in defaults.items():
            value: Any = environ.get(f"ROWMILL_{section}_{key}".upper(), written.get(section, {}).get(key, default))
            merged[section][key] = _checked(section, key, value, default)
    merged["cloud"]["project"] = merged["cloud"]["project"] or merged["warehouse"]["project"]
    for section, checked in (("warehouse", "warehouse"), ("target", "cloud")):
        _check_texts(section, merged[section]["kind"], checked, merged[checked])
    return merged


def _check_texts(section: str, kind: str, checked: str, values: Mapping[str, Any]) -> None:
    """Check the texts of section `checked` where setting `section`.kind uses them."""
    for key, (pattern, example) in _PATTERNS.get((section, kind), {}).items():
        if not re.fullmatch(pattern, values[key]):
            raise SettingsError(
                f"Setting {checked}.{key} cannot be used with {section}.kind = {kind!r}",
                found=repr(values[key]),
                step=f"give one such as {example} in {FILE}",
            )


def _checks(gate: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the checks that a verdict makes; accuracy alone, which a spoiled class or lost calibration do not move, is refused."""
    checks = tuple(name.strip() for name in gate["checks"].split(",") if name.strip())
    unknown = [name for name in checks if name not in CHECKS]
    if unknown:
        raise SettingsError(f"Setting gate.checks has the unknown check {unknown[0]!r}", step=f"use some of {', '.join(CHECKS)} in {FILE}")
    if not {"classes", "nll", "calibration"} & set(checks):
        raise SettingsError(
            "Accuracy alone cannot decide a verdict: gate.checks must have one of classes, nll, calibration",
            found=repr(gate["checks"]),
            step=f"add one in {FILE}",
        )
    if gate["measure"] == "cost" and not gate["costs"]:
        raise SettingsError("Setting gate.measure = 'cost' needs a cost matrix", step=f"name its CSV file as gate.costs in {FILE}")
    return checks


def _checked(section: str, key: str, value: Any, default: Any) -> Any:
    if isinstance(default, bool):
        return _switch(f"{section}.{key}", value)
    if isinstance(default, float):
        return _number(f"{section}.{key}", value, _RANGES.get(key, (0.0, math.inf)))
    if isinstance(default, int):
        return _whole(section, key, value)
    choices = CHOICES.get((section, key))
    if not isinstance(value, str) or (choices and value not in choices):
        allowed = " or ".join(repr(choice) for choice in choices) if choices else "text"
        raise SettingsError(f"Setting {section}.{key} must be {allowed}", found=repr(value), step=f"mend it in {FILE}")
    if value and (section, key) == ("service", "name"):
        try:
            return check_service(value)
        except ParameterError as error:
            raise SettingsError(f"Setting service.name cannot be used: {str(error).rstrip('.')}", step=f"mend it in {FILE}") from error
    return value


def _switch(name: str, value: Any) -> bool:
    known = {"true": True, "false": False}.get(str(value).lower())
    if known is None:
        raise SettingsError(f"Setting {name} must be true or false", found=repr(value), step=f"mend it in {FILE}")
    return known


def _whole(section: str, key: str, value: Any) -> int:
    lowest, highest, what = 1, 2**63 - 1, "a whole number above 0"
    if key == "port":
        highest, what = 65535, "a port from 1 to 65535"
    elif key == "min_instances":
        lowest, what = 0, "a whole number of at least 0"
    if not str(value).isdecimal() or isinstance(value, bool) or not lowest <= int(value) <= highest:
        raise SettingsError(f"Setting {section}.{key} must be {what}", found=repr(value), step=f"mend it in {FILE}")
    return int(value)


def _number(name: str, value: Any, limits: tuple[float, float]) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not limits[0] <= number <= limits[1] or math.isinf(number):
        allowed = f"from {limits[0]:g} to {limits[1]:g}" if limits[1] < math.inf else f"of at least {limits[0]:g}"
        raise SettingsError(f"Setting {name} must be a number {allowed}", found=repr(value), step=f"mend it in {FILE}")
    return number
