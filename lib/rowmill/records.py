"""The nouns: frozen records that show themselves in a notebook."""

import datetime
import html
import re
import secrets
import string
import typing
from dataclasses import dataclass, field
from pathlib import Path

from rowmill import shown
from rowmill.errors import ParameterError
from rowmill.shown import Shown

# What a served model takes in one request: instances, bytes of the body, and pixels that all its images unpack to.
LIMITS = {"instances": 1024, "bytes": 8 * 2**20, "pixels": 16 * 2**20}


def now() -> datetime.datetime:
    """Return the present moment in UTC, with microseconds."""
    return datetime.datetime.now(datetime.UTC)


def check_service(name: str) -> str:
    """Return the name if a service can have it; it becomes part of file names, addresses and gcloud's names.

    Raises:
        ParameterError: It cannot.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,29}", name):
        raise ParameterError(
            f"A service cannot be named {name!r}", step="give at most 30 small letters, digits and hyphens, a letter first"
        )
    return name


@dataclass(frozen=True, order=True)
class ModelId:
    """`experiment-trial`, such as `kx3v9q2m-t001`; fits gcloud's names for tags and revisions."""

    experiment: str
    trial: str

    PATTERN: typing.ClassVar = re.compile(r"([a-z][a-z0-9]{7})-(t[0-9]{3,})")

    def __str__(self) -> str:
        return f"{self.experiment}-{self.trial}"

    @classmethod
    def parse(cls, text: str) -> "ModelId":
        """Read `experiment-trial`.

        Raises:
            ParameterError: The text is no model id.
        """
        match = cls.PATTERN.fullmatch(text)
        if match is None:
            raise ParameterError(f"{text!r} is no model id", step="give one such as 'kx3v9q2m-t001', as the model list shows it")
        return cls(*match.groups())

    @staticmethod
    def mint_experiment() -> str:
        """Return a new experiment name, `[a-z][a-z0-9]{7}`."""
        letters = string.ascii_lowercase
        return secrets.choice(letters) + "".join(secrets.choice(letters + string.digits) for _ in range(7))


@dataclass(frozen=True)
class DatasetVersion(Shown):
    """One immutable set of examples of a service; written last, so that it lists only whole ingests.

    Attributes:
        version: The first 12 hex digits of `fingerprint`.
        ingest_ids: The ingests whose rows it holds; a later one's row replaces an earlier one's of the same key.
        fingerprint: SHA-256 over key, label, split and pixels' SHA-256 of all rows, in key order.
        labels: The label set, sorted; the order of a model's probabilities.
        shape: (height, width, channels) in pixels.
        counts: Rows per split.
        checks: What was checked before it was stored and after, and what was noted, each a sentence.
        label_counts: Rows of each label in each split: label to split to count.
    """

    version: str
    service: str
    ingest_ids: tuple[str, ...]
    fingerprint: str
    source: str
    labels: tuple[str, ...]
    shape: tuple[int, ...]
    counts: dict[str, int]
    actor: str = ""
    reason: str = ""
    checks: tuple[str, ...] = ()
    label_counts: dict[str, dict[str, int]] = field(default_factory=dict, repr=False)
    at: datetime.datetime = field(default_factory=now)


@dataclass(frozen=True)
class Trial(Shown):
    """One event in the life of a trial: a row when it starts, another when it ends.

    Attributes:
        state: `running`, `completed`, `failed`, or `stopped`: hopeless, so it was not trained to its end and never wins.
        score: The best of `curve`; NaN until the trial ends, and for a model that was trained on the validation rows, too.
        curve: What the search maximises, on the validation split after each epoch; accuracy, 0 to 1, unless its goal says otherwise.
        reason: Why it failed or ended before its last epoch.
        kind: `search`; or, after the search or by hand, `refit`, `seed`, `average` or `train`.
        accuracy: On the validation split at the best epoch, 0 to 1; NaN where `score` is.
        seconds: Time that its training has taken.
        mode: What equal weights need besides equal inputs, such as `op determinism, 2 threads`.
        epochs: Of a full trial of its search, over which the learning rate's schedule is laid out.
    """

    model_id: str
    service: str
    dataset_version: str
    state: str
    hyperparameters: dict[str, typing.Any]
    score: float = float("nan")
    curve: tuple[float, ...] = ()
    reason: str = ""
    seed: int = 0
    at: datetime.datetime = field(default_factory=now)
    kind: str = "search"
    accuracy: float = float("nan")
    seconds: float = 0.0
    mode: str = ""
    epochs: int = 0


@dataclass(frozen=True)
class Candidate:
    """The best trial of a search, with its Keras network in memory (uint8 pixels in, probabilities out)."""

    trial: Trial
    network: typing.Any


