"""Sections of `rowmill.toml` that are handed on as a whole."""

from dataclasses import dataclass

CHECKS = ("classes", "nll", "calibration", "size", "cold start", "latency")


@dataclass(frozen=True)
class Gate:
    """What a candidate must show before it may serve, and what it must not spoil.

    Attributes:
        level: Of all verdicts on one holdout together; what is left of it for the next is spent by the ledger.
        measure: What decides: `accuracy`, or `cost` by the matrix in `costs`.
        minimal_effect: The least gain, in points of accuracy.
        minimal_saving: The least gain where cost decides, in units of cost per 1,000 requests.
        checks: What is looked at besides, some of `CHECKS`.
        class_drop: How much of one class's accuracy may be lost, in points.
        nll: How much the negative log-likelihood may rise, in nats per row.
        calibration: How much the expected calibration error may rise, 0 to 1.
        size, cold_start, latency: How many times the incumbent's the candidate's may be.
        flips: The share of rows, 0 to 1, on which an exported file may answer another label than Keras.
        costs: The path of the cost matrix, a CSV file, from the project's folder; empty: none.
        abstain_below: The confidence, 0 to 1, below which an answer counts as abstained; 0: never.
    """

    level: float = 0.05
    measure: str = "accuracy"
    minimal_effect: float = 0.2
    minimal_saving: float = 0.0
    checks: tuple[str, ...] = CHECKS
    class_drop: float = 2.0
    nll: float = 0.05
    calibration: float = 0.02
    size: float = 3.0
    cold_start: float = 3.0
    latency: float = 3.0
    flips: float = 0.005
    costs: str = ""
    abstain_below: float = 0.0


@dataclass(frozen=True)
class Cloud:
    """Where on Google Cloud a function serves, and as what.

    Attributes:
        project: The project's id; empty for the one that holds the warehouse, and then for gcloud's own.
        region: Such as `europe-west1`.
        service_account: As whom the function runs: an e-mail address; empty for the project's default account.
        memory: Of an instance, such as `512Mi`.
        cpu: Of an instance; more than one request at a time needs at least 1.
        concurrency: Requests that an instance answers at a time.
        min_instances, max_instances: How many instances there may be.
        ingress: From where it may be asked: `all`, `internal` or `internal-and-cloud-load-balancing`.
        public: Whether it may be asked without an identity token.
        base_image: Google's image for the function's Python.
        build_minutes: The longest that one deployment may take.
        hash_key: The secret of Secret Manager, with its version, that is the key of the hashes in the function's lines, such as
            `rowmill-hash-key:1`; empty: no hash is written.
    """

    project: str = ""
    region: str = "europe-west1"
    service_account: str = ""
    memory: str = "512Mi"
    cpu: int = 1
    concurrency: int = 8
    min_instances: int = 0
    max_instances: int = 3
    ingress: str = "all"
    public: bool = False
    base_image: str = "python313"
    build_minutes: int = 20
    hash_key: str = ""


@dataclass(frozen=True)
class Monitor:
    """What is kept of the requests that a function answered.

    Attributes:
        days: For how long.
        images: Whether the images are kept, too; else numbers about them alone.
    """

    days: int = 90
    images: bool = False
