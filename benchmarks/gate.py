"""The gate beside the rule "more accurate wins": false promotions, power, coverage, the time of a verdict, and bad bundles.

Simulated are pairs of models of which a 3 % share of rows is discordant, as between networks of one recipe on MNIST. What needs real models
is measured on MNIST, whose folder `ROWMILL_MNIST` names; without it, that part is left out, and said so. All is seeded.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rowmill import jobs, sections, settings
from rowmill.data import dataset, sources
from rowmill.errors import IntegrityError
from rowmill.judging import ledger, statistics, validation, verdict
from rowmill.judging.checks import Sides
from rowmill.judging.finding import Comparison, Terms
from rowmill.records import ModelRecord
from rowmill.registry import CARD_FILE, MODEL_FILE, connected, file_hash
from rowmill.serving import bundle as bundles
from rowmill.serving import release
from rowmill.serving.release import Service
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from benchmarks.figures import ROOT, Figure, conclude

REPEATS = int(os.environ.get("REPEATS", "20000"))
REAL = int(os.environ.get("REAL", "400"))
DISCORDANT = 0.03
EFFECT = sections.Gate().minimal_effect / 100
LABELS = tuple("0123456789")
PAIR = verdict.Pair("mnist", "candidate", "incumbent")


def promoted(rows: int, gain: float, level: float, seed: int) -> tuple[float, float]:
    """Return the share of simulated candidates with this true gain that the gate calls better, and that are more accurate."""
    shares = [(DISCORDANT + gain) / 2, (DISCORDANT - gain) / 2, 1 - DISCORDANT]
    counts = np.random.default_rng(seed).multinomial(rows, shares, size=REPEATS)[:, :2]
    pairs, times = np.unique(counts, axis=0, return_counts=True)
    better = [Comparison(rows, int(g), int(lost), 0.0, 0.0).outcome(level, EFFECT) == "better" for g, lost in pairs]
    return float(times[better].sum() / REPEATS), float(times[pairs[:, 0] > pairs[:, 1]].sum() / REPEATS)


def at_most(name: str, value: float, naive: float, limit: float, unit: str = "%") -> Figure:
    """Return a figure that must not exceed its limit; the ratio is how many times as much the naive rule gives."""
    return Figure(name, value, unit, naive, naive / max(value, 1e-12), [value], f"<= {limit:g}", value <= limit)


def false_promotions() -> list[Figure]:
    """Measure promotions of equal models by one look at a fresh holdout, and by a year of weekly looks at one of 1,000 rows."""
    found = []
    for rows in (1000, 5000, 10_000):
        ours, naive = promoted(rows, 0.0, ledger.level(1, 0.05), rows)
        found.append(at_most(f"equal models promoted, n = {rows:,}, naive rule against", 100 * ours, 100 * naive, 5.0))
    weeks = [promoted(1000, 0.0, ledger.level(week, 0.05), week) for week in range(1, 53)]
    unspent = [promoted(1000, 0.0, 0.05, week) for week in range(1, 53)]
    year, naive = sum(a for a, _ in weeks), sum(b for _, b in weeks)
    found.append(at_most("promotions in 52 weeks without gain, n = 1,000", year, naive, 1.5, ""))
    found.append(at_most("the same without the ledger, at 5 % each", sum(a for a, _ in unspent), naive, 1.5, ""))
    return found


def power() -> list[Figure]:
    """Measure how often a true gain of one point is found on a fresh holdout of 5,000 rows; also by whole verdicts with all checks."""
    ours, naive = promoted(5000, 0.01, ledger.level(1, 0.05), 7)
    generator, terms = np.random.default_rng(8), Terms(level=ledger.level(1, 0.05))
    found = sum(verdict.judge(PAIR, simulated(generator, 5000, 0.01), terms).outcome == "better" for _ in range(REAL)) / REAL
    return [
        Figure("power for +1 point, n = 5,000", 100 * ours, "%", 100 * naive, ours / naive, [100 * ours], ">= 95", ours >= 0.95),
        Figure("the same, whole verdicts with all checks", 100 * found, "%", 95, found / 0.95, [], ">= 95", found >= 0.95),
    ]


def simulated(generator: np.random.Generator, rows: int, gain: float) -> Sides:
    """Return answers of two calibrated models on ten classes: 96 % right, 3 % discordant, with this true gain."""
    targets = generator.integers(0, 10, rows)
    kinds = generator.choice(4, rows, p=[(DISCORDANT + gain) / 2, (DISCORDANT - gain) / 2, 0.955, 1 - 0.955 - DISCORDANT])
    sides = []
    for right in (np.isin(kinds, (0, 2)), np.isin(kinds, (1, 2))):
        said = np.where(right, targets, (targets + generator.integers(1, 10, rows)) % 10)
        # Right answers are surer: of those at 0.99 nearly all are right, of those at 0.6 about 60 %.
        unsure = generator.random(rows) < np.where(right, 0.045, 0.75)
        confidence = np.where(unsure, 0.6, 0.99)
        probabilities = np.repeat(((1 - confidence) / 9)[:, None], 10, axis=1)
        probabilities[np.arange(rows), said] = confidence
        sides.append(probabilities)
    return Sides(LABELS, targets, sides[0], sides[1])


def coverage() -> list[Figure]:
    """Measure how often the 95 % interval covers the true difference."""
    found = []
    for rows, gain in ((1000, 0.0), (1000, 0.01), (5000, 0.0), (5000, 0.01), (10_000, 0.005)):
        shares = [(DISCORDANT + gain) / 2, (DISCORDANT - gain) / 2, 1 - DISCORDANT]
        counts = np.random.default_rng(rows).multinomial(rows, shares, size=REPEATS)[:, :2]
        pairs, times = np.unique(counts, axis=0, return_counts=True)
        inside = [low <= gain <= high for low, high in (statistics.interval(rows, int(g), int(lost)) for g, lost in pairs)]
        share = 100 * float(times[inside].sum() / REPEATS)
        name = f"coverage of the 95 % interval, n = {rows:,}, gain {100 * gain:g}"
        found.append(Figure(name, share, "%", 95, share / 95, [share], "93 to 97", 93 <= share <= 97))
    return found


def second_implementations(sides: Sides, name: str) -> list[Figure]:
    """Compare NLL and calibration error with what scikit-learn computes."""
    nll = float(statistics.negative_log_likelihood(sides.ours, sides.targets).mean())
    expected = float(log_loss(sides.targets, sides.ours, labels=range(len(sides.labels))))
    right, confidence = sides.ours.argmax(axis=1) == sides.targets, sides.ours.max(axis=1)
    share, mean = calibration_curve(right, confidence, n_bins=statistics.BINS)
    edges = np.linspace(0, 1, statistics.BINS + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=statistics.BINS)
    error = float((np.abs(share - mean) * counts[counts > 0]).sum() / len(confidence))
    ours = statistics.calibration_error(statistics.reliability(sides.ours, sides.targets))
    pairs = ((f"NLL less scikit-learn's, {name}", abs(nll - expected)), (f"ECE less scikit-learn's, {name}", abs(ours - error)))
    return [Figure(what, gap, "", 1e-9, gap / 1e-9, [gap], "<= 1e-9", gap <= 1e-9) for what, gap in pairs]


def real(folder: str, state: Path) -> list[Figure]:
    """Measure what needs real models: two of one recipe, and a third one of one epoch."""
    service, networks = trained(folder, state)
    try:
        return [
            *second_implementations(sides := asked(service), "MNIST"),
            *exchanged(sides),
            *bad_bundles(service, networks),
            *whole(service),
        ]
    finally:
        for name in jobs.names(state):
            jobs.stop(state, name)


def trained(folder: str, state: Path) -> tuple[Service, list[Any]]:
    """Return a service with three models of MNIST (3, 3 and 1 epochs), and their networks."""
    from rowmill.training import artefact, search  # pylint: disable=import-outside-toplevel

    project = replace(
        settings.load(ROOT), state=state, artefacts_root=state / "artefacts", target_port=jobs.free_port(), dashboard_port=jobs.free_port()
    )
    models, networks = connected(project), []
    version = dataset.ingest(models.warehouse, sources.load(folder), "mnist")
    data = dataset.load(models.warehouse, version)
    for seed, epochs in ((1, 3), (2, 3), (3, 1)):
        plan = search.Plan("mlp", {}, search.Goal(1.0, trials=1, minutes=10, epochs=epochs), seed=seed)
        candidate = search.run(data, models, plan)
        artefact.export(candidate, data, models)
        networks.append(candidate.network)
    return release.open_service(project, "mnist"), networks


def models_of(service: Service) -> list[ModelRecord]:
    """Return the service's models, oldest first."""
    return service.registry.models("mnist")[::-1]


