"""A pack serves on a clean Python, without rowmill and without TensorFlow."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from rowmill import jobs
from rowmill.__main__ import main
from rowmill.serving import pack
from rowmill.serving.endpoint import Endpoint
from rowmill.serving.release import Service

from tests.conftest import ROOT

EVENT = ROOT / "tests" / "contracts" / "lambda_event.json"


@pytest.fixture
def packed(service: Service, good: str) -> Path:
    """The good model, packed."""
    return pack.pack(service.settings, service.registry, service.registry.model(good))


def golden(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the golden images and answers of a pack."""
    card = json.loads((folder / "model.json").read_text())
    return np.array(card["golden"]["instances"], np.uint8), np.array(card["golden"]["predictions"])


def test_a_pack_and_its_zip_are_whole_and_name_the_model(packed: Path, good: str) -> None:
    names = {path.name for path in packed.iterdir()}
    documented = set(re.findall(r"^\| (`.+) \|", (packed / "README.md").read_text(), re.MULTILINE))
    assert {name for line in documented for name in re.findall("`(.+?)`", line)} >= names - {"README.md", "Dockerfile"}
    assert good in (packed / "README.md").read_text() and "MODEL_ID" not in (packed / "README.md").read_text()
    with zipfile.ZipFile(f"{packed}.zip") as archive:
        assert {Path(name).name for name in archive.namelist() if not name.endswith("/")} == names


def test_packing_again_leaves_nothing_of_before(service: Service, good: str, packed: Path) -> None:
    (packed / "old.txt").write_text("old")
    assert pack.pack(service.settings, service.registry, service.registry.model(good)) == packed
    assert not (packed / "old.txt").exists()


def test_a_recorded_lambda_event_is_answered(packed: Path) -> None:
    """In a process of its own, where only the pack is on the path."""
    images, expected = golden(packed)
    file = io.BytesIO()
    Image.fromarray(images[0, :, :, 0]).save(file, "PNG")
    event = json.loads(EVENT.read_text()) | {"body": base64.b64encode(file.getvalue()).decode()}
    code = "import json, sys, aws_lambda; print(json.dumps(aws_lambda.handle(json.load(sys.stdin), None)))"
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(event), capture_output=True, text=True, check=True, cwd=packed)
    line, answer = map(json.loads, done.stdout.splitlines())
    assert line["request_id"] == "from-lambda-1" and line["code"] == 200
    assert answer["statusCode"] == 200 and answer["headers"]["X-Request-Id"] == "from-lambda-1"
    assert np.allclose(json.loads(answer["body"])["predictions"], expected[:1], atol=1e-4)


@pytest.mark.timeout(600)
def test_it_serves_in_a_fresh_environment(packed: Path, tmp_path: Path) -> None:
    """As its README says, up to the installer: uv where there is one, for its cache."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    uv = shutil.which("uv")
    installer = [uv, "pip", "install", "--no-config", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
    subprocess.run([*installer, "--quiet", "--require-hashes", "-r", packed / "requirements.txt"], check=True)
    listed = subprocess.run(
        [python, "-c", "import importlib.metadata as m; print(*(d.name for d in m.distributions()))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"rowmill", "keras", "tensorflow", "tensorflow-cpu"} & set(listed.stdout.split())
    port = jobs.free_port()
    command = [python.with_name("functions-framework"), "--target", "predict", "--host", "127.0.0.1", "--port", str(port)]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FUNCTION"))}
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(command, cwd=packed, env=plain, stdout=log, stderr=log)
    try:
        images, expected = golden(packed)
        address = f"http://127.0.0.1:{port}"
        for _ in range(300):
            if jobs.listening(port):
                break
            assert server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        with Endpoint(address) as endpoint:
            answers, _ = endpoint.predict(images)
        assert np.allclose(answers, expected, atol=1e-4)
        example = httpx.post(address, content=(packed / "example.json").read_bytes(), headers={"Content-Type": "application/json"})
        assert example.status_code == 200
    finally:
        server.terminate()
        server.wait(10)


def test_make_pack_says_where_it_lies(
    service: Service, good: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("ROWMILL_STATE", str(service.settings.state))
    assert main(["pack", "--model", good]) == 0
    assert f"Packed: {service.settings.state / 'packs' / good}" in capsys.readouterr().out
    assert main(["pack", "--model", "zzzzzzzz-t001"]) == 1
    assert "There is no model 'zzzzzzzz-t001'" in capsys.readouterr().err
