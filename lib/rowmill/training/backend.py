"""Keras and TensorFlow, loaded without TensorFlow's greeting, which no log level stops and a notebook would show in red."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep what libraries in C write to the error stream to themselves; it is shown when the import fails."""
    with tempfile.TemporaryFile() as said:
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            sys.stderr.write(said.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


with _silenced():
    import keras
    import tensorflow as tf

__all__ = ["keras", "tf"]
