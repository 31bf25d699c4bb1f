"""Settings come from one file and the environment, and a wrong one is named."""

import tomllib
from pathlib import Path

import pytest
from rowmill import sections, settings
from rowmill.errors import SettingsError


def write(folder: Path, text: str) -> Path:
    """Write a `rowmill.toml` into the folder."""
    (folder / "rowmill.toml").write_text(text)
    return folder


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    found = settings.load(write(tmp_path, ""))
    assert (found.root, found.state, found.artefacts_root) == (tmp_path, tmp_path / ".rowmill", tmp_path / ".rowmill/artefacts")
    assert (found.warehouse_kind, found.target_kind, found.target_port, found.dashboard_port) == ("sqlite", "local", 8501, 8866)


def test_the_committed_file_holds_every_default() -> None:
    found = settings.load(Path(__file__).parent)
    assert (found.warehouse_kind, found.target_port, found.service_name) == ("sqlite", 8501, "")
    assert (found.warehouse_project, found.warehouse_dataset, found.warehouse_location) == ("", "rowmill", "EU")
    assert tomllib.loads((found.root / settings.FILE).read_text()) == settings.DEFAULTS


def test_bigquery_is_named_by_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
    found = settings.load(write(tmp_path, "[warehouse]\nkind = 'bigquery'\nproject = 'my-project'\nlocation = 'europe-west4'\n"))
    assert (found.warehouse_project, found.warehouse_dataset, found.warehouse_location) == ("my-project", "rowmill", "europe-west4")
    assert found.warehouse_emulator == ""


def test_found_from_inside_the_project(tmp_path: Path) -> None:
    (write(tmp_path, "") / "notebooks" / "deep").mkdir(parents=True)
    assert settings.load(tmp_path / "notebooks" / "deep").root == tmp_path


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROWMILL_TARGET_PORT", "9001")
    monkeypatch.setenv("ROWMILL_STATE", "elsewhere")
    found = settings.load(write(tmp_path, "[target]\nport = 9000\n"))
    assert found.target_port == 9001
    monkeypatch.setenv("ROWMILL_DASHBOARD_READ_ONLY", "true")
    assert settings.load(tmp_path).dashboard_read_only and not found.dashboard_read_only
    assert found.state == tmp_path / "elsewhere" and found.artefacts_root == tmp_path / "elsewhere/artefacts"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[target]\nprot = 1\n", "unknown setting 'target.prot'; use one of service.name, warehouse.kind"),
        ("[colour]\n", "unknown section .colour."),
        ("target = 3\n", "unknown section .target.; use one of"),
        ("[target]\nport = 'x'\n", "target.port must be a port from 1 to 65535; found 'x'"),
        ("[target]\nport = 0\n", "target.port must be a port from 1 to 65535; found 0"),
        ("[target]\nport = true\n", "target.port must be a port"),
        ("[dashboard]\nread_only = 'yes'\n", "dashboard.read_only must be true or false; found 'yes'"),
        ("[warehouse]\nkind = 'postgres'\n", "warehouse.kind must be 'sqlite' or 'bigquery'; found 'postgres'"),
        (
            "[warehouse]\nkind = 'bigquery'\n",
            "warehouse.project cannot be used with warehouse.kind = 'bigquery'; found ''; give one such as 'my-project-1234'",
        ),
        ("[warehouse]\nkind = 'bigquery'\nproject = 'my project'\n", "warehouse.project cannot be used .* found 'my project'"),
        ("[warehouse]\nkind = 'bigquery'\nproject = 'my-project'\ndataset = 'a-b'\n", "warehouse.dataset cannot be used .* found 'a-b'"),
        (
            "[warehouse]\nkind = 'bigquery'\nproject = 'my-project'\nlocation = ''\n",
            "warehouse.location cannot be used .* found ''; give one such as 'EU'",
        ),
        ("[service]\nname = 3\n", "service.name must be text; found 3"),
        ("[service\n", "is no TOML"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        settings.load(write(tmp_path, text))


def test_the_gate_is_set_by_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROWMILL_GATE_MINIMAL_EFFECT", "0.5")
    found = settings.load(write(tmp_path, "[gate]\nlevel = 0.01\nchecks = 'nll,  cold start'\nclass_drop = 3\n")).gate
    assert found == sections.Gate(level=0.01, checks=("nll", "cold start"), class_drop=3.0, minimal_effect=0.5)
    assert settings.load(write(tmp_path, "")).gate == sections.Gate(minimal_effect=0.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("checks = ''", "Accuracy alone cannot decide a verdict: gate.checks must have one of classes, nll, calibration; found ''"),
        ("checks = 'size, latency'", "Accuracy alone cannot decide"),
        ("checks = 'classes, speed'", "gate.checks has the unknown check 'speed'; use some of classes, nll, calibration, size"),
        ("checks = 3", "gate.checks must be text; found 3"),
        ("level = 0", "gate.level must be a number from 1e-06 to 0.5; found 0"),
        ("level = 0.6", "gate.level must be a number"),
        ("level = 'x'", "gate.level must be a number from 1e-06 to 0.5; found 'x'"),
        ("level = true", "gate.level must be a number"),
        ("nll = -0.1", "gate.nll must be a number of at least 0; found -0.1"),
        ("nll = inf", "gate.nll must be a number"),
        ("nll = nan", "gate.nll must be a number"),
        ("latency = 0.5", "gate.latency must be a number from 1 to 1e\\+06"),
        ("measure = 'profit'", "gate.measure must be 'accuracy' or 'cost'; found 'profit'"),
        ("measure = 'cost'", "gate.measure = 'cost' needs a cost matrix; name its CSV file"),
    ],
)
def test_a_wrong_threshold_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        settings.load(write(tmp_path, f"[gate]\n{text}\n"))


def test_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="There is no rowmill.toml in"):
        settings.load(tmp_path)


@pytest.mark.parametrize("name", ["Digits", "a b", "9to5", "x" * 31, "../up"])
def test_a_service_name_must_fit_an_address(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="service.name cannot be used"):
        settings.load(write(tmp_path, f"[service]\nname = '{name}'\n"))
