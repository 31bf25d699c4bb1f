"""How the real gcloud finds the stub: environment variables, and a throwaway account that it is logged in as."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

NAME = "deployer"
APIS = (
    "artifactregistry",
    "billingbudgets",
    "cloudbilling",
    "cloudbuild",
    "cloudfunctions",
    "cloudresourcemanager",
    "cloudscheduler",
    "iam",
    "iamcredentials",
    "logging",
    "run",
    "serviceusage",
)
TOKENS = "http://oauth2.googleapis.com/token"


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


def variables(config: Path, port: int, project: str) -> dict[str, str]:
    """Return what leads a gcloud that keeps its state in `config` to the stub.

    The stub is gcloud's HTTP proxy, and all APIs are overridden to http, so that it sees host and region as Google would.
    """
    settings = {
        "CONFIG": str(config),
        "CORE_PROJECT": project,
        "CORE_DISABLE_PROMPTS": "1",
        "CORE_DISABLE_USAGE_REPORTING": "1",
        "CORE_CHECK_GCE_METADATA": "0",
        "CORE_DISABLE_FILE_LOGGING": "1",
        "COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        "SURVEY_DISABLE_PROMPTS": "1",
        "AUTH_TOKEN_HOST": TOKENS,
        "API_ENDPOINT_OVERRIDES_STORAGE": "http://storage.googleapis.com/storage/v1/",
        "PROXY_TYPE": "http",
        "PROXY_ADDRESS": "127.0.0.1",
        "PROXY_PORT": str(port),
    }
    overrides = {f"API_ENDPOINT_OVERRIDES_{api.upper()}": f"http://{api}.googleapis.com/" for api in APIS}
    return {f"CLOUDSDK_{name}": value for name, value in (settings | overrides).items()}


def log_in(login: Login, key: str, environment: dict[str, str]) -> None:
    """Log gcloud in; tokens that it has already asked for are dropped, for each stub has its own."""
    login.config.mkdir(parents=True, exist_ok=True)
    path = login.config / "key.json"
    path.write_text(key, "utf-8")
    command = [shutil.which("gcloud") or "gcloud", "auth", "activate-service-account", login.email, f"--key-file={path}", "--quiet"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    path.unlink()
    (login.config / "access_tokens.db").unlink(missing_ok=True)
