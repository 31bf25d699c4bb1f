"""The built-in networks as data: their values, and the ranges that a search tries. Loads no Keras."""

from typing import Any

DEFAULTS: dict[str, dict[str, Any]] = {
    "cnn": {
        "depth": 2,
        "filters": 32,
        "kernel": 3,
        "batch_norm": True,
        "shift": 0.07,
        "flip": False,
        "units": 128,
        "dropout": 0.1,
        "optimizer": "adam",
        "learning_rate": 3e-3,
        "schedule": "cosine",
        "batch_size": 128,
    },
    "mlp": {
        "hidden_layers": 1,
        "units": 256,
        "dropout": 0.2,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "schedule": "cosine",
        "batch_size": 128,
    },
}

# First values instead where a search has too little time for a few trials of its defaults.
FRUGAL: dict[str, dict[str, Any]] = {
    "cnn": {"depth": 2, "filters": 16, "shift": 0.0, "optimizer": "sgd", "learning_rate": 0.03, "batch_size": 64},
    "mlp": {},
}

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "constant")
_TRAINING: dict[str, dict[str, Any]] = {
    "optimizer": {"type": "choice", "values": list(OPTIMIZERS)},
    "learning_rate": {"type": "float", "min": 1e-3, "max": 0.3, "sampling": "log"},
    "schedule": {"type": "choice", "values": list(SCHEDULES)},
    "batch_size": {"type": "choice", "values": [32, 64, 128, 256]},
}
SPACES: dict[str, dict[str, dict[str, Any]]] = {
    "cnn": {
        "depth": {"type": "int", "min": 1, "max": 3},
        "filters": {"type": "int", "min": 16, "max": 48, "step": 16},
        "kernel": {"type": "choice", "values": [3, 5]},
        "batch_norm": {"type": "bool"},
        "shift": {"type": "float", "min": 0.0, "max": 0.14, "step": 0.07},
        "units": {"type": "int", "min": 32, "max": 256, "step": 2, "sampling": "log"},
        "dropout": {"type": "float", "min": 0.0, "max": 0.5, "step": 0.1},
        **_TRAINING,
        "learning_rate": {"type": "float", "min": 3e-4, "max": 3e-2, "sampling": "log"},
    },
    "mlp": {
        "hidden_layers": {"type": "int", "min": 1, "max": 3},
        "units": {"type": "int", "min": 32, "max": 512, "step": 2, "sampling": "log"},
        "dropout": {"type": "float", "min": 0.0, "max": 0.5, "step": 0.1},
        **_TRAINING,
    },
}
