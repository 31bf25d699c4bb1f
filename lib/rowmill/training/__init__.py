"""From arrays to a searched, exported candidate; the only folder that loads Keras."""

import os

# TensorFlow greets each import with a page of CPU features; warnings and errors still come through.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
