"""BentoML with ONNX Runtime."""

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(traffic={"timeout": 10})
class Digits:
    """The model as a service."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"] + "/model.onnx", options, providers=["CPUExecutionProvider"])
        self.place = self.session.get_inputs()[0].name

    @bentoml.api(route="/")
    def predict(self, instances: list) -> dict:  # type: ignore[type-arg]
        """Answer the probabilities of a request's instances."""
        (answer,) = self.session.run(None, {self.place: np.asarray(instances, np.uint8)})
        return {"predictions": answer.tolist()}
