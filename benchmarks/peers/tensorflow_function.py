"""The older projects' function: all of TensorFlow, and the model loaded at the first request (at import it hangs after the fork)."""

import os

import functions_framework
import numpy as np

MODEL = []


@functions_framework.http
def predict(request):  # type: ignore[no-untyped-def]
    """Answer the probabilities of a request's instances."""
    if not MODEL:
        import tensorflow as tf  # pylint: disable=import-error,import-outside-toplevel

        MODEL.append(tf.saved_model.load(os.environ["MODEL"] + "/saved_model"))
    images = np.asarray(request.get_json()["instances"], np.uint8)
    return {"predictions": MODEL[0].serve(images).numpy().tolist()}