@dataclass(frozen=True)
class ModelRecord(Shown):
    """A registered model: what it is, where it comes from, and the hash its file must have.

    Attributes:
        accuracy: On the validation split, 0 to 1.
        sha256, card_sha256: Of the model's file and of its `model.json`.
        size: Of the model's file, in bytes.
        deleted: Whether it was taken off the list, and its files removed.
    """

    model_id: str
    service: str
    dataset_version: str
    sha256: str
    card_sha256: str
    size: int
    shape: tuple[int, ...]
    labels: tuple[str, ...]
    accuracy: float
    hyperparameters: dict[str, typing.Any]
    seed: int = 0
    deleted: bool = False
    at: datetime.datetime = field(default_factory=now)


@dataclass(frozen=True)
class HoldoutUse(Shown):
    """One row of a holdout's ledger: the first time that a candidate was compared with an incumbent on it.

    Attributes:
        dataset_version: The version whose holdout it was.
        holdout: SHA-256 of the holdout's keys and pixels: versions that differ in labels alone share it.
        look: Which use of this holdout it was, from 1.
        level: What it was given of the gate's level.
    """

    service: str
    dataset_version: str
    holdout: str
    candidate: str
    incumbent: str
    look: int
    level: float
    at: datetime.datetime = field(default_factory=now)


@dataclass(frozen=True)
class Report:
    """What stands behind a verdict, as JSON keeps it.

    Attributes:
        candidate, incumbent, service, at: The verdict's.
        headline: The verdict in a line, without names.
        checks: What was looked at, each with name, state (`pass`, `fail`, `silent`) and note.
        notes: What else there is to know, each a sentence: baselines, ledger, planted opponents, parity.
        details: What charts draw: classes, confusion, reliability, disagreements.
    """

    candidate: str
    incumbent: str
    service: str
    headline: str
    checks: tuple[dict[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    details: dict[str, typing.Any] = field(default_factory=dict, repr=False)
    at: datetime.datetime = field(default_factory=now)

    def as_html(self) -> str:
        """Return the checks as a table, and the notes as a list."""
        return shown.checks_html(self.checks, self.notes)


@dataclass(frozen=True)
class Verdict(Shown):
    """The decision about a candidate, and the figures behind it.

    Attributes:
        incumbent: The model id that served when the question was asked; empty for a first model.
        outcome: `better`, `worse` or `cannot tell`.
        rule: Which rule decided: `mcnemar`, `cost`, `first model`, `no answer`, `serves already`, `parity`, `self-test` or `holdout`.
        rows: Holdout rows both sides answered.
        gained, lost: Rows that only the candidate, or only the incumbent, has right.
        candidate_accuracy, incumbent_accuracy: Share of the holdout each side has right, 0 to 1; for a first model
            the second is logistic regression's.
        difference, low, high: Accuracy of the candidate less the incumbent's with its 95 % interval, -1 to 1.
        p_value: Of the exact McNemar test.
        report: What stands behind it, in a table of its own; none for verdicts of earlier versions.
    """

    candidate: str
    incumbent: str
    service: str
    outcome: str
    sentence: str
    rule: str = "mcnemar"
    rows: int = 0
    candidate_accuracy: float = float("nan")
    incumbent_accuracy: float = float("nan")
    gained: int = 0
    lost: int = 0
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    p_value: float = float("nan")
    at: datetime.datetime = field(default_factory=now)
    report: Report | None = field(default=None, repr=False, metadata={"table": "reports"})

    def _repr_html_(self) -> str:
        headline = self.report.headline if self.report else self.outcome
        behind = self.report.as_html() if self.report else super()._repr_html_()
        return f"<h3>{html.escape(headline)}</h3><p>{html.escape(self.sentence)}</p>{behind}"


@dataclass(frozen=True)
class Deployment(Shown):
    """One attempt to change what serves, or a deletion.

    Attributes:
        action: `deploy`, `roll back` or `delete`.
        before: The model id that served before; empty for the first.
        outcome: `serving`, `failed` or `deleted`.
        reason: Why it was done, or what failed.
        actor: The machine's user, or gcloud's account.
        seconds: From the start to `at`.
        revision: The target's name for what was started.
        verdict: The model's latest verdict at that moment: `better`, `worse`, `cannot tell`, or empty.
        forced: Whether it was deployed without the verdict `better`.
        steps: How long each step took, name to seconds; where it failed, the last of them is the one.
        at: When it began to serve, or failed.
    """

    model_id: str
    service: str
    action: str
    target: str
    before: str
    sha256: str
    outcome: str
    reason: str
    actor: str
    seconds: float
    revision: str = ""
    verdict: str = ""
    forced: bool = False
    steps: dict[str, float] = field(default_factory=dict)
    at: datetime.datetime = field(default_factory=now)


@dataclass(frozen=True)
class Bundle:
    """A folder that serves one model by itself: handler, requirements, model file, `model.json`."""

    model_id: str
    service: str
    folder: Path
    sha256: str
