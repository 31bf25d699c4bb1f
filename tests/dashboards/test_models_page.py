"""The Models page without a browser, over a real registry, real jobs and a real endpoint."""

import dataclasses
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator

import ipywidgets
import pytest
from rowmill import jobs
from rowmill.pages import change, history, models, parts, words
from rowmill.pages import stand as stands
from rowmill.pages.table import Table
from rowmill.records import Deployment, Report, Verdict, now
from rowmill.registry import Registry
from rowmill.serving import release
from rowmill.serving.journal import Journal
from rowmill.settings import Settings

from tests.conftest import ROOT
from tests.dashboards.conftest import FIRST, SECOND, served, shared_by_environment, wait_until

# A job outlives the one who started it on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

NASTY = "<img src=x onerror=document.title='taken'>"


def widgets(root: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """Walk the widget and all that it shows."""
    yield root
    for child in getattr(root, "children", ()):
        if child.layout.display != "none":
            yield from widgets(child)


def text(page: ipywidgets.Widget) -> str:
    """Return all that the page says."""
    said = [w.value if isinstance(w, ipywidgets.HTML) else w.text for w in widgets(page) if isinstance(w, ipywidgets.HTML | parts.Notice)]
    return "\n".join(said)


def button(page: ipywidgets.Widget, label: str) -> ipywidgets.Button:
    """Return the button by its words."""
    return next(w for w in widgets(page) if isinstance(w, ipywidgets.Button) and w.description == label)


def table(page: ipywidgets.Widget) -> Table:
    """Return the list of models."""
    return next(w for w in widgets(page) if isinstance(w, Table))


def choose(page: ipywidgets.Widget, model_id: str) -> None:
    """Choose a model of the list, as the browser does, and wait for its card."""
    table(page)._handle_custom_msg({"chosen": model_id}, [])  # pylint: disable=protected-access
    wait_until(lambda: f'<h2><span class="rm-id">{model_id}</span> ' in text(page))


def beat(page: ipywidgets.Widget) -> None:
    """Beat as the browser does."""
    next(w for w in widgets(page) if isinstance(w, parts.Beat)).strike()


def ask(page: ipywidgets.Widget, label: str, reason: str = "") -> None:
    """Click, give a reason, and confirm."""

    def is_enabled() -> bool:
        beat(page)
        return not button(page, label).disabled

    wait_until(is_enabled)
    button(page, label).click()
    wait_until(lambda: any(w.description == f"{label} now" for w in widgets(page) if isinstance(w, ipywidgets.Button)))
    next(w for w in widgets(page) if isinstance(w, ipywidgets.Text) and w.description == "Reason").value = reason
    button(page, f"{label} now").click()


def until_said(page: ipywidgets.Widget, sentence: str) -> None:
    """Beat until the page says it."""

    def is_said() -> bool:
        beat(page)
        return sentence in text(page)

    wait_until(is_said)


@pytest.fixture(name="page")
def _page(mill: Settings, monkeypatch: pytest.MonkeyPatch) -> ipywidgets.Widget:
    """The page of a service with two models that were never judged; nothing serves."""
    shared_by_environment(mill, monkeypatch)
    page = models.page(mill)
    wait_until(lambda: "Hyperparameters" in text(page))
    return page


def test_shows_models_newest_first_and_that_nothing_serves(page: ipywidgets.Widget):
    assert "Nothing serves yet" in text(page) and "Nothing was deployed yet" in text(page)
    assert [row["id"] for row in table(page).rows] == [SECOND, FIRST]
    cells = [cell.get("text", "") for cell in table(page).rows[0]["cells"]]
    assert cells[2:4] == ["20.00 % (16.2–24.4)", "not judged"]
    assert button(page, "Roll back").disabled


def test_a_card_tells_what_a_model_is_and_where_it_comes_from(page: ipywidgets.Widget, registry: Registry):
    choose(page, FIRST)
    shown, model = text(page), registry.model(FIRST)
    assert all(part in shown for part in ("hidden_layers", "seed0001", model.dataset_version, model.sha256[:12], "digits"))
    assert shown.count(">yes<") == 3 and "rm-matrix" in shown
    (registry.artefacts / FIRST / "model.json").write_text("{}")
    (registry.artefacts / FIRST / "answers.npz").unlink()
    choose(page, SECOND)
    choose(page, FIRST)
    assert "no: another file" in text(page) and "Cannot be told" in text(page)


def test_the_confusion_matrix_counts_all_validation_rows(mill: Settings):
    stand = stands.read(mill, "digits")
    assert stand is not None
    from rowmill.pages import model_card  # pylint: disable=import-outside-toplevel

    counts = model_card.read(stand, stand.models[0]).confusion
    version = next(iter(stand.versions.values()))
    assert [sum(row) for row in counts] == [version.label_counts[label]["validation"] for label in version.labels]


def test_an_empty_registry_says_what_to_run(mill: Settings):
    shutil.rmtree(mill.state)
    page = models.page(mill)
    wait_until(lambda: "make run" in text(page))
    assert button(page, "Roll back").disabled


def test_deploys_by_force_with_a_reason_and_rolls_back(page: ipywidgets.Widget, mill: Settings, registry: Registry):
    choose(page, FIRST)
    ask(page, "Deploy")
    wait_until(lambda: "A forced deployment needs a reason" in text(page))
    assert "was never judged" in text(page) and "probe it with its golden examples" in text(page)
    ask_again = button(page, "Deploy now")
    next(w for w in widgets(page) if isinstance(w, ipywidgets.Text) and w.description == "Reason").value = "--it is the first"
    ask_again.click()
    until_said(page, f"{FIRST} serves digits")
    assert served(mill) == FIRST and button(page, "Deploy").disabled and button(page, "Delete").disabled
    choose(page, SECOND)
    ask(page, "Deploy", "second")
    until_said(page, f"{SECOND} serves digits")
    until_said(page, f"to {FIRST}, which served before")
    ask(page, "Roll back")
    until_said(page, f'<span class="rm-id">{FIRST}</span> <span class="rm-badge rm-live">')
    wait_until(lambda: len(registry.deployments("digits")) == 3)
    until_said(page, "roll back")
    done = registry.deployments("digits")
    assert [(d.action, d.outcome, d.forced, d.reason) for d in done] == [
        ("deploy", "serving", True, "--it is the first"),
        ("deploy", "serving", True, "second"),
        ("roll back", "serving", False, words.say("change.by_hand")),
    ]
    assert all(d.actor in text(page) for d in done) and "forced" in text(page)


def test_a_failing_deployment_is_a_sentence_and_what_served_serves_on(page: ipywidgets.Widget, mill: Settings, registry: Registry):
    release.deploy(release.open_service(mill, "digits"), FIRST, "first", force=True)
    path = registry.artefacts / SECOND / "model.json"
    choose(page, SECOND)
    button(page, "Deploy").click()
    wait_until(lambda: any(w.description == "Deploy now" for w in widgets(page) if isinstance(w, ipywidgets.Button)))
    path.write_text(path.read_text().replace("0", "1"))
    next(w for w in widgets(page) if isinstance(w, ipywidgets.Text) and w.description == "Reason").value = "let us see"
    button(page, "Deploy now").click()
    until_said(page, f"model.json of model {SECOND} must have SHA-256")
    assert served(mill) == FIRST
    until_said(page, '<span class="rm-badge rm-bad">failed</span>')


def test_a_second_change_is_refused_with_who_runs_the_first(page: ipywidgets.Widget, mill: Settings):
    stand = stands.read(mill, "digits")
    job = jobs.Job(change.job_name("digits"), "a deployment of another", [sys.executable, "-c", "import time; time.sleep(60)"], mill.root)
    choose(page, FIRST)
    button(page, "Deploy").click()
    wait_until(lambda: any(w.description == "Deploy now" for w in widgets(page) if isinstance(w, ipywidgets.Button)))
    jobs.start_once(mill.state, job)
    next(w for w in widgets(page) if isinstance(w, ipywidgets.Text) and w.description == "Reason").value = "me, too"
    button(page, "Deploy now").click()
    wait_until(lambda: "A deployment of another is under way; found started by" in text(page))
    until_said(page, "A deployment of another, started by")
    wait_until(lambda: button(page, "Deploy").disabled)
    assert stand and not stand.serving.model


def test_deletes_what_does_not_serve(page: ipywidgets.Widget, registry: Registry):
    choose(page, FIRST)
    ask(page, "Delete", "no use")
    until_said(page, f"{FIRST} is deleted")
    wait_until(lambda: [row["id"] for row in table(page).rows] == [SECOND])
    assert not (registry.artefacts / FIRST).exists() and registry.deployments("digits")[-1].reason == "no use"


def test_a_read_only_dashboard_refuses(mill: Settings, registry: Registry):
    page = models.page(dataclasses.replace(mill, dashboard_read_only=True))
    wait_until(lambda: "Hyperparameters" in text(page))
    button(page, "Deploy").click()
    wait_until(lambda: "This dashboard only shows; whoever runs it may set dashboard.read_only" in text(page))
    assert "read-only" in text(page) and not registry.deployments("digits") and jobs.look(mill.state, change.job_name("digits")) is None


def test_an_unexpected_error_is_a_sentence_too(page: ipywidgets.Widget, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise TypeError("oh")

    monkeypatch.setattr(stands, "read", fail)
    button(page, "Refresh").click()
    wait_until(lambda: "Something unexpected happened (TypeError: oh)" in text(page))
    monkeypatch.undo()
    button(page, "Refresh").click()
    wait_until(lambda: "Something unexpected happened" not in text(page))


def test_everything_from_elsewhere_is_escaped(mill: Settings, registry: Registry):
    behind = Report(FIRST, "", "digits", NASTY, ({"name": NASTY, "state": "pass", "note": NASTY},), (NASTY,), at=now())
    registry.add(Verdict(FIRST, "", "digits", "better", NASTY, at=behind.at, report=behind))
    registry.add(Deployment(NASTY, "digits", NASTY, NASTY, NASTY, "0", NASTY, NASTY, NASTY, 1.0, steps={NASTY: 1.0}))
    first = registry.model(FIRST)
    registry.add(dataclasses.replace(first, labels=(NASTY, *first.labels[1:]), hyperparameters={NASTY: NASTY}))
    (registry.artefacts / FIRST / f"{NASTY.replace('/', '')}.txt").write_text("")
    (mill.state / "jobs").mkdir(exist_ok=True)
    jobs.start_once(mill.state, jobs.Job(change.job_name("digits"), NASTY, [sys.executable, "-c", f"print({NASTY!r})"], mill.root))
    page = models.page(mill)
    wait_until(lambda: "Hyperparameters" in text(page))
    choose(page, FIRST)
    shown = "\n".join(widget.value for widget in widgets(page) if isinstance(widget, ipywidgets.HTML))
    assert "<img" not in shown and shown.count("&lt;img") >= 12


def test_a_difference_between_records_and_endpoint_is_an_alarm(page: ipywidgets.Widget, mill: Settings, registry: Registry):
    done = release.deploy(release.open_service(mill, "digits"), FIRST, "by hand", force=True)
    until_said(page, f'<span class="rm-id">{FIRST}</span> <span class="rm-badge rm-live">')
    assert 'role="alert"' not in text(page)
    registry.add(Deployment(SECOND, "digits", "deploy", "local", FIRST, done.sha256, "serving", "", "somebody", 1.0))
    until_said(page, f"By the records {SECOND} should serve, but the endpoint answers with {FIRST}")


def test_an_endpoint_that_stays_silent_is_an_alarm(mill: Settings):
    release.deploy(release.open_service(mill, "digits"), FIRST, "by hand", force=True)
    jobs.stop(mill.state, "function-digits")
    with socket.create_server(("127.0.0.1", mill.target_port)):
        page = models.page(mill)
        wait_until(lambda: f"Port {mill.target_port} of 127.0.0.1 is in use by another program" in text(page))
        wait_until(lambda: not button(page, "Deploy").disabled)


def test_the_history_tells_what_served_when_and_how_many_more_there_are():
    made = [Deployment(FIRST, "digits", "deploy", "local", "", "0", "serving", f"reason {n}", "me", 1.0) for n in range(53)]
    shown = history.markup(made[::-1])
    assert shown.count("<tr>") == 51 and "3 earlier ones" in shown and "reason 52" in shown and "reason 2<" not in shown
    assert shown.count(">now<") == 1 and shown.count("<time") == 50 + 49


def test_the_service_with_the_newest_model_is_shown_first(page: ipywidgets.Widget, mill: Settings, registry: Registry):
    assert not any(isinstance(w, ipywidgets.Dropdown) and w.description == "Service" for w in widgets(page))
    registry.add(dataclasses.replace(registry.model(FIRST), model_id="letters1-t001", service="letters"))
    page = models.page(mill)
    wait_until(lambda: any(isinstance(w, ipywidgets.Dropdown) and w.description == "Service" for w in widgets(page)))
    choice = next(w for w in widgets(page) if isinstance(w, ipywidgets.Dropdown) and w.description == "Service")
    assert (choice.value, choice.options) == ("letters", ("digits", "letters"))
    choice.value = "digits"
    wait_until(lambda: [row["id"] for row in table(page).rows] == [SECOND, FIRST])


def test_wilsons_interval_is_the_published_one():
    # 81 of 263: example 1a of R. G. Newcombe, Statistics in Medicine 17 (1998), method 3.
    assert stands.wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert stands.wilson(1.0, 10)[1] == pytest.approx(1.0) and stands.wilson(0.0, 10)[0] == pytest.approx(0.0)


def test_each_sentence_of_the_table_is_said_somewhere():
    code = "\n".join(path.read_text() for path in (ROOT / "lib/rowmill/pages").glob("*.py"))
    # A whole section is handed to a widget's JavaScript, or its sentences are said by names that are put together.
    whole = {*re.findall(r'section\("(\w+)"\)', code), *re.findall(r'say\(f?"(\w+)\.(?:\{|")', code), "frame", "card", "history", "step"}
    table_of = words._table()  # pylint: disable=protected-access
    unsaid = [f"{part}.{name}" for part in table_of if part not in whole for name in table_of[part] if f"{part}.{name}" not in code]
    assert not unsaid


def test_loads_neither_tensorflow_nor_matplotlib():
    code = "import sys, rowmill.pages.models, rowmill.pages.host; print(sorted({'tensorflow', 'keras', 'matplotlib', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_change_that_was_cut_off_is_told_from_one_that_runs_elsewhere(page: ipywidgets.Widget, mill: Settings):
    journal = Journal(mill.state, "digits")
    journal.write(release.Attempt(FIRST, "deploy", "somebody", "", steps=({"name": "probe", "state": "running", "seconds": 0.1},)))
    until_said(page, f"'deploy' of {FIRST} by somebody was cut off at the step 'probe'; the next change clears that up.")
    with jobs.lock(mill.state, "deploy-digits", what="a deployment of digits"):
        until_said(page, "is under way elsewhere on this machine")
