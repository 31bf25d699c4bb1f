"""A trial's curve and hyperparameters as TensorBoard reads them, below `<state>/tensorboard/`."""

from pathlib import Path
from typing import Any

from tensorboard.plugins.hparams import api as hparams

from rowmill.records import ModelId, Trial
from rowmill.training.backend import tf


def folder(state: Path, model_id: str) -> Path:
    """Return where a trial's event files are."""
    trial = ModelId.parse(model_id)
    return state / "tensorboard" / trial.experiment / trial.trial


class Events:
    """Writes one trial's event file; a trial that is taken up again gets a further one.

    Args:
        state: The folder of local state.
        trial: With its values.
    """

    def __init__(self, state: Path, trial: Trial) -> None:
        self.writer: Any = tf.summary.create_file_writer(str(folder(state, trial.model_id)))
        with self.writer.as_default():
            hparams.hparams(trial.hyperparameters, trial_id=trial.model_id)

    def epoch(self, trial: Trial) -> None:
        """Write the last epoch: the score (higher is better) and the best accuracy on the validation split, 0 to 1."""
        with self.writer.as_default(step=len(trial.curve)):
            tf.summary.scalar("score", trial.curve[-1])
            tf.summary.scalar("best_accuracy", trial.accuracy)
        self.writer.flush()

    def close(self) -> None:
        """End the file."""
        self.writer.close()
