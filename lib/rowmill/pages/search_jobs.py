"""Searches as jobs of this machine: one at a time, started from parameters, gone on with, stopped."""

from collections.abc import Mapping
from typing import Any

from rowmill import jobs
from rowmill.errors import NotFoundError
from rowmill.pages import parts, search_form, words
from rowmill.records import Trial
from rowmill.settings import Settings
from rowmill.training.study import Study

JOB = "search"


def start(settings: Settings, parameters: Mapping[str, Any], sentence: str) -> None:
    """Start the search's notebook as a job.

    Args:
        settings: The project.
        parameters: Of the notebook.
        sentence: The key of what the job is, in the table of sentences.

    Raises:
        BusyError: One runs.
        SettingsError: The dashboard only shows.
    """
    parts.check_writable(settings)
    own = search_form.defaults(settings)
    given = {name: value for name, value in parameters.items() if value != own[name]}
    what = words.say(sentence, service=parameters.get("service") or words.say("search.newest"))
    jobs.start_once(settings.state, jobs.Job(JOB, what, search_form.command(given), settings.root))


def resume(settings: Settings, study: Study) -> None:
    """Go on with a search that was cut off; see `start`."""
    parameters = search_form.parameters_of(study, search_form.defaults(settings))
    start(settings, {**parameters, "check_up": not study.trials()}, "search.job")


def train(settings: Settings, study: Study, trial: Trial, values: Mapping[str, str]) -> None:
    """Train one network with values given by hand, as long as a trial was.

    Args:
        settings: The project.
        study: The trial's search, whose data, network and objective are used again.
        trial: Says how long.
        values: Hyperparameter to its text, and `seed`.

    Raises:
        ParameterError: The network has no such hyperparameter, or a value is of another kind.
    """
    parameters = search_form.parameters_of(study, search_form.defaults(settings))
    given = {name: text for name, text in values.items() if name != "seed"}
    one = {"trials": 1, "algorithm": "random", "refit": False, "seeds": 0, "members": 1, "check_up": False, "patience": 0}
    one |= {"space": search_form.single_values(given, parameters["network"]), "seed": search_form.whole("seed", values["seed"])}
    # Its own time, and room for a busier machine.
    minutes = max(parameters["minutes"], 3 * trial.seconds / 60 + 1)
    start(settings, {**parameters, **one, "epochs": trial.epochs or parameters["epochs"], "minutes": minutes}, "search.train_job")


def stop(settings: Settings) -> None:
    """Stop the job; its search stays as it is, to be gone on with.

    Raises:
        NotFoundError: None runs.
    """
    parts.check_writable(settings)
    if not jobs.stop(settings.state, JOB):
        raise NotFoundError(words.say("search.nothing_runs"), step=words.say("search.nothing_runs_step"))
