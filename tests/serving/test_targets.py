"""What every place that serves must do, held by each of them."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from rowmill import jobs
from rowmill.errors import EndpointError
from rowmill.records import Bundle
from rowmill.sections import Cloud
from rowmill.serving import bundle as bundles
from rowmill.serving import release
from rowmill.serving.release import Service
from rowmill.serving.target import model_of

from tests.conftest import project_in


@pytest.fixture(params=["local", "gcloud"])
def place(request: pytest.FixtureRequest, digits_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The service `digits` in one of the places; nothing serves there yet."""
    shutil.copytree(digits_state, tmp_path / "state")
    project = project_in(tmp_path / "state")
    if request.param == "gcloud":
        google = request.getfixturevalue("google")
        for name, value in google.variables.items():
            monkeypatch.setenv(name, value)
        project = dataclasses.replace(project, target_kind="gcloud", cloud=Cloud(project=google.project, build_minutes=1))
    yield release.open_service(project, "digits")
    for name in jobs.names(project.state):
        jobs.stop(project.state, name)


@pytest.fixture
def two(place: Service) -> tuple[Bundle, Bundle]:
    """The bundles of two models."""
    weak, good = (bundles.build(place.settings, place.registry, model) for model in place.registry.models("digits"))
    return good, weak


def answers(place: Service, address: str = "") -> str:
    """Return which model answers."""
    with place.target.open(address) as endpoint:
        return str(endpoint.describe()["model"])


def test_a_target_keeps_its_word(place: Service, two: tuple[Bundle, Bundle]) -> None:
    good, weak = two
    target = place.target
    assert target.traffic() == {} and target.kind == place.settings.target_kind and target.actor
    with target.dark(good) as first:
        assert answers(place, first.address) == good.model_id == model_of(first.name)
        target.shift({first.name: 100})
    assert target.traffic() == {first.name: 100} and answers(place) == good.model_id and target.address

    with target.dark(weak) as second:
        assert answers(place, second.address) == weak.model_id and answers(place) == good.model_id
        assert target.traffic() == {first.name: 100}
    with pytest.raises(EndpointError):
        answers(place, second.address)

    broken = dataclasses.replace(weak, folder=Path(shutil.copytree(weak.folder, weak.folder.with_name(f"{weak.model_id}-00000bad"))))
    (broken.folder / "model.tflite").write_bytes(b"no model")
    with pytest.raises(EndpointError, match=f"Model {weak.model_id} does not (start|answer)"), target.dark(broken):
        pass
    assert target.traffic() == {first.name: 100} and answers(place) == good.model_id

    target.shift({})
    assert target.traffic() == {}
    with pytest.raises(EndpointError):
        answers(place)
