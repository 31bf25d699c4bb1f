"""The function beside a function that does nothing and beside other servers: cold start, throughput, latency, memory, wrong answers, fuzz.

One small convolutional network for all, in each peer's own form; answers are checked before anything is timed; runs take turns, and
figures are medians. `wrk` must be there (`apt-get install wrk`, `brew install wrk`). The environments are made once, under
`.rowmill/bench-venvs/` (4 GB). By itself it is short, a quarter of an hour; `FULL=1` asks as often as the targets say. `PEERS=` names some.
"""

import dataclasses
import io
import os
import shutil
import statistics
import subprocess
import tempfile
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
ROUNDS, SECONDS = (5, 5.0) if FULL else (3, 2.0)
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


Loads = dict[tuple[str, str, int], list[Load]]


def _turns(peers: list[Peer], images: Digits, expected: Digits, folder: Path) -> tuple[dict[str, list[float]], Loads]:
    """Start each peer in each round, check what it answers, and load it."""
    cold: dict[str, list[float]] = {peer.name: [] for peer in peers}
    loads: Loads = {}
    forms = forms_of(images[0])
    for number in range(ROUNDS):
        for peer in peers:
            print(f"Round {number + 1} of {ROUNDS}: {peer.name}", flush=True)
            with servers.running(peer, forms["28x28x1"], folder / "log") as server:
                cold[peer.name].append(server.cold)
                _check(server, images, expected)
                for form in ("28x28x1", "flat", "PNG") if peer.name in (FUNCTION, NOOP, ASGI) else ("28x28x1",):
                    for clients in (1, 8):
                        found = servers.load(server, forms[form], clients, SECONDS, folder)
                        assert not found.bad, f"{peer.name} failed {found.bad} times"
                        loads.setdefault((peer.name, form, clients), []).append(found)
    return cold, loads


def _check(server: Running, images: Digits, expected: Digits) -> None:
    """Ask for some images before anything is timed, which warms the server up, too."""
    for row in range(0, 200, 4):
        code, answer = server.ask(forms_of(images[row])["28x28x1"])
        assert code == 200
        if server.peer.answers:
            assert np.allclose(servers.probabilities(answer), expected[row], atol=1e-3), server.peer.name


def _figure(name: str, runs: list[float], against: list[float], unit: str, target: tuple[str, float, bool]) -> Figure:
    """Compare medians; the target is a sign, a bound, and whether the ratio is ours to theirs."""
    sign, bound, ours_first = target
    value, other = statistics.median(runs), statistics.median(against)
    ratio = value / other if ours_first else other / value
    return Figure(name, value, unit, other, ratio, runs, f"{sign} {bound:g}", ratio <= bound if sign == "<=" else ratio >= bound)


def _cold(cold: dict[str, list[float]]) -> list[Figure]:
    known = [(name, *target) for name, target in COLD.items() if name in cold]
    return [_figure(f"cold start, {name}", cold[FUNCTION], cold[name], "s", (sign, bound, sign == "<=")) for name, sign, bound in known]


def _loads(loads: Loads) -> list[Figure]:
    def rates(name: str, form: str) -> list[float]:
        return [found.rate for found in loads[name, form, 8]]

    def p99(name: str, form: str, clients: int) -> list[float]:
        return [found.p99 for found in loads[name, form, clients]]

    there = {name for name, _, _ in loads}
    figures = [
        _figure(f"requests/s at 8, {name}", rates(FUNCTION, "28x28x1"), rates(name, "28x28x1"), "/s", (">=", least, True))
        for name, least in RATE.items()
        if name in there
    ]
    for form in ("flat", "PNG"):
        figures.append(_figure(f"requests/s at 8, {form}, {NOOP}", rates(FUNCTION, form), rates(NOOP, form), "/s", (">=", 0.7, True)))
    for form in ("28x28x1", "flat", "PNG"):
        figures.append(_figure(f"p99 at 1, {form}, {NOOP}", p99(FUNCTION, form, 1), p99(NOOP, form, 1), "ms", ("<=", 2, True)))
    best = min((name for name in there - {FUNCTION, NOOP, ASGI}), key=lambda name: statistics.median(p99(name, "28x28x1", 8)), default=NOOP)
    figures.append(
        _figure(f"p99 at 8, the best peer's: {best}", p99(FUNCTION, "28x28x1", 8), p99(best, "28x28x1", 8), "ms", ("<=", 0.5, True))
    )
    return figures


def _size(peer: Peer) -> list[Figure]:
    packages = peer.python().parent.parent / "lib"
    kept = [path for path in packages.rglob("*") if path.is_file() and not {"pip", "setuptools", "__pycache__"} & set(path.parts)]
    size = sum(path.stat().st_size for path in kept) / 2**20
    return [_figure("installed size", [size], [150.0], "MB", ("<=", 1, True))]


if __name__ == "__main__":
    main()
