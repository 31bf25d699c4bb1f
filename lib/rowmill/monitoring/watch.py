"""Watches what serves: what was asked of each model, and whether it is what the model was judged on."""

import dataclasses
import datetime
import html
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from rowmill import shown
from rowmill.errors import IntegrityError, ParameterError, RowmillError
from rowmill.judging import reference
from rowmill.monitoring import drift, log, traffic
from rowmill.monitoring.drift import Drift
from rowmill.monitoring.log import Requests
from rowmill.monitoring.traffic import Traffic
from rowmill.records import ModelRecord, now
from rowmill.serving.release import Service

RECENT = 1_000  # requests of a model, the newest, that are compared with its holdout
ALARM_DAYS = 7.0


@dataclass(frozen=True)
class Watched:
    """What was seen.

    Attributes:
        asked: The requests.
        traffic: Of each model, that with the most requests first.
        drifts: Of each of these models, in the same order.
    """

    asked: Requests
    traffic: tuple[Traffic, ...]
    drifts: tuple[Drift, ...]

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.asked.notes)
        heads = [field.name.replace("_", " ") for field in dataclasses.fields(Traffic)]
        rows = [[shown.text(getattr(each, field.name)) for field in dataclasses.fields(each)] for each in self.traffic]
        return (
            notes
            + (shown.table_html(heads, rows) if rows else "")
            + "".join(f"<h4>{html.escape(each.model_id)}</h4>{each.as_html()}" for each in self.drifts)
        )


def days_ago(days: float) -> datetime.datetime:
    """Return the moment so many days ago.

    Raises:
        ParameterError: There is no such moment.
    """
    try:
        if days > 0:
            return now() - datetime.timedelta(days=days)
    except (OverflowError, ValueError):
        pass
    raise ParameterError(
        "Requests are looked at from some days ago on", found=f"{days:g}", step="give a number of days above 0, such as 7.0"
    )


def look(service: Service, since: datetime.datetime, until: datetime.datetime | None = None) -> Watched:
    """Return what was asked of a service in a time, and how it differs from the holdouts of the models that answered.

    Args:
        service: Which.
        since: The first moment.
        until: The moment after the last; now when not given.

    Raises:
        BusyError: Another process takes lines in, and does not end.
        WarehouseError: The place where the requests are cannot be asked.
    """
    asked = log.read(service, since, until)
    found = tuple(traffic.by_model(asked))
    known = traffic.answers(asked.rows)
    drifts = [_drift(service, each.model_id, known[known["model_id"] == each.model_id].tail(RECENT)) for each in found]
    return Watched(asked, found, tuple(drifts))


def alarm(service: Service, since: datetime.datetime | None = None) -> str:
    """Return in a sentence how the requests to the model that serves by the records differ from its holdout; an empty text if they do not.

    Args:
        service: Which.
        since: The first moment; a week ago when not given.

    Raises:
        BusyError, WarehouseError: As in `look`.
    """
    return alarm_of(service, look(service, since or days_ago(ALARM_DAYS)))


def alarm_of(service: Service, seen: Watched) -> str:
    """Return the sentence of `alarm` of what was seen."""
    serves = service.registry.last_deployed(service.name)
    return next((each.sentence for each in seen.drifts if each.model_id == serves and each.state == "differs"), "")


def pictures(service: Service, found: Drift, most: int = 8) -> list[npt.NDArray[np.uint8] | None]:
    """Return the images of a model's furthest requests, (height, width, channels) each; None where an image is not kept.

    Raises:
        WarehouseError: The place where the requests are cannot be asked.
    """
    shape = next((model.shape for model in service.registry.models(service.name) if model.model_id == found.model_id), ())
    found_images: list[npt.NDArray[np.uint8] | None] = []
    for row in found.furthest.head(most).to_dict("records"):
        kept = log.images(service, row["request_id"], row["answered_at"].to_pydatetime())
        image = kept[row["place"]] if row["place"] < len(kept) else b""
        fits = shape and len(image) == int(np.prod(shape))
        found_images.append(np.frombuffer(image, np.uint8).reshape(shape) if fits else None)
    return found_images


def _drift(service: Service, model_id: str, requests: pd.DataFrame) -> Drift:
    try:
        model = service.registry.model(model_id, service.name)
        if len(requests) < drift.FEWEST:
            return drift.silent(model_id, len(requests))
        return drift.compare(model_id, requests, _reference(service, model), model.labels)
    except RowmillError as error:
        said = f"Nothing is said of drift for {model_id}: {error}"
        return Drift(model_id, "silent", len(requests), 0, said)


def _reference(service: Service, model: ModelRecord) -> pd.DataFrame:
    if (known := reference.kept(service, model)) is not None:
        return known
    # Imported when used: all that a verdict needs takes 60 MB, and a model that was judged has its reference from then.
    from rowmill.judging import validation  # pylint: disable=import-outside-toplevel

    validation.refer(service, model)
    known = reference.kept(service, model)
    if known is None:
        raise IntegrityError(f"The answers of {model.model_id} to its holdout cannot be kept", step="make room on the disk")
    return known
