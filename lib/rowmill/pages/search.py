"""The Search page: starts, watches, stops and resumes searches, which run outside it; it keeps no truth of its own."""

from collections.abc import Sequence
from importlib import resources

import ipywidgets

from rowmill import jobs
from rowmill.pages import parts, words
from rowmill.pages.search_jobs import JOB
from rowmill.pages.search_new import New
from rowmill.pages.search_watch import Watch
from rowmill.settings import Settings
from rowmill.training.study import Study

_FAILED, _REGISTERED = "rowmill: ", "Model: "  # how the command ends


def page(settings: Settings) -> ipywidgets.Widget:
    """Return the Search page of a project; it reads when somebody looks at it."""
    job, new = parts.Notice(), New(settings)
    watch = Watch(settings, new.fill)

    def refresh() -> None:
        work = jobs.look(settings.state, JOB)
        is_busy = bool(work and work.is_running) or jobs.is_changing(settings.state, JOB)
        watch.refresh(is_busy)
        new.refresh(is_busy)
        job.say(*job_line(settings, work, watch.searches))

    style = parts.html(f"<style>{resources.files(__package__).joinpath('search.css').read_text('utf-8')}</style>", "rm-style")
    return parts.page(
        words.say("search.title"), [], style, parts.column(parts.Beat(refresh, job), job, name="rm-told"), watch.root, new.root
    )


def job_line(settings: Settings, work: jobs.Work | None, searches: Sequence[Study]) -> tuple[str, str]:
    """Return what there is to say of the job beside what its search shows, and the kind of that: `done`, `running` or `failed`."""
    lines = [line for line in jobs.tail(settings.state, JOB) if line.strip()]
    last = lines[-1] if lines else ""
    if work is None or (work.is_running and any(search.is_running for search in searches)):
        return "", "done"
    if not work.is_running and jobs.is_changing(settings.state, JOB):
        return words.say("search.changing"), "running"
    if work.is_running:
        is_done = any(search.is_finished and search.touched > work.at.timestamp() for search in searches)
        return words.say("search.finishing") if is_done else words.say("search.getting_ready", words=last), "running"
    if last.startswith(_FAILED):
        return words.say("search.failed", words=last.removeprefix(_FAILED)), "failed"
    if last.startswith(_REGISTERED):
        return words.say("search.over", model=last.removeprefix(_REGISTERED)), "done"
    return words.say("search.cut", log=jobs.log_path(settings.state, JOB)), "failed"
