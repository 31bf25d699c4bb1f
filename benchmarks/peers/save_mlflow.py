"""Save the model in MLflow's own format, by MLflow's venv: `save_mlflow.py FOLDER`."""

import sys
from pathlib import Path

import keras
import mlflow
import numpy as np
import onnx

FOLDER = Path(sys.argv[1])
EXAMPLE = np.zeros((1, 28, 28, 1), np.uint8)
network = keras.saving.load_model(FOLDER / "model.keras")
signature = mlflow.models.infer_signature(EXAMPLE, network.predict(EXAMPLE, verbose=0))
if not (FOLDER / "mlflow_keras").exists():
    mlflow.keras.save_model(network, str(FOLDER / "mlflow_keras"), signature=signature)
if not (FOLDER / "mlflow_onnx").exists():
    mlflow.onnx.save_model(onnx.load(FOLDER / "model.onnx"), str(FOLDER / "mlflow_onnx"), signature=signature)
