"""What gcloud says when it refuses, as what it means and what to do; it ends with 1 for every error, so only its words tell."""

import re

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\r⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]")
_MEANINGS = (
    (r"UNAUTHENTICATED|do not currently have an active account|Reauthentication|invalid_grant|could not be refreshed",
     "gcloud is not logged in", "run `gcloud auth login`"),
    (r"unrecognized arguments|Invalid choice", "This gcloud is too old for the command", "run `gcloud components update`"),
    (r"SERVICE_DISABLED|has not been used in project|is not enabled|API \[.*\] not enabled",
     "An API of the project is off", "enable it by the `gcloud services enable` line of the README"),
    (r"ABORTED|Conflict for resource",
     "Somebody else changed the function at the same moment", "look at the history, ask them, then decide again"),
    (r"did not end within", "gcloud did not end in time", "look at the function in Google's console, then try again"),
    (r"Build failed|build failed", "The build on Google Cloud failed", "read the build's log at the address in the message"),
    (r"failed to start and listen|is not ready and cannot serve|HealthCheckContainerError",
     "The function does not start on Google Cloud", "read its log by `gcloud run services logs read`"),
    (r"PERMISSION_DENIED|\b403\b|does not have permission|Permission .* denied|forbidden",
     "gcloud's account may not do this", "give it the roles that the README lists"),
    (r"RESOURCE_EXHAUSTED|\b429\b|[Qq]uota", "A quota of the project is used up", "wait a minute, or raise it in Google's console"),
    (r"\[project\].* not currently set|project .*not found|Project .* does not exist|invalid project",
     "There is no such project", "set cloud.project in rowmill.toml as `gcloud projects list` shows it"),
    (r"Connection refused|Max retries|ConnectionError|Unable to find the server|timed out|Name or service not known",
     "Google Cloud cannot be reached", "look at the network, then try again"),
    (r"ALREADY_EXISTS|already exists|\b409\b", "Something of that name is there already", "look at the function in Google's console"),
    (r"NOT_FOUND|\b404\b|Cannot find|not found",
     "Google Cloud does not find what the command names", "look at cloud.project and cloud.region in rowmill.toml"),
    (r"\b50[0-9]\b|INTERNAL|UNAVAILABLE", "Google Cloud has a fault of its own", "try again in a minute"),
)  # fmt: skip


def meaning(stderr: str) -> tuple[str, str, str]:
    """Return what gcloud's words mean, the words themselves in one line, and the next step."""
    words = said(stderr)
    for pattern, what, step in _MEANINGS:
        if re.search(pattern, stderr):
            return what, words, step
    return "gcloud refused", words, "run the command by hand and read what it says"


def said(stderr: str) -> str:
    """Return gcloud's error in one line of at most 300 characters."""
    lines = [line.strip() for line in _ANSI.sub(" ", stderr).splitlines() if line.strip()]
    first = next((number for number, line in enumerate(lines) if line.startswith("ERROR:")), max(0, len(lines) - 1))
    text = re.sub(r"\s+", " ", " ".join(lines[first : first + 4]))
    return (text.removeprefix("ERROR: ") or "no word")[:300].rstrip(". ")