def holdout_of(service: Service) -> dataset.Examples:
    """Return the holdout."""
    return dataset.load_holdout(service.registry.warehouse, dataset.find(service.registry.warehouse, "mnist"))


def answers(service: Service, model: ModelRecord) -> tuple[np.ndarray, np.ndarray]:
    """Return a model's answers to the holdout, and the true labels."""
    holdout = holdout_of(service)
    with bundles.open_in_process(bundles.build(service.settings, service.registry, model)) as endpoint:
        return endpoint.predict(holdout.images)[0], holdout.targets


def asked(service: Service) -> Sides:
    """Return the answers of the two models of one recipe."""
    (ours, targets), (theirs, _) = (answers(service, model) for model in models_of(service)[:2])
    return Sides(LABELS, targets, ours, theirs)


def exchanged(sides: Sides) -> list[Figure]:
    """Measure whole verdicts, with all checks, between equal models: each row's two real answers are given to the sides by a coin."""
    generator, found, terms = np.random.default_rng(9), [], Terms(level=ledger.level(1, 0.05))
    for rows in (1000, 5000):
        better = naive = 0
        for _ in range(REAL):
            places = generator.permutation(len(sides.targets))[:rows]
            coin = generator.random(rows) < 0.5
            ours, theirs = sides.ours[places], sides.theirs[places]
            pair = Sides(LABELS, sides.targets[places], np.where(coin[:, None], ours, theirs), np.where(coin[:, None], theirs, ours))
            judged = verdict.judge(PAIR, pair, terms)
            better, naive = better + (judged.outcome == "better"), naive + (judged.gained > judged.lost)
        found.append(at_most(f"equal MNIST answers promoted, n = {rows:,}", 100 * better / REAL, 100 * naive / REAL, 5.0))
    return found


