"""The good model's handler, asked without a port."""

import flask.testing
import functions_framework
import pytest
from rowmill.records import Bundle
from rowmill.serving import bundle as bundles
from rowmill.serving.release import Service


@pytest.fixture
def bundle(service: Service, good: str) -> Bundle:
    """The good model's bundle."""
    return bundles.build(service.settings, service.registry, service.registry.model(good))


@pytest.fixture
def client(bundle: Bundle) -> flask.testing.FlaskClient:  # pylint: disable=redefined-outer-name  # a fixture's way
    """A client of the handler, without a port."""
    return functions_framework.create_app("predict", str(bundle.folder / "main.py")).test_client()
