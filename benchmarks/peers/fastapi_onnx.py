"""FastAPI with ONNX Runtime, as their own documents put them together."""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
SESSION = onnxruntime.InferenceSession(os.environ["MODEL"] + "/model.onnx", options, providers=["CPUExecutionProvider"])
INPUT = SESSION.get_inputs()[0].name
app = FastAPI()


class Request(BaseModel):
    """A request's body."""

    instances: list[list[list[list[int]]]]


@app.post("/")
def predict(request: Request) -> dict[str, list[list[float]]]:
    """Answer the probabilities of a request's instances."""
    (answer,) = SESSION.run(None, {INPUT: np.asarray(request.instances, np.uint8)})
    return {"predictions": answer.tolist()}