def whole(service: Service) -> list[Figure]:
    """Measure the seconds of a whole verdict on 10,000 rows, the baselines among them, and what the candidate takes over HTTP, too."""
    first, _, short = models_of(service)
    release.deploy(service, short.model_id, "by hand", force=True)
    start, cpu = time.perf_counter(), time.process_time()
    judged = validation.run(service, first.model_id)
    spent, cpu = time.perf_counter() - start, time.process_time() - cpu
    holdout = holdout_of(service)
    with service.target.dark(bundles.build(service.settings, service.registry, first)) as revision:
        endpoint = service.target.open(revision.address)
        start = time.perf_counter()
        endpoint.predict(holdout.images)
        over_http = time.perf_counter() - start
    print(f"{judged.sentence}\nThe verdict took {spent:.1f} s and {cpu:.1f} CPU seconds of this process; load {os.getloadavg()[0]:.1f}.")
    total = spent + over_http
    release.deploy(service, first.model_id, "by hand", force=True)
    turned = validation.run(service, short.model_id)
    total, (better, worse) = spent + over_http, (float(judged.outcome == "better"), float(turned.outcome == "worse"))
    return [
        Figure("a verdict on 10,000 rows, both over HTTP", total, "s", 60, total / 60, [spent, over_http], "<= 60", total <= 60),
        Figure("3 epochs over 1 are better", better, "", 1, better, [], "1", better == 1),
        Figure("1 epoch over 3 is worse", worse, "", 1, worse, [], "1", worse == 1),
    ]


