"""The Models page without a browser, over a real registry and a real endpoint."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator

import ipywidgets
import pytest
from rowmill import jobs
from rowmill.pages import models
from rowmill.records import Deployment, Report, Verdict, now
from rowmill.registry import Registry
from rowmill.serving import release
from rowmill.settings import Settings

from tests.dashboards.conftest import FIRST, SECOND, served, wait_until

# A job outlives the one who started it on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

NASTY = "<img src=x onerror=document.title='taken'>"


def widgets(root: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """Walk the widget and all that it shows."""
    yield root
    for child in getattr(root, "children", ()):
        yield from widgets(child)


def text(page: ipywidgets.Widget) -> str:
    """Return all markup of the page."""
    return "\n".join(widget.value for widget in widgets(page) if isinstance(widget, ipywidgets.HTML))


def button(page: ipywidgets.Widget, tooltip: str) -> ipywidgets.Button:
    """Return the button by its tooltip, or by its words."""
    return next(w for w in widgets(page) if isinstance(w, ipywidgets.Button) and tooltip in (w.tooltip, w.description))


def click(page: ipywidgets.Widget, tooltip: str) -> None:
    """Click, and wait until the page is at rest."""
    button(page, tooltip).click()
    wait_until(lambda: not button(page, "Refresh").disabled)


class TestPage:
    """The page without a browser."""

    def test_shows_models_newest_first_and_that_nothing_serves(self, mill: Settings):
        page = models.page(mill)
        shown = text(page)
        assert "Nothing serves yet" in shown
        assert shown.index(SECOND) < shown.index(FIRST)
        assert "20.00 %" in shown and "not judged" in shown and "Nothing was deployed yet" in shown
        assert button(page, "Nothing to roll back to").disabled

    def test_an_empty_registry_says_what_to_run(self, mill: Settings):
        shutil.rmtree(mill.state)
        page = models.page(mill)
        assert "make run" in text(page)
        assert [w.description for w in widgets(page) if isinstance(w, ipywidgets.Button)] == ["Refresh", "Roll back"]
        click(page, "Refresh")
        assert "As of" in text(page)

    def test_deploys_and_rolls_back(self, mill: Settings, registry: Registry):
        page = models.page(mill)
        click(page, f"Deploy {FIRST}")
        assert served(mill) == FIRST and f"{FIRST} serves now" in text(page)
        assert button(page, f"Deploy {FIRST}").disabled and not button(page, f"Deploy {SECOND}").disabled
        click(page, f"Deploy {SECOND}")
        assert served(mill) == SECOND
        click(page, f"Roll back to {FIRST}")
        assert served(mill) == FIRST
        assert [(d.action, d.outcome) for d in registry.deployments("digits")] == [
            ("deploy", "serving"),
            ("deploy", "serving"),
            ("roll back", "serving"),
        ]
        assert button(page, "Nothing to roll back to").disabled

    def test_says_that_it_works_and_takes_no_second_click(self, mill: Settings, registry: Registry):
        page = models.page(mill)
        button(page, f"Deploy {FIRST}").click()
        assert f"Deploying {FIRST} ..." in text(page)
        assert all(w.disabled for w in widgets(page) if isinstance(w, ipywidgets.Button))
        button(page, f"Deploy {SECOND}").click()
        wait_until(lambda: not button(page, "Refresh").disabled)
        assert [d.model_id for d in registry.deployments("digits")] == [FIRST]

    def test_a_damaged_file_is_a_sentence_and_what_served_serves_on(self, mill: Settings, registry: Registry):
        page = models.page(mill)
        click(page, f"Deploy {FIRST}")
        (registry.artefacts / SECOND / "model.tflite").write_bytes(b"nothing")
        click(page, f"Deploy {SECOND}")
        shown = text(page)
        assert f"model.tflite of model {SECOND} must have SHA-256" in shown and 'role="alert"' in shown
        assert served(mill) == FIRST and "failed" in shown
        assert not button(page, f"Deploy {SECOND}").disabled

    def test_an_unexpected_error_is_a_sentence_too(self, mill: Settings, monkeypatch: pytest.MonkeyPatch):
        page = models.page(mill)

        def fail(*_: object) -> None:
            raise TypeError(NASTY)

        monkeypatch.setattr(release, "deploy", fail)
        click(page, f"Deploy {FIRST}")
        assert "Something unexpected happened (TypeError: &lt;img" in text(page)
        monkeypatch.setattr(release, "serving", fail)
        click(page, "Refresh")
        assert "Something unexpected happened" in text(page)

    def test_everything_from_elsewhere_is_escaped(self, mill: Settings, registry: Registry):
        behind = Report(FIRST, "", "digits", NASTY, ({"name": NASTY, "state": "pass", "note": NASTY},), (NASTY,), at=now())
        registry.add(Verdict(FIRST, "", "digits", "better", NASTY, at=behind.at, report=behind))
        registry.add(Deployment(NASTY, "digits", NASTY, NASTY, NASTY, "0", NASTY, NASTY, NASTY, 1.0))
        shown = text(models.page(mill))
        assert "<img" not in shown and shown.count("&lt;img") >= 10

    def test_a_verdict_is_shown_whole_with_or_without_a_report(self, mill: Settings, registry: Registry):
        behind = Report(FIRST, "", "digits", "worse: -1", ({"name": "nll", "state": "fail", "note": "rose"},), ("Worn.",), at=now())
        registry.add(Verdict(FIRST, "", "digits", "worse", "it is worse", at=behind.at, report=behind))
        registry.add(Verdict(SECOND, "", "digits", "better", "as rowmill once stored it"))
        shown = text(models.page(mill))
        assert "as rowmill once stored it" in shown
        assert all(part in shown for part in ("it is worse", ">nll<", ">fail<", ">rose<", "<li>Worn.</li>"))

    def test_a_difference_between_records_and_endpoint_is_an_alarm(self, mill: Settings, registry: Registry):
        service = release.open_service(mill, "digits")
        done = release.deploy(service, FIRST, "by hand", force=True)
        page = models.page(mill)
        assert "By the records" not in text(page)
        registry.add(Deployment(SECOND, "digits", "deploy", "local", FIRST, done.sha256, "serving", "", "somebody", 1.0, now()))
        click(page, "Refresh")
        assert f"By the records {SECOND} should serve, but the endpoint answers with {FIRST}" in text(page)

    def test_a_silent_endpoint_is_restarted(self, mill: Settings):
        release.deploy(release.open_service(mill, "digits"), FIRST, "by hand", force=True)
        jobs.stop(mill.state, "function-digits")
        assert f"{FIRST}</b>" in text(models.page(mill)) and served(mill) == FIRST

    def test_an_endpoint_that_stays_silent_is_an_alarm(self, mill: Settings):
        release.deploy(release.open_service(mill, "digits"), FIRST, "by hand", force=True)
        jobs.stop(mill.state, "function-digits")
        with socket.create_server(("127.0.0.1", mill.target_port)):
            page = models.page(mill)
            assert f"Port {mill.target_port} of 127.0.0.1 is in use by another program" in text(page)
            assert not button(page, f"Deploy {FIRST}").disabled

    def test_long_lists_say_how_many_more_there_are(self, mill: Settings, registry: Registry):
        for number in range(53):
            registry.add(Deployment(FIRST, "digits", "deploy", "local", "", "0", "failed", f"reason {number}", "me", 1.0))
        shown = text(models.page(mill))
        assert shown.count("<tr>") == 51 and "3 more" in shown
        assert "reason 52" in shown and "reason 2<" not in shown

    def test_the_service_with_the_newest_model_is_shown_first(self, mill: Settings, registry: Registry):
        choice = next(w for w in widgets(models.page(mill)) if isinstance(w, ipywidgets.Dropdown))
        assert choice.layout.display == "none"
        other = Registry(registry.warehouse, registry.artefacts)
        first = registry.model(FIRST)
        other.add(type(first)(**{**first.__dict__, "model_id": "letters1-t001", "service": "letters"}))
        page = models.page(mill)
        choice = next(w for w in widgets(page) if isinstance(w, ipywidgets.Dropdown))
        assert (choice.value, choice.options, choice.layout.display) == ("letters", ("digits", "letters"), "")
        assert "letters1-t001" in text(page) and FIRST not in text(page)
        choice.value = "digits"
        wait_until(lambda: FIRST in text(page))
        wait_until(lambda: not button(page, "Refresh").disabled)

    def test_loads_no_tensorflow(self):
        code = (
            "import sys, rowmill.pages.models, rowmill.pages.host; print(sorted({'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)))"
        )
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
