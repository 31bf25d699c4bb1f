"""Rows scored in one go: a source in, a table of predictions out, answered by the very handler that would serve them.

Rows are appended in chunks. What is there already is not asked again, so that a run that was cut off goes on where it was.
"""

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
from tqdm.auto import tqdm

from rowmill import jobs, settings
from rowmill.data import contract
from rowmill.data.sources import Source
from rowmill.data.warehouse import Warehouse
from rowmill.errors import IntegrityError, NotFoundError, SourceError
from rowmill.records import ModelRecord, now
from rowmill.serving import bundle as bundles
from rowmill.serving import release
from rowmill.serving.endpoint import Endpoint
from rowmill.serving.release import Service
from rowmill.shown import Shown
from rowmill.tables import SCORES

Pixels = npt.NDArray[np.uint8]
Answers = npt.NDArray[np.float64]

CHUNK = 8192  # rows of one append: BigQuery takes 1,500 appends to a table in a day, and a kill loses less than one
_PART, _MOST_WORKERS = 256, 8  # rows of one request: always the same size, for another one lays the model's memory anew


@dataclass(frozen=True)
class Batch(Shown):
    """Rows that a model scored in one go.

    Attributes:
        batch_id: The first 12 hex digits of the SHA-256 over model, keys and pixels.
        source: Where the rows came from, in words.
        rows: How many there were.
    """

    batch_id: str
    service: str
    model_id: str
    source: str
    rows: int


def score(service: Service, source: Source, model_id: str = "", chunk: int = CHUNK) -> Batch:
    """Let a model answer all rows of a source, and append its answers to the table `scores`.

    The same rows and the same model are one batch, however often it is started: what is missing is added.

    Args:
        service: Whose model.
        source: The rows; their labels are not read.
        model_id: Which model; what serves now when empty.
        chunk: How many rows are appended at a time.

    Raises:
        NotFoundError: There is no such model, or nothing serves.
        SourceError: The rows have no keys of their own, or are not of the model's shape; nothing was written.
        IntegrityError: The model's files are not what was registered.
        BusyError: This batch is being scored already, or the disk is full; start it again, and it goes on.
        EndpointError, WarehouseError: What serves cannot be asked; the warehouse refuses.
    """
    model = _model(service, model_id)
    contract.check_source(source, labelled=False)
    _check_shape(source, model)
    batch = Batch(_identity(source, model), service.name, model.model_id, source.origin, len(source.keys))
    with jobs.lock(service.settings.state, f"batch-{batch.batch_id}", what=f"the scoring of {source.origin} by {model.model_id}"):
        there = set(service.registry.warehouse.read(SCORES, {"batch_id": batch.batch_id}, ("row",))["row"])
        missing = [place for place in range(batch.rows) if place not in there]
        if missing:
            _fill(service, batch, _Rows(source, model, missing), chunk)
    return batch


def table(warehouse: Warehouse, batch: Batch) -> pd.DataFrame:
    """Return what a batch's rows were answered, in the order of its source.

    Returns:
        Columns `key`, `label`, `confidence` (0 to 1), `probabilities` (a list in the order of the model's labels).

    Raises:
        IntegrityError: Not all of its rows are in the warehouse.
    """
    found = warehouse.read(SCORES, {"batch_id": batch.batch_id}, ("row", "key", "label", "confidence", "probabilities"))
    # A load job of BigQuery may end after the process that started it was killed, and its rows were written again.
    rows = found.drop_duplicates("row", keep="last").sort_values("row", ignore_index=True)
    if len(rows) != batch.rows:
        raise IntegrityError(
            f"Batch {batch.batch_id} lists {batch.rows} rows", found=f"{len(rows)} in the warehouse", step="score its source again"
        )
    return rows.assign(probabilities=[orjson.loads(text) for text in rows["probabilities"]]).drop(columns="row")


def mix(answered: pd.DataFrame) -> pd.DataFrame:
    """Return how often each label was answered, the most frequent first.

    Args:
        answered: As `table` returns it.

    Returns:
        Columns `rows`, `share` and the median `confidence` (both 0 to 1), by `label`.
    """
    found = answered.groupby("label")["confidence"].agg(["size", "median"])
    counted = pd.DataFrame({"rows": found["size"], "share": found["size"] / len(answered), "confidence": found["median"]})
    return counted.sort_values("rows", ascending=False, kind="stable")


