"""The function beside a function that does nothing and beside other servers: cold start, throughput, latency, memory, wrong answers, fuzz.

One small convolutional network for all, in each peer's own form; answers are checked before anything is timed; the function and each
peer take turns, and ratios are medians of the pairs'. `wrk` must be there (`apt-get install wrk`, `brew install wrk`). The environments
are made once, under `.rowmill/bench-venvs/` (4 GB). By itself it is short, ten minutes; `FULL=1` asks as often as the targets say.
`PEERS=` names some.
"""

import dataclasses
import io
import os
import shutil
import statistics
import subprocess
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from PIL import Image
from rowmill import settings
from rowmill.data import sources
from rowmill.data.dataset import Dataset, Examples
from rowmill.data.sqlite import SqliteWarehouse
from rowmill.records import Candidate, DatasetVersion, Trial
from rowmill.registry import Registry
from rowmill.serving import bundle
from rowmill.training import artefact
from rowmill.training.exports import Form as Export

from benchmarks import abuse, servers
from benchmarks.figures import ROOT, Figure, conclude
from benchmarks.servers import PEERS, Form, Load, Peer, Running

FULL = os.environ.get("FULL") == "1"
ROUNDS, SECONDS = (9, 5.0) if FULL else (5, 2.0)
CHECKED, FUZZED, MANY = (100_000, 20_000, 1_000_000) if FULL else (6_000, 1_200, 30_000)
FUNCTION, NOOP, ASGI = "the function", "no-op WSGI", "no-op ASGI"
COLD = {NOOP: ("<=", 1.4), "TensorFlow": (">=", 8), "BentoML": (">=", 5), "MLflow Keras": (">=", 20)}
RATE = {NOOP: 0.9, "TensorFlow": 5, "BentoML": 5, "MLflow ONNX": 6, "MLflow Keras": 80, "FastAPI": 1.5}
Digits = np.ndarray[Any, Any]


def main() -> None:
    """Measure, compare, conclude."""
    servers.need_wrk()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, expected = export(folder)
        peers = _peers(folder)
        forms = forms_of(images[0])
        cold, loads = _turns(peers, images, expected, folder)
        figures = [*_cold(cold), *_loads(loads), *_size(peers[0])]
        with servers.running(peers[0], forms["28x28x1"], folder / "log") as server:
            some = [forms_of(image)["28x28x1"] for image in images[:300]]
            figures += abuse.wrong(server, some, expected, CHECKED)
            figures += abuse.growth(server, some[0], folder, MANY)
            figures += abuse.fuzz(server, some[0], expected[0], FUZZED)
    conclude("serving", figures)


def export(folder: Path) -> tuple[Digits, Digits]:
    """Write the model in all forms; return images, uint8 (n, 28, 28, 1), and Keras's answers, (n, 10)."""
    source = sources.load("digits")
    images = np.pad(np.kron(source.images, np.ones((1, 3, 3, 1), np.uint8)), ((0, 0), (2, 2), (2, 2), (0, 0)))
    targets = np.array([int(label) for label in source.labels])
    network = _network()
    network.fit(images, targets, epochs=3, verbose=0)
    rows = Examples(source.keys, images, targets)
    labels = tuple(str(digit) for digit in range(10))
    data = Dataset(DatasetVersion("0" * 12, "bench", ("i",), "0" * 64, "digits", labels, (28, 28, 1), {}), rows, rows)
    registry = Registry(SqliteWarehouse(folder / "warehouse.sqlite"), folder / "artefacts")
    candidate = Candidate(Trial("benchmar-t001", "bench", "0" * 12, "completed", {}), network)
    model = artefact.export(candidate, data, registry, Export(also=("keras", "onnx")))
    shutil.copytree(registry.artefact(model), folder / "model")
    network.export(str(folder / "model" / "saved_model"), format="tf_saved_model", verbose=False)
    laid = bundle.build(dataclasses.replace(settings.load(ROOT), state=folder), registry, model)
    laid.folder.rename(folder / "bundle")
    return images, np.asarray(network.predict(images, verbose=0))


