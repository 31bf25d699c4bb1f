"""What Google answers when it refuses, each as one sentence that names the table and the next step."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from google.api_core import exceptions as api
from google.auth import exceptions as auth
from pandas_gbq import exceptions as gbq
from requests.exceptions import RequestException

from rowmill.errors import NotFoundError, RowmillError, SettingsError, WarehouseError


class GaveUp(Exception):
    """No answer within the time that a request has; its cause is what came last."""


_REFUSALS = (
    GaveUp,
    api.GoogleAPIError,
    auth.GoogleAuthError,
    RequestException,
    gbq.AccessDenied,
    gbq.GenericGBQException,
    gbq.InvalidSchema,
    gbq.QueryTimeout,
    gbq.TableCreationError,
)
_UNREACHABLE = (api.RetryError, api.ServerError, auth.TransportError, RequestException)
_QUOTAS = {"quotaExceeded", "rateLimitExceeded", "jobRateLimitExceeded", "dailyLimitExceeded"}
_OVER_LIMIT = "bytesBilledLimitExceeded"  # Google's client takes it for an error of the server
_LOG_IN = "run `gcloud auth application-default login`, then try again"


@dataclass(frozen=True)
class Asked:
    """What is asked of BigQuery.

    Attributes:
        what: A table or query, as sentences call it.
        project: Pays for it.
        location: Where the project's settings say it lies; empty when they do not.
        role: What is needed to use it, beside running jobs.
    """

    what: str
    project: str
    location: str
    role: str


@contextlib.contextmanager
def told(asked: Asked) -> Iterator[None]:
    """Raise Google's refusals as sentences.

    Args:
        asked: What they refuse.

    Raises:
        NotFoundError: There is no such project.
        SettingsError: The location is another one.
        WarehouseError: All other refusals, and silence.
    """
    try:
        yield
    except _REFUSALS as error:
        raise _sentence(_root(error), asked) from error


def message(error: BaseException) -> str:
    """Return what Google says in words, on one line, without the request's address."""
    errors = getattr(error, "errors", None) or [{}]
    said = errors[0].get("message", "") if isinstance(errors[0], dict) else ""
    return " ".join((said or getattr(error, "message", "") or str(error)).split())[:300].rstrip(". ")


def too_much(what: str, found: str) -> WarehouseError:
    """Return the refusal of a query that would be billed more bytes than is allowed.

    Args:
        what: What it reads.
        found: How much that is.
    """
    step = "select less, or raise warehouse.maximum_bytes_billed in rowmill.toml"
    return WarehouseError(f"BigQuery would bill more than is allowed for {what}", found=found, step=step)


def _reasons(error: BaseException) -> set[str]:
    return {str(entry.get("reason")) for entry in getattr(error, "errors", None) or () if isinstance(entry, dict)}


def _root(error: BaseException) -> BaseException:
    """Return what Google's own client raised: pandas-gbq wraps it in errors that say less."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, api.GoogleAPICallError | auth.GoogleAuthError | RequestException):
            return inner
        inner = inner.__cause__ or inner.__context__
    return error


def _sentence(error: BaseException, asked: Asked) -> RowmillError:
    what = asked.what
    if isinstance(error, auth.DefaultCredentialsError):
        return WarehouseError(f"BigQuery's {what} needs Google credentials and this machine has none", step=_LOG_IN)
    if isinstance(error, auth.RefreshError | api.Unauthorized | gbq.AccessDenied):
        return WarehouseError(f"Google no longer accepts this machine's credentials for {what}: {message(error)}", step=_LOG_IN)
    if isinstance(error, api.Forbidden | api.TooManyRequests) or _OVER_LIMIT in _reasons(error):
        return _forbidden(error, asked)
    if isinstance(error, _UNREACHABLE):
        return WarehouseError(f"BigQuery cannot be reached for {what}: {message(error)}", step="look at the network, then try again")
    if isinstance(error, api.NotFound | api.BadRequest):
        return _missing(error, asked)
    return WarehouseError(f"BigQuery cannot do this with {what}: {message(error)}", step="mend that, then try again")


def _forbidden(error: BaseException, asked: Asked) -> RowmillError:
    said, reasons = message(error), _reasons(error)
    what, project = asked.what, asked.project
    if _OVER_LIMIT in reasons:
        return too_much(what, found=said)
    if reasons & _QUOTAS or isinstance(error, api.TooManyRequests):
        return WarehouseError(
            f"A quota of BigQuery is used up for {what}: {said}",
            step=f"wait until it is filled again, or raise it for project {project} under IAM & Admin, Quotas",
        )
    if "billing" in said.lower():
        return WarehouseError(f"BigQuery refuses {what}: {said}", step=f"link project {project} to a billing account")
    if "accessNotConfigured" in reasons:
        enable = f"run `gcloud services enable bigquery.googleapis.com bigquerystorage.googleapis.com --project={project}`"
        return WarehouseError(f"BigQuery is not switched on for {what}: {said}", step=enable)
    return WarehouseError(
        f"Google does not let you use {what}: {said}",
        step=f"ask for the roles BigQuery User on project {project} and {asked.role}",
    )


def _missing(error: api.ClientError, asked: Asked) -> RowmillError:
    said, what, project = message(error), asked.what, asked.project
    if "not found: project" in said.lower() or "has not enabled bigquery" in said.lower():
        return NotFoundError(
            f"There is no project {project!r} with BigQuery for {what}: {said}",
            step="set warehouse.project in rowmill.toml to one that `gcloud projects list` shows",
        )
    # Where a data set lies is asked before it is used: only one that is to be made can have no such place.
    if asked.location and "location" in said.lower() and isinstance(error, api.BadRequest):
        return SettingsError(
            f"BigQuery cannot make {what} in warehouse.location = {asked.location!r}: {said}",
            step="set warehouse.location in rowmill.toml to 'EU', 'US' or a region such as 'europe-west4'",
        )
    step = "look it up in Google's console" if isinstance(error, api.NotFound) else "mend that, then try again"
    return WarehouseError(f"BigQuery does not take this for {what}: {said}", step=step)
