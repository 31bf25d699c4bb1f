"""The model list and what served when: append-only rows in the warehouse, artefacts by id and hash in a folder."""

import dataclasses
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from rowmill.data.warehouse import Warehouse, connect
from rowmill.errors import IntegrityError, NotFoundError
from rowmill.records import Deployment, HoldoutUse, ModelId, ModelRecord, Report, Trial, Verdict
from rowmill.settings import Settings
from rowmill.tables import TABLES, Record, from_row, to_row

MODEL_FILE, CARD_FILE, ANSWERS_FILE = "model.tflite", "model.json", "answers.npz"


class Registry:
    """Models, verdicts and deployments of all services in one warehouse.

    Attributes:
        warehouse: Where the rows live.
        artefacts: The folder with one folder of files per model id.
        state: The folder of what belongs to this machine, such as searches that go on; beside the artefacts when not given.
    """

    def __init__(self, warehouse: Warehouse, artefacts: Path, state: Path | None = None) -> None:
        self.warehouse = warehouse
        self.artefacts = artefacts
        self.state = state or artefacts.parent

    def add(self, record: Trial | ModelRecord | Verdict | Report | HoldoutUse | Deployment) -> None:
        """Append one record; a verdict after its report, so that none is seen without."""
        if isinstance(record, Verdict) and record.report:
            self.add(record.report)
        self.warehouse.append(TABLES[type(record)], pd.DataFrame([to_row(record)]))

    def add_model(self, model: ModelRecord, files: Path) -> ModelRecord:
        """Register a model whose files lie in `files`; they move to their place under the model's id.

        Raises:
            IntegrityError: The id has files already, or the file's hash is not the record's.
        """
        _check_hashes(files, model)
        place = self.artefacts / model.model_id
        self.artefacts.mkdir(parents=True, exist_ok=True)
        if place.exists() and all(known.model_id != model.model_id for known in self._all(ModelRecord, model.service)):
            # A registration was killed before its row was written: nobody knows these files.
            shutil.rmtree(place)
        try:
            os.rename(files, place)
        except OSError as error:
            raise IntegrityError(
                f"Model {model.model_id} cannot be stored in {place}: {error.strerror}",
                step="artefacts are never overwritten: search anew for a new id",
            ) from error
        self.add(model)
        return model

    def remove(self, model: ModelRecord) -> None:
        """Take a model off the list, then remove its files; its earlier rows stay."""
        self.add(dataclasses.replace(model, deleted=True))
        shutil.rmtree(self.artefacts / model.model_id, ignore_errors=True)

    def services(self) -> list[str]:
        """Return the services that have models, the one with the newest model first."""
        return list(dict.fromkeys(model.service for model in self.models("")))

    def models(self, service: str) -> list[ModelRecord]:
        """Return the models of the service, or of all when it is empty, newest first."""
        latest = {model.model_id: model for model in self._all(ModelRecord, service)}
        return [model for model in latest.values() if not model.deleted][::-1]

    def model(self, model_id: str, service: str = "") -> ModelRecord:
        """Return one model: of any service when `service` is empty, the newest when `model_id` is.

        Raises:
            NotFoundError: There is no such model.
        """
        known = self.models(service)
        for model in known:
            if model_id in ("", model.model_id):
                return model
        neighbours = ", ".join(model.model_id for model in known[4::-1]) or "none"
        of_service = f" of service {service!r}" if service else ""
        wanted = f"model {model_id!r}" if model_id else "model"
        raise NotFoundError(
            f"There is no {wanted}{of_service}", found=neighbours, step="give an id from the model list, or run notebook 02_search first"
        )

    def artefact(self, model: ModelRecord) -> Path:
        """Return the folder with the model's files, its hash checked against the record.

        Raises:
            IntegrityError: The file is missing or is another one than was registered.
        """
        folder = self.artefacts / model.model_id
        _check_hashes(folder, model)
        return folder

    def trials(self, service: str) -> list[Trial]:
        """Return each trial's latest row, oldest trial first."""
        return list({trial.model_id: trial for trial in self._all(Trial, service)}.values())

    def siblings(self, trial: Trial) -> list[Trial]:
        """Return the latest rows of all trials of the experiment that this one belongs to."""
        experiment = ModelId.parse(trial.model_id).experiment
        return [other for other in self.trials(trial.service) if ModelId.parse(other.model_id).experiment == experiment]

    def verdicts(self, service: str) -> list[Verdict]:
        """Return the service's verdicts with their reports, oldest first."""
        reports = {(report.candidate, report.at): report for report in self._all(Report, service)}
        return [
            dataclasses.replace(verdict, report=reports.get((verdict.candidate, verdict.at))) for verdict in self._all(Verdict, service)
        ]

    def holdout_uses(self, service: str) -> list[HoldoutUse]:
        """Return the ledger of the service's holdouts, oldest first."""
        return self._all(HoldoutUse, service)

    def verdict(self, model_id: str, service: str) -> Verdict:
        """Return the latest verdict about a model.

        Raises:
            NotFoundError: There is none.
        """
        for verdict in reversed(self.verdicts(service)):
            if verdict.candidate == model_id:
                return verdict
        raise NotFoundError(f"There is no verdict about {model_id!r} of service {service!r}", step="run notebook 03_validate first")

    def deployments(self, service: str) -> list[Deployment]:
        """Return what was tried and what served, oldest first; failed attempts too."""
        return self._all(Deployment, service)

    def last_deployed(self, service: str) -> str:
        """Return the model id that should serve by the records, or an empty text."""
        served = [d.model_id for d in self.deployments(service) if d.outcome == "serving"]
        return served[-1] if served else ""

    def _all(self, kind: type[Record], service: str) -> list[Record]:
        where: dict[str, Any] | None = {"service": service} if service else None
        return [from_row(kind, row) for row in self.warehouse.read(TABLES[kind], where).to_dict("records")]


def connected(settings: Settings) -> Registry:
    """Open the project's registry."""
    return Registry(connect(settings), settings.artefacts_root, settings.state)


def file_hash(path: Path) -> str:
    """Return the file's SHA-256 as hex digits.

    Raises:
        IntegrityError: There is no such file.
    """
    if not path.is_file():
        raise IntegrityError(f"The model's file {path} is missing", step="restore it from a copy, or search anew")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_hashes(folder: Path, model: ModelRecord) -> None:
    for name, wanted in ((MODEL_FILE, model.sha256), (CARD_FILE, model.card_sha256)):
        found = file_hash(folder / name)
        if found != wanted:
            raise IntegrityError(
                f"{name} of model {model.model_id} must have SHA-256 {wanted[:12]}...",
                found=f"{found[:12]}...",
                step="restore it from a copy, or search anew; it is not deployed",
            )