def _network() -> Any:
    import keras  # pylint: disable=import-outside-toplevel  # seconds, and only here

    keras.utils.set_random_seed(1)
    network = keras.Sequential([keras.Input((28, 28, 1), dtype="uint8"), keras.layers.Rescaling(1 / 255)])
    for filters in (8, 16):
        network.add(keras.layers.Conv2D(filters, 3, activation="relu"))
        network.add(keras.layers.MaxPooling2D())
    network.add(keras.layers.Flatten())
    network.add(keras.layers.Dense(10, activation="softmax"))
    network.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    return network


def _peers(folder: Path) -> list[Peer]:
    """Return all peers, the function first; those that cannot be installed here are named and left out."""
    locked = ("--require-hashes", "-r", str(ROOT / "cloud_function" / "requirements.txt"))
    hosted = ("functions-framework", "--host", "127.0.0.1", "--target", "predict", "--port", "PORT", "--source")
    model = {"MODEL": str(folder / "model"), "TF_CPP_MIN_LOG_LEVEL": "2"}
    mlflow = ("mlflow", "onnxruntime", "onnx", "keras", "tensorflow-cpu", "uvicorn")
    serve = ("mlflow", "models", "serve", "--env-manager", "local", "--host", "127.0.0.1", "--port", "PORT", "-m")
    everyone = [
        Peer(FUNCTION, "function", locked, (*hosted, str(folder / "bundle" / "main.py"))),
        Peer(NOOP, "function", locked, (*hosted, str(PEERS / "noop_wsgi.py")), answers=False),
        Peer(ASGI, "function", locked, (*hosted, str(PEERS / "noop_asgi.py")), answers=False),
        Peer(
            "TensorFlow",
            "tensorflow",
            ("functions-framework", "tensorflow-cpu", "keras"),
            (*hosted, str(PEERS / "tensorflow_function.py")),
            variables=model,
        ),
        Peer(
            "FastAPI",
            "fastapi",
            ("fastapi", "uvicorn", "onnxruntime", "numpy"),
            ("uvicorn", "fastapi_onnx:app", "--port", "PORT", "--log-level", "warning"),
            variables=model,
        ),
        Peer(
            "BentoML",
            "bentoml",
            ("bentoml", "onnxruntime", "numpy"),
            ("bentoml", "serve", "bentoml_onnx:Digits", "--port", "PORT"),
            variables={**model, "BENTOML_DO_NOT_TRACK": "True"},
        ),
        Peer("MLflow Keras", "mlflow", mlflow, (*serve, str(folder / "model" / "mlflow_keras")), "/invocations", variables=model),
        Peer("MLflow ONNX", "mlflow", mlflow, (*serve, str(folder / "model" / "mlflow_onnx")), "/invocations", variables=model),
    ]
    wished = os.environ.get("PEERS", "").split(",")
    chosen = [peer for number, peer in enumerate(everyone) if number < 2 or wished == [""] or peer.name in wished]
    for peer in chosen:
        if peer.name.startswith("MLflow"):
            subprocess.run(
                [peer.python(), PEERS / "save_mlflow.py", folder / "model"], check=True, capture_output=True, env={**os.environ, **model}
            )
    return chosen


