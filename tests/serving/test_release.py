"""Deploys and rolls back on a real local host; whatever fails, what served keeps serving."""

import dataclasses
import json
import multiprocessing
import shutil
import socket
import threading

import httpx
import numpy as np
import psutil
import pytest
from rowmill import jobs
from rowmill.errors import BusyError, EndpointError, IntegrityError, NotFoundError
from rowmill.records import Bundle, ModelRecord, Verdict
from rowmill.registry import file_hash
from rowmill.serving import bundle as bundles
from rowmill.serving import release, switch
from rowmill.serving.endpoint import Endpoint
from rowmill.serving.release import Service
from rowmill.settings import Settings


def serves(service: Service) -> str:
    """Return the model that answers at the service's address."""
    return httpx.get(service.target.address, trust_env=False).json()["model"]


def test_nothing_serves_at_first(service: Service) -> None:
    assert release.serving(service) is None
    assert release.status(service) == "Nothing serves digits yet."


def test_deploys_and_rolls_back(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    assert serves(service) == good and not release.rollback_target(service)
    release.deploy(service, weak, "by hand", force=True)
    assert serves(service) == weak
    back = release.roll_back(service)
    assert serves(service) == good == back.model_id
    history = [(d.action, d.model_id, d.before, d.outcome) for d in service.registry.deployments("digits")]
    assert history == [("deploy", good, "", "serving"), ("deploy", weak, good, "serving"), ("roll back", good, weak, "serving")]
    with pytest.raises(NotFoundError, match="No model of service 'digits' served before"):
        release.roll_back(service)


def test_switching_loses_no_request_and_mixes_no_models(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    models = {name: bundles.build(service.settings, service.registry, service.registry.model(name)) for name in (good, weak)}
    expected = {name: bundles.golden(bundle)[1] for name, bundle in models.items()}
    body = {"instances": bundles.golden(models[good])[0].tolist()}
    stop, answers, failures = threading.Event(), [], []

    def ask(keep_alive: bool) -> None:
        with httpx.Client(trust_env=False) as client:
            while not stop.is_set():
                try:
                    headers = {} if keep_alive else {"Connection": "close"}
                    answers.append(client.post(service.target.address, json=body, headers=headers).raise_for_status().json())
                except httpx.HTTPError as error:
                    failures.append(error)

    clients = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(4)]
    for client in clients:
        client.start()
    for name in (weak, good, weak, good):
        release.deploy(service, name, "by hand", force=True)
    stop.set()
    for client in clients:
        client.join()
    assert not failures and {answer["deployedModelId"] for answer in answers} == {good, weak}
    assert all(np.allclose(answer["predictions"], expected[answer["deployedModelId"]], atol=1e-4) for answer in answers)


def test_serves_again_after_a_stop(service: Service, good: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    assert jobs.stop(service.settings.state, "function-digits")
    with pytest.raises(httpx.ConnectError):
        serves(service)
    assert release.serving(service)["model"] == good == serves(service)


def test_serves_again_after_a_kill(service: Service, good: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    host = jobs.find(service.settings.state, "function-digits")
    for process in [*host.children(recursive=True), host]:
        process.kill()
    psutil.wait_procs([host], timeout=10)
    assert release.serving(service)["model"] == good


def wake_elsewhere(project: Settings) -> None:
    """Ask what serves, as another process that finds the host down."""
    release.serving(release.open_service(project, "digits"))


def test_two_who_find_it_down_start_it_once(service: Service, good: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    jobs.stop(service.settings.state, "function-digits")
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=wake_elsewhere, args=(service.settings,)) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0, 0]
    assert jobs.find(service.settings.state, "function-digits") is not None and serves(service) == good


def test_a_lost_bundle_is_laid_anew(service: Service, good: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    jobs.stop(service.settings.state, "function-digits")
    shutil.rmtree(service.settings.state / "bundles")
    assert release.serving(service)["model"] == good == serves(service)


def test_a_moved_project_serves_again(service: Service, good: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    jobs.stop(service.settings.state, "function-digits")
    moved = service.settings.state.rename(service.settings.state.with_name("moved"))
    again = release.open_service(dataclasses.replace(service.settings, state=moved, artefacts_root=moved / "artefacts"), "digits")
    assert release.serving(again)["model"] == good
    jobs.stop(moved, "function-digits")


def test_a_deployment_is_the_way_out_of_silence(service: Service, good: str, weak: str) -> None:
    release.deploy(service, weak, "by hand", force=True)
    lose(service, weak)
    with pytest.raises(EndpointError, match=f"Model {weak} should serve at .* cannot be started; found The model's file"):
        release.serving(service)
    assert release.deploy(service, good, "by hand", force=True).before == "" and serves(service) == good


def fail_at_the_public_address(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    """Let the probe after the shift find another answer."""
    probe = switch.probe

    def failing(endpoint: Endpoint, bundle: Bundle, latency: float) -> None:
        probe(endpoint, bundle, latency)
        if endpoint.address == service.target.address:
            raise IntegrityError("planted", step="none")

    monkeypatch.setattr(switch, "probe", failing)


def test_a_first_model_that_fails_in_its_place_does_not_serve(service: Service, good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at_the_public_address(monkeypatch, service)
    with pytest.raises(IntegrityError, match="planted"):
        release.deploy(service, good, "by hand", force=True)
    assert release.serving(service) is None and service.registry.deployments("digits")[-1].outcome == "failed"


def test_what_served_comes_back_when_the_next_fails_in_its_place(
    service: Service, good: str, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release.deploy(service, good, "by hand", force=True)
    fail_at_the_public_address(monkeypatch, service)
    with pytest.raises(IntegrityError, match="planted"):
        release.deploy(service, weak, "by hand", force=True)
    assert serves(service) == good and service.registry.last_deployed("digits") == good


def test_a_roll_back_goes_where_it_was_said_to_go(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    release.deploy(service, weak, "by hand", force=True)
    with pytest.raises(IntegrityError, match=f"would not go to zzzzzzzz-t001 any more; found {good}"):
        release.roll_back(service, expected="zzzzzzzz-t001")
    assert serves(service) == weak and release.roll_back(service, expected=good).model_id == good


def lose(service: Service, model_id: str) -> None:
    """Stop the host, and lose a model's files for good."""
    jobs.stop(service.settings.state, "function-digits")
    shutil.rmtree(service.settings.state / "bundles")
    shutil.rmtree(service.registry.artefacts / model_id)


def test_a_damaged_model_is_not_deployed(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    path = service.registry.artefacts / weak / "model.tflite"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match="must have SHA-256"):
        release.deploy(service, weak, "by hand", force=True)
    assert serves(service) == good
    failed = service.registry.deployments("digits")[-1]
    assert failed.outcome == "failed" and "must have SHA-256" in failed.reason and failed.model_id == weak
    assert service.registry.last_deployed("digits") == good


def register_card(service: Service, model_id: str, card: dict) -> None:
    """Put another `model.json` into a model's place, as if it had been registered so."""
    path = service.registry.artefacts / model_id / "model.json"
    path.write_text(json.dumps(card))
    service.registry.add(dataclasses.replace(service.registry.model(model_id), card_sha256=file_hash(path)))


def test_a_cut_card_is_not_deployed(service: Service, good: str) -> None:
    path = service.registry.artefacts / good / "model.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(IntegrityError, match="model.json of model .* must have SHA-256"):
        release.deploy(service, good, "by hand", force=True)
    assert service.registry.deployments("digits")[-1].outcome == "failed"


def relabel_golden(service: Service, model_id: str) -> None:
    """Let the model's golden answers be other ones than it gives."""
    path = service.registry.artefacts / model_id / "model.json"
    card = json.loads(path.read_text())
    card["golden"]["predictions"].reverse()
    register_card(service, model_id, card)


def test_a_model_that_misses_its_golden_answers_gets_no_traffic(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    relabel_golden(service, weak)
    with pytest.raises(IntegrityError, match="must give its golden answers within 0.0001"):
        release.deploy(service, weak, "by hand", force=True)
    assert serves(service) == good and jobs.names(service.settings.state) == ["function-digits"]


def test_a_model_that_does_not_start_gets_no_traffic(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    path = service.registry.artefacts / weak / "model.json"
    register_card(service, weak, {**json.loads(path.read_text()), "contract": 99})
    with pytest.raises(EndpointError, match=f"Model {weak} does not answer at .*contract 99"):
        release.deploy(service, weak, "by hand", force=True)
    assert serves(service) == good


def test_a_model_of_another_kind_is_refused(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    model = service.registry.model(weak)
    service.registry.add(dataclasses.replace(model, model_id="zzzzzzzz-t001", labels=("cat", "dog"), shape=(9, 9, 3)))
    with pytest.raises(IntegrityError, match=f"takes 9x9x3 pixels and answers cat, dog, but {good}.*takes 8x8x1 pixels and answers 0, 1"):
        release.deploy(service, "zzzzzzzz-t001", "by hand", force=True)
    assert serves(service) == good


def test_an_unknown_model_names_its_neighbours(service: Service, weak: str) -> None:
    with pytest.raises(NotFoundError, match=f"no model 'aaaaaaaa-t001'.*{weak}"):
        release.deploy(service, "aaaaaaaa-t001", "by hand", force=True)
    assert not service.registry.deployments("digits")


def test_one_deployment_at_a_time(service: Service, good: str) -> None:
    with jobs.lock(service.settings.state, "deploy-digits", what="a deployment"):
        with pytest.raises(BusyError, match="A deployment of digits is going on already; found process [0-9]+"):
            release.deploy(service, good, "by hand", force=True)


def test_a_port_in_use_is_named(service: Service, good: str) -> None:
    with socket.create_server(("127.0.0.1", service.settings.target_port)):
        with pytest.raises(BusyError, match=f"Port {service.settings.target_port} of 127.0.0.1 is in use by another program"):
            release.deploy(service, good, "by hand", force=True)
    (failed,) = service.registry.deployments("digits")
    assert failed.outcome == "failed" and list(failed.steps) == ["preflight"]


def test_services_have_addresses_of_their_own(service: Service, good: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    other = release.open_service(service.settings, "other")
    assert other.target.address == f"http://127.0.0.1:{service.settings.target_port + 1}" != service.target.address
    assert release.open_service(service.settings, "digits").target.address == service.target.address


def test_a_probe_sees_that_another_model_answers(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    bundle = bundles.build(service.settings, service.registry, service.registry.model(weak))
    with service.target.open() as endpoint, pytest.raises(IntegrityError, match=f"Model {weak} must answer at .*; found {good}"):
        switch.probe(endpoint, bundle, 1000.0)


def verdict(candidate: str, incumbent: str, outcome: str) -> Verdict:
    """Return a verdict with these words."""
    return Verdict(candidate, incumbent, "digits", outcome, "a sentence")


def test_only_better_is_followed(service: Service, good: str, weak: str) -> None:
    assert release.follow(service, verdict(good, "", "better")).model_id == good
    for outcome in ("worse", "cannot tell"):
        assert release.follow(service, verdict(weak, good, outcome)) is None
    assert serves(service) == good
    assert release.follow(service, verdict(weak, good, "better")).model_id == weak == serves(service)


def test_a_verdict_about_what_served_once_is_not_followed(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    with pytest.raises(IntegrityError, match="which does not serve any more; found .*; run 03_validate again"):
        release.follow(service, verdict(weak, "", "better"))
    assert serves(service) == good


def test_following_twice_deploys_once(service: Service, good: str) -> None:
    release.follow(service, verdict(good, "", "better"))
    assert release.follow(service, verdict(good, "", "better")) is None
    assert len(service.registry.deployments("digits")) == 1


def test_after_a_switch_only_the_new_model_answers(service: Service, good: str, weak: str) -> None:
    release.deploy(service, good, "by hand", force=True)
    bundle = bundles.build(service.settings, service.registry, service.registry.model(weak))
    service.target.shift({bundle.folder.name: 100})
    assert {serves(service) for _ in range(50)} == {weak}


def test_registered_equals_deployed(service: Service, good: str) -> None:
    deployment = release.deploy(service, good, "by hand", force=True)
    model: ModelRecord = service.registry.model(good)
    assert deployment.sha256 == model.sha256 == file_hash(service.settings.state / "serving/digits/current/model.tflite")
