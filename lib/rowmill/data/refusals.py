"""What Google answers when it refuses, each as one sentence that names the table and the next step."""

import contextlib
from collections.abc import Iterator

from google.api_core import exceptions as api
from google.auth import exceptions as auth
from pandas_gbq import exceptions as gbq
from requests.exceptions import RequestException

from rowmill.errors import NotFoundError, RowmillError, SettingsError, WarehouseError

_REFUSALS = (
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
_LOG_IN = "run `gcloud auth application-default login`, then try again"


@contextlib.contextmanager
def told(table: str, location: str) -> Iterator[None]:
    """Raise Google's refusals as sentences.

    Args:
        table: What is used, as `project.dataset.table`.
        location: Where the project's settings say it lies.

    Raises:
        NotFoundError: There is no such project.
        SettingsError: The location is another one.
        WarehouseError: All other refusals, and silence.
    """
    try:
        yield
    except _REFUSALS as error:
        raise _sentence(_root(error), table, location) from error


def message(error: BaseException) -> str:
    """Return what Google says in words, on one line, without the request's address."""
    errors = getattr(error, "errors", None) or [{}]
    said = errors[0].get("message", "") if isinstance(errors[0], dict) else ""
    return " ".join((said or getattr(error, "message", "") or str(error)).split())[:300].rstrip(". ")


def _root(error: BaseException) -> BaseException:
    """Return what Google's own client raised: pandas-gbq wraps it in errors that say less."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, api.GoogleAPICallError | auth.GoogleAuthError | RequestException):
            return inner
        inner = inner.__cause__ or inner.__context__
    return error


def _sentence(error: BaseException, table: str, location: str) -> RowmillError:
    if isinstance(error, auth.DefaultCredentialsError):
        return WarehouseError(f"BigQuery's table {table} needs Google credentials and this machine has none", step=_LOG_IN)
    if isinstance(error, auth.RefreshError | api.Unauthorized | gbq.AccessDenied):
        return WarehouseError(f"Google no longer accepts this machine's credentials for {table}: {message(error)}", step=_LOG_IN)
    if isinstance(error, _UNREACHABLE):
        return WarehouseError(f"BigQuery cannot be reached for {table}: {message(error)}", step="look at the network, then try again")
    if isinstance(error, api.Forbidden | api.TooManyRequests):
        return _forbidden(error, table)
    if isinstance(error, api.NotFound | api.BadRequest):
        return _missing(error, table, location)
    return WarehouseError(f"BigQuery cannot do this with {table}: {message(error)}", step="mend that, then try again")


def _forbidden(error: api.ClientError, table: str) -> RowmillError:
    said, reasons = message(error), {entry.get("reason") for entry in error.errors if isinstance(entry, dict)}
    project, dataset, _ = table.rsplit(".", 2)
    if reasons & _QUOTAS or isinstance(error, api.TooManyRequests):
        return WarehouseError(
            f"A quota of BigQuery is used up for {table}: {said}",
            step=f"wait until it is filled again, or raise it for project {project} under IAM & Admin, Quotas",
        )
    if "billing" in said.lower():
        return WarehouseError(f"BigQuery refuses {table}: {said}", step=f"link project {project} to a billing account")
    if "accessNotConfigured" in reasons:
        enable = f"run `gcloud services enable bigquery.googleapis.com bigquerystorage.googleapis.com --project={project}`"
        return WarehouseError(f"BigQuery is not switched on for {table}: {said}", step=enable)
    return WarehouseError(
        f"Google does not let you use {table}: {said}",
        step=f"ask for the roles BigQuery User on project {project} and BigQuery Data Editor on data set {dataset}",
    )


def _missing(error: api.ClientError, table: str, location: str) -> RowmillError:
    said, project = message(error), table.rsplit(".", 2)[0]
    if "not found: project" in said.lower() or "has not enabled bigquery" in said.lower():
        return NotFoundError(
            f"There is no project {project!r} with BigQuery for {table}: {said}",
            step="set warehouse.project in rowmill.toml to one that `gcloud projects list` shows",
        )
    # Where a data set lies is asked before it is used: only one that is to be made can have no such place.
    if "location" in said.lower() and isinstance(error, api.BadRequest):
        return SettingsError(
            f"BigQuery cannot make {table} in warehouse.location = {location!r}: {said}",
            step="set warehouse.location in rowmill.toml to 'EU', 'US' or a region such as 'europe-west4'",
        )
    return WarehouseError(f"BigQuery does not take this for {table}: {said}", step="look at the table in Google's console, then try again")