def forms_of(image: Digits) -> dict[str, Form]:
    """Return the bodies that ask for an image, (28, 28, 1)."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "PNG")
    shapes = {"28x28x1": (28, 28, 1), "flat": (784,)}
    bodies = {name: ("application/json", orjson.dumps({"instances": [image.reshape(shape).tolist()]})) for name, shape in shapes.items()}
    return {**bodies, "PNG": ("image/png", file.getvalue())}


Colds = dict[str, list[tuple[float, float]]]
Loads = dict[tuple[str, str, int], list[tuple[Load, Load]]]


def _turns(peers: list[Peer], images: Digits, expected: Digits, folder: Path) -> tuple[Colds, Loads]:
    """Start and load the function and each peer in turns, pair by pair, and check what they answer.

    Both are there while one of them is loaded: what else the machine does meets both sides of a pair.
    """
    colds: Colds = {}
    loads: Loads = {}
    forms = forms_of(images[0])
    function = peers[0]
    for peer in peers[1:]:
        print(f"The function and {peer.name} ...", flush=True)
        if peer.name in COLD:
            colds[peer.name] = [_starts(function, peer, forms["28x28x1"], folder) for _ in range(ROUNDS)]
        first = servers.running(function, forms["28x28x1"], folder / "function.log")
        with first as ours, servers.running(peer, forms["28x28x1"], folder / "log") as theirs:
            for server in (ours, theirs):
                _check(server, images, expected)
            for form, clients in product(forms, (1, 8)) if peer.name == NOOP else (("28x28x1", 8),):
                loads[peer.name, form, clients] = [
                    (_load(ours, forms[form], clients, folder), _load(theirs, forms[form], clients, folder)) for _ in range(ROUNDS)
                ]
    return colds, loads


def _starts(function: Peer, peer: Peer, form: Form, folder: Path) -> tuple[float, float]:
    with servers.running(function, form, folder / "log") as ours:
        pass
    with servers.running(peer, form, folder / "log") as theirs:
        pass
    return ours.cold, theirs.cold


def _load(server: Running, form: Form, clients: int, folder: Path) -> Load:
    found = servers.load(server, form, clients, SECONDS, folder)
    assert not found.bad, f"{server.peer.name} failed {found.bad} times"
    return found


def _check(server: Running, images: Digits, expected: Digits) -> None:
    """Ask for some images before anything is timed, which warms the server up, too."""
    for row in range(0, 200, 4):
        code, answer = server.ask(forms_of(images[row])["28x28x1"])
        assert code == 200
        if server.peer.answers:
            assert np.allclose(servers.probabilities(answer), expected[row], atol=1e-3), server.peer.name


def _figure(name: str, pairs: list[tuple[float, float]], unit: str, target: tuple[str, float], ours_first: bool = True) -> Figure:
    """Compare by the median of the pairs' ratios, ours to theirs or the other way round; the target is a sign and a bound."""
    sign, bound = target
    ratio = statistics.median(ours / theirs if ours_first else theirs / ours for ours, theirs in pairs)
    value, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    runs = [ours for ours, _ in pairs]
    return Figure(name, value, unit, other, ratio, runs, f"{sign} {bound:g}", ratio <= bound if sign == "<=" else ratio >= bound)


def _cold(colds: Colds) -> list[Figure]:
    return [_figure(f"cold start, {name}", pairs, "s", COLD[name], COLD[name][0] == "<=") for name, pairs in colds.items()]


def _loads(loads: Loads) -> list[Figure]:
    def rates(name: str, form: str) -> list[tuple[float, float]]:
        return [(ours.rate, theirs.rate) for ours, theirs in loads[name, form, 8]]

    def p99(name: str, form: str, clients: int) -> list[tuple[float, float]]:
        return [(ours.p99, theirs.p99) for ours, theirs in loads[name, form, clients]]

    there = dict.fromkeys(name for name, _, _ in loads)
    figures = [_figure(f"requests/s at 8, {name}", rates(name, "28x28x1"), "/s", (">=", RATE[name])) for name in there if name in RATE]
    figures += [_figure(f"requests/s at 8, {form}, {NOOP}", rates(NOOP, form), "/s", (">=", 0.7)) for form in ("flat", "PNG")]
    figures += [_figure(f"p99 at 1, {form}, {NOOP}", p99(NOOP, form, 1), "ms", ("<=", 2)) for form in ("28x28x1", "flat", "PNG")]
    slowest = {name: statistics.median(theirs for _, theirs in p99(name, "28x28x1", 8)) for name in there if name not in (NOOP, ASGI)}
    best = min(slowest, key=lambda name: slowest[name], default=NOOP)
    return [*figures, _figure(f"p99 at 8, the best peer's: {best}", p99(best, "28x28x1", 8), "ms", ("<=", 0.5))]


def _size(peer: Peer) -> list[Figure]:
    packages = peer.python().parent.parent / "lib"
    kept = [path for path in packages.rglob("*") if path.is_file() and not {"pip", "setuptools", "__pycache__"} & set(path.parts)]
    size = sum(path.stat().st_size for path in kept) / 2**20
    return [_figure("installed size", [(size, 150.0)], "MB", ("<=", 1))]


if __name__ == "__main__":
    main()
