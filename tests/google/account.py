"""How the real gcloud finds the stub: environment variables, and a throwaway account that it is logged in as."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

NAME = "deployer"
TOKENS = "https://oauth2.googleapis.com/token"
SDK = Path(shutil.which("gcloud") or "gcloud").resolve().parents[1]
BUNDLED = SDK / "platform/bundledpythonunix/bin/python3"
PYTHON = str(BUNDLED if BUNDLED.is_file() else sys.executable)


@dataclass(frozen=True)
class Login:
    """Who gcloud is logged in as, the account's public key (PEM), the folder where gcloud keeps it, and how Python is to run gcloud."""

    email: str
    public: bytes
    config: Path
    arguments: str


def new_login(project: str, config: Path, arguments: str) -> tuple[Login, str]:
    """Return an account and its key file's content, made now as Google's console would hand it out."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encodings = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    email = f"{NAME}@{project}.iam.gserviceaccount.com"
    content = {"type": "service_account", "project_id": project, "client_email": email, "client_id": "1", "private_key_id": "1"}
    content |= {"private_key": made.private_bytes(*encodings).decode(), "token_uri": TOKENS}
    public = made.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Login(email, public, config, arguments), json.dumps(content)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would lead gcloud elsewhere, or to somebody's real account."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("CLOUDSDK_", "GOOGLE_")) and "proxy" not in name.lower()
    }


@contextlib.contextmanager
def loaded() -> Iterator[str]:
    """Load gcloud once, in a process that waits for commands, and return the arguments with which Python hands them over.

    Python goes without site-packages (`-S`), which gcloud's wrapper turns on for the Python that comes with it: they cost a third of a
    deployment's time.
    """
    with tempfile.TemporaryDirectory(prefix="gcloud-") as folder:
        # A copy, for no blank may be in its path.
        script = shutil.copy(Path(__file__).with_name("loaded.py"), folder)
        command = [PYTHON, "-S", script, "--serve", f"{folder}/socket", str(SDK / "lib" / "gcloud.py")]
        variables = clean_environment() | {"CLOUDSDK_CONFIG": folder}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=variables, cwd=folder):
            yield f"-S {script} {folder}/socket"


def variables(login: Login, port: int, project: str, certificate: Path) -> dict[str, str]:
    """Return what leads gcloud to the stub: a proxy, whose certificate it trusts, and who calls."""
    settings = {
        "CONFIG": str(login.config),
        "CORE_PROJECT": project,
        "CORE_CUSTOM_CA_CERTS_FILE": str(certificate),
        "CORE_DISABLE_PROMPTS": "1",
        "CORE_DISABLE_USAGE_REPORTING": "1",
        "CORE_CHECK_GCE_METADATA": "0",
        "CORE_DISABLE_FILE_LOGGING": "1",
        "COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        "SURVEY_DISABLE_PROMPTS": "1",
        "STORAGE_PROCESS_COUNT": "1",
        "STORAGE_THREAD_COUNT": "1",
        "PROXY_TYPE": "http",
        "PROXY_ADDRESS": "127.0.0.1",
        "PROXY_PORT": str(port),
        "PYTHON": PYTHON,
        "PYTHON_ARGS": login.arguments,
    }
    return {f"CLOUDSDK_{name}": value for name, value in settings.items()}


def log_in(login: Login, key: str, environment: dict[str, str]) -> None:
    """Log gcloud in; tokens that it has already asked for are dropped, for each stub has its own."""
    login.config.mkdir(parents=True, exist_ok=True)
    path = login.config / "key.json"
    path.write_text(key, "utf-8")
    command = [shutil.which("gcloud") or "gcloud", "auth", "activate-service-account", login.email, f"--key-file={path}", "--quiet"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    path.unlink()
    (login.config / "access_tokens.db").unlink(missing_ok=True)
