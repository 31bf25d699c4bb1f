"""How often drift is told that is none, and how often that is found which is one: real MNIST, seeded.

A draw of n images of the holdout plays the requests, and the rest of the holdout is what they are compared with: that is clean traffic to
the letter. Changed traffic is the same draw with each image changed.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from rowmill import jobs, settings
from rowmill.data import dataset, sources
from rowmill.judging import asking, reference
from rowmill.monitoring import drift
from rowmill.registry import connected
from rowmill.serving import bundle as bundles
from rowmill.serving import release

from benchmarks.figures import ROOT, Figure

DRAWS, SMALL, LARGE, EPOCHS = 500, 200, 1000, 3
Images = npt.NDArray[np.uint8]


def rotated(images: Images) -> Images:
    """Return the images turned by 30 degrees."""
    turned = [np.asarray(Image.fromarray(image[..., 0]).rotate(30, Image.Resampling.BILINEAR)) for image in images]
    return np.stack(turned)[..., None]


def noisy(images: Images) -> Images:
    """Return the images with normal noise of deviation 40."""
    noise = np.random.default_rng(5).normal(0, 40, images.shape)
    return (images + noise).clip(0, 255).astype(np.uint8)


def shifted(images: Images) -> Images:
    """Return the images three pixels further right; what comes in is empty."""
    moved = np.roll(images, 3, axis=2)
    moved[:, :, :3] = 0
    return moved


CHANGES: dict[str, Callable[[Images], Images]] = {
    "rotation of 30 degrees": rotated,
    "inversion": lambda images: 255 - images,
    "noise": noisy,
    "a shift of 3 pixels": shifted,
    "scaled twice": lambda images: (images / 255).round().astype(np.uint8),
}


def figures() -> list[Figure]:
    """Measure on MNIST, whose folder `ROWMILL_MNIST` names; without it nothing is measured, and that is said."""
    folder = os.environ.get("ROWMILL_MNIST", "")
    if not folder:
        print("ROWMILL_MNIST names no folder with MNIST: NOTHING IS KNOWN ABOUT DRIFT from this run.", file=sys.stderr)
        return []
    found = []
    for network in os.environ.get("NETWORKS", "mlp cnn").split():
        with tempfile.TemporaryDirectory() as state:
            ask, holdout, validation, labels = _trained(folder, Path(state), network)
        clean, other = ask(holdout), ask(validation)
        for size in (SMALL, LARGE):
            alarms = 100 * _share(clean, clean, labels, size)
            found.append(Figure(f"false alarms, {network}, n = {size:,}", alarms, "%", 2, alarms / 2, [alarms], "<= 2 %", alarms <= 2))
        print(f"{network}: rows of the validation split, by other writers, differ in {_share(other, clean, labels, LARGE):.1%} of draws.")
        for what, change in CHANGES.items():
            share = 100 * _share(ask(change(holdout)), clean, labels, SMALL)
            found.append(Figure(f"found: {what}, {network}, n = {SMALL}", share, "%", 95, share / 95, [share], ">= 95 %", share >= 95))
    return found


def _trained(folder: str, state: Path, network: str) -> tuple[Callable[[Images], pd.DataFrame], Images, Images, tuple[str, ...]]:
    """Train a model; return how it answers, the holdout's and the validation split's images, and the labels."""
    from rowmill.training import artefact, search  # pylint: disable=import-outside-toplevel

    project = replace(settings.load(ROOT), state=state, artefacts_root=state / "artefacts", target_port=jobs.free_port())
    models = connected(project)
    version = dataset.ingest(models.warehouse, sources.load(folder), "mnist")
    data = dataset.load(models.warehouse, version)
    plan = search.Plan(network, {}, search.Goal(1.0, trials=1, minutes=10, epochs=EPOCHS), seed=1)
    model = artefact.export(search.run(data, models, plan), data, models)
    service = release.open_service(project, "mnist")
    bundle = bundles.open_in_process(bundles.build(service.settings, service.registry, model))

    def ask(images: Images) -> pd.DataFrame:
        return pd.DataFrame(reference.numbers(asking.ask(bundle, images, model.model_id, model.labels), images))

    return ask, dataset.load_holdout(models.warehouse, version).images, data.validation.images, model.labels


def _share(requests: pd.DataFrame, holdout: pd.DataFrame, labels: tuple[str, ...], size: int) -> float:
    """Return the share of draws whose requests differ from the rest of the holdout."""
    generator, told = np.random.default_rng(size), 0
    for _ in range(DRAWS):
        places = generator.permutation(len(requests))[:size]
        asked = requests.iloc[places]
        asked = asked.assign(label=[labels[place] for place in asked["label"]])
        rest = holdout.drop(index=holdout.index[places[places < len(holdout)]])
        told += drift.compare("mnist", asked, rest, labels).state == "differs"
    return told / DRAWS
