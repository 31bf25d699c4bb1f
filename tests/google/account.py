"""How the real gcloud finds the stub: environment variables, and a throwaway account that it is logged in as."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

NAME = "deployer"
PAUSES = Path(__file__).with_name("impatient.py")
TOKENS = "https://oauth2.googleapis.com/token"


@dataclass(frozen=True)
class Login:
    """Who gcloud is logged in as, the account's public key (PEM), and the folder where gcloud keeps it."""

    email: str
    public: bytes
    config: Path


def new_key(project: str, config: Path) -> tuple[Login, str]:
    """Return an account and its key file's content, made now as Google's console would hand it out."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encodings = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    email = f"{NAME}@{project}.iam.gserviceaccount.com"
    content = {"type": "service_account", "project_id": project, "client_email": email, "client_id": "1", "private_key_id": "1"}
    content |= {"private_key": made.private_bytes(*encodings).decode(), "token_uri": TOKENS}
    public = made.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Login(email, public, config), json.dumps(content)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would lead gcloud elsewhere, or to somebody's real account."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("CLOUDSDK_", "GOOGLE_")) and "proxy" not in name.lower()
    }


def variables(config: Path, port: int, project: str, certificate: Path) -> dict[str, str]:
    """Return what leads a gcloud that keeps its state in `config` to the stub: a proxy, whose certificate it trusts, and who calls."""
    # Without site-packages, which gcloud's wrapper turns on for this Python, a deployment costs 1.0 s of the processor instead of 1.7.
    python = Path(shutil.which("gcloud") or "gcloud").resolve().parents[1] / "platform/bundledpythonunix/bin/python3"
    settings = {
        "CONFIG": str(config),
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
        "PYTHON": str(python if python.is_file() else sys.executable),
        "PYTHON_ARGS": f"-S {config / PAUSES.name}",
    }
    return {f"CLOUDSDK_{name}": value for name, value in settings.items()}


def log_in(login: Login, key: str, environment: dict[str, str]) -> None:
    """Log gcloud in; tokens that it has already asked for are dropped, for each stub has its own."""
    login.config.mkdir(parents=True, exist_ok=True)
    shutil.copy(PAUSES, login.config)
    path = login.config / "key.json"
    path.write_text(key, "utf-8")
    command = [shutil.which("gcloud") or "gcloud", "auth", "activate-service-account", login.email, f"--key-file={path}", "--quiet"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    path.unlink()
    (login.config / "access_tokens.db").unlink(missing_ok=True)