def write(answered: pd.DataFrame, path: str) -> str:
    """Write a table to a CSV file, whole or not at all (nowhere when `path` is empty), and say where it is.

    Raises:
        SourceError: The file cannot be written.
    """
    if not path:
        return "No file was asked for."
    file = Path(path).expanduser()
    new = file.with_name(f".{file.name}.new")
    try:
        answered.assign(probabilities=[orjson.dumps(row).decode() for row in answered["probabilities"]]).to_csv(new, index=False)
        new.replace(file)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise SourceError(f"{file} cannot be written: {error.strerror or error}", step="look at its folder and the free space") from error
    return f"{len(answered):,} rows are in {file.resolve()}."


@dataclass(frozen=True)
class _Rows:
    """Rows of a source that a model is to answer, by their places."""

    source: Source
    model: ModelRecord
    places: Sequence[int]


def _fill(service: Service, batch: Batch, rows: _Rows, chunk: int) -> None:
    """Append the answers to rows that are not there yet."""
    there = batch.rows - len(rows.places)
    with (
        _asking(service, rows.model) as ask,
        tqdm(total=batch.rows, initial=there, desc=batch.model_id, unit=" rows", mininterval=0.5) as shown,
    ):
        for start in range(0, len(rows.places), chunk):
            places, answers = rows.places[start : start + chunk], []
            for found in ask([rows.source.images[places[part : part + _PART]] for part in range(0, len(places), _PART)]):
                answers.append(found)
                shown.update(len(found))
            service.registry.warehouse.append(SCORES, _scored(batch, rows, places, np.concatenate(answers)))


@contextlib.contextmanager
def _asking(service: Service, model: ModelRecord) -> Iterator[Callable[[Sequence[Pixels]], Iterator[Answers]]]:
    """Open as many handlers of the model's bundle as there are processors; give what answers parts of images by all of them."""
    bundle, count = bundles.build(service.settings, service.registry, model), min(_MOST_WORKERS, os.cpu_count() or 1)
    free: SimpleQueue[Endpoint] = SimpleQueue()

    def ask(images: Pixels) -> Answers:
        endpoint = free.get()
        try:
            return endpoint.predict(images)[0]
        finally:
            free.put(endpoint)

    with contextlib.ExitStack() as opened, ThreadPoolExecutor(count) as pool:
        for _ in range(count):
            free.put(opened.enter_context(bundles.open_in_process(bundle)))
        yield functools.partial(pool.map, ask)


def _scored(batch: Batch, rows: _Rows, places: Sequence[int], probabilities: Answers) -> pd.DataFrame:
    """Return rows of the table `scores`."""
    return pd.DataFrame(
        {
            "row": places,
            "key": [rows.source.keys[place] for place in places],
            "label": [rows.model.labels[label] for label in probabilities.argmax(axis=1)],
            "confidence": probabilities.max(axis=1),
            "probabilities": [orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY).decode() for row in probabilities],
            **vars(batch),
            "scored_by": settings.actor(),
            "scored_at": now(),
        }
    )


def _model(service: Service, model_id: str) -> ModelRecord:
    if not model_id:
        card = release.serving(service)
        if card is None:
            raise NotFoundError(f"Nothing serves {service.name} yet", step="deploy a model, or name one by model_id")
        model_id = str(card["model"])
    return service.registry.model(model_id, service.name)


def _check_shape(source: Source, model: ModelRecord) -> None:
    if source.images.shape[1:] != model.shape:
        height, width, channels = model.shape
        raise SourceError(
            f"Model {model.model_id} takes images of {_told(model.shape)}",
            found=f"{_told(source.images.shape[1:])} in {source.origin}",
            step=f"give size='{height}x{width}' and colour='{'grey' if channels == 1 else 'rgb'}' to have them turned into these",
        )


def _told(shape: Sequence[int]) -> str:
    return f"{shape[0]}x{shape[1]} pixels in {'grey' if shape[2] == 1 else 'rgb'}"


def _identity(source: Source, model: ModelRecord) -> str:
    """Return the batch's id: other pixels, keys, order or another model make another batch."""
    found = hashlib.sha256(orjson.dumps([model.model_id, model.sha256, source.images.shape, source.keys]))
    found.update(np.ascontiguousarray(source.images).data)
    return found.hexdigest()[:12]
