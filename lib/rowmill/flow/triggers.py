"""Reasons for a run that no clock knows: labelled rows that are new."""

from collections.abc import Mapping
from typing import Any

from rowmill.data import dataset, sources
from rowmill.data.warehouse import connect
from rowmill.errors import NotFoundError, PipelineError
from rowmill.flow import notebook, steps
from rowmill.settings import Settings

_COLUMNS = ("key", "image", "label", "holdout")


def source_mark(settings: Settings) -> str:
    """Return what is another text when the pipeline's source may have other rows; see `sources.mark`.

    Raises:
        SourceError: It is missing.
        PipelineError: It is a query, of which only a run can tell.
    """
    source = str(_reader(settings)["source"])
    if sources.is_query(source):
        raise PipelineError("New rows of a query are known only when it has run", step="schedule it by a cron line, or read a table")
    return sources.mark(source, settings)


def new_rows(settings: Settings) -> int:
    """Return how many examples of the pipeline's source the newest data set version has not; the source is read.

    Raises:
        SourceError: It cannot be read.
    """
    values = _reader(settings)
    columns = sources.Columns(**{name: values[f"{name}_column"] for name in _COLUMNS if values.get(f"{name}_column")})
    reading = sources.Reading(values.get("size", ""), values.get("colour", "as is"), columns)
    service = values.get("service") or settings.service_name or sources.service_name(str(values["source"]))
    found = sources.load(str(values["source"]), reading, settings)
    warehouse = connect(settings)
    try:
        known = dataset.rows_of(warehouse, dataset.find(warehouse, service), ("example_id",))["example_id"]
    except NotFoundError:
        return len(found.keys)
    return len(set(found.keys).difference(known))


def _reader(settings: Settings) -> Mapping[str, Any]:
    """Return the parameters of the first step that reads a source."""
    for step in steps.load(settings).values():
        if "source" in step.reads:
            return {**notebook.parameters(settings, step.notebook), **step.parameters}
    return {"source": sources.DIGITS}