def bad_bundles(service: Service, networks: list[Any]) -> list[Figure]:
    """Count the planted bad bundles that are refused by the name of their cause."""
    makers = planted(networks)
    named = 0
    for cause, (write, words) in makers.items():
        with tempfile.TemporaryDirectory() as folder:
            state = Path(folder) / "state"
            shutil.copytree(service.settings.state, state, ignore=shutil.ignore_patterns("serving", "locks", "bundles"))
            other = replace(service.settings, state=state, artefacts_root=state / "artefacts", target_port=jobs.free_port())
            said = refusal(release.open_service(other, "mnist"), write)
        print(f"{cause}: {said}")
        named += words in said
    return [Figure("bad MNIST bundles refused by name", named, "", len(makers), named / len(makers), [], "6", named == len(makers))]


def planted(networks: list[Any]) -> dict[str, tuple[Callable[[Path, Service], None], str]]:
    """Return how each bad file is written, and what must be said of it."""
    import keras  # pylint: disable=import-outside-toplevel
    import tensorflow as tf  # pylint: disable=import-outside-toplevel

    def wrapped(before: Callable[[Any], Any], after: Callable[[Any], Any] = lambda said: said) -> Callable[[Path, Service], None]:
        images = keras.Input((28, 28, 1), dtype="uint8")
        features = before(keras.ops.cast(images, "float32"))
        for layer in networks[0].layers[1:]:  # behind its input, one after the other
            features = layer(features)
        network = keras.Model(images, after(features))
        return lambda path, _: network.export(str(path), format="litert", verbose=False)

    def quantised(path: Path, _: Service) -> None:
        converter = tf.lite.TFLiteConverter.from_keras_model(networks[0])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        path.write_bytes(converter.convert())

    def of_another(path: Path, service: Service) -> None:
        shutil.copyfile(service.registry.artefacts / models_of(service)[1].model_id / MODEL_FILE, path)

    return {
        "scaled": (wrapped(lambda images: images * 255), "its input is scaled otherwise"),
        "transposed": (wrapped(lambda images: keras.ops.transpose(images, (0, 2, 1, 3))), "it transposes each image"),
        "inverted": (wrapped(lambda images: 255 - images), "it inverts each image"),
        "labels": (wrapped(lambda images: images, lambda said: said[:, ::-1]), "its labels are in another order"),
        "another model's": (of_another, "it holds the file of another model"),
        "quantised": (quantised, "its file is quantised (int8)"),
    }


def refusal(service: Service, write: Callable[[Path, Service], None]) -> str:
    """Put a bad file in the place of the first model's, with all hashes right, and return what validation says."""
    model = models_of(service)[0]
    folder = service.registry.artefacts / model.model_id
    write(folder / MODEL_FILE, service)
    card = json.loads((folder / CARD_FILE).read_text()) | {"sha256": file_hash(folder / MODEL_FILE)}
    (folder / CARD_FILE).write_text(json.dumps(card))
    service.registry.add(replace(model, sha256=file_hash(folder / MODEL_FILE), card_sha256=file_hash(folder / CARD_FILE)))
    try:
        return validation.run(service, model.model_id).sentence
    except IntegrityError as error:
        return str(error)
    finally:
        for name in jobs.names(service.settings.state):
            jobs.stop(service.settings.state, name)


def main() -> None:
    """Measure, print, write, and fail where a target is missed."""
    second = second_implementations(simulated(np.random.default_rng(3), 5000, 0.01), "simulated")
    figures = [*false_promotions(), *power(), *coverage(), *second]
    folder = os.environ.get("ROWMILL_MNIST", "")
    if folder:
        with tempfile.TemporaryDirectory() as state:
            figures += real(folder, Path(state) / "state")
    else:
        print("ROWMILL_MNIST names no folder with MNIST: NOTHING IS KNOWN ABOUT REAL MODELS from this run.", file=sys.stderr)
    conclude("gate", figures)


if __name__ == "__main__":
    main()
