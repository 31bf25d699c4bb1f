"""What serves, asked in three places: the records wish it, the target routes to it, the endpoint answers with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rowmill.errors import EndpointError, IntegrityError, RowmillError
from rowmill.serving import bundle as bundles
from rowmill.serving import endpoint
from rowmill.serving.target import Service, Traffic, model_of, told


@dataclass(frozen=True)
class Serving:
    """What serves, at one moment.

    Attributes:
        recorded: The model id that should serve by the records, or an empty text.
        platform: The model ids that the target sends requests to, each with its percent.
        card: What the endpoint says of itself; None where it is silent or nothing ever served.
        silence: Why it does not answer, as a sentence; or an empty text.
    """

    recorded: str
    platform: dict[str, int]
    card: dict[str, Any] | None
    silence: str

    @property
    def model(self) -> str:
        """The model id that answers, or an empty text."""
        return str(self.card["model"]) if self.card else ""

    @property
    def alarm(self) -> str:
        """In what the three places differ and how to mend it, as a sentence; or an empty text."""
        if self.silence:
            return f"The endpoint is silent: {self.silence}"
        answers = f"the endpoint answers with {self.model}" if self.model else "nothing answers"
        if len(self.platform) > 1:
            return f"The traffic is shared: {told(self.platform)}; deploy one of them, or roll back, to end this."
        if set(self.platform) != ({self.model} if self.model else set()):
            return f"The target sends requests to {told(self.platform)}, but {answers}: deploy the one that is right, so that both agree."
        if self.model != self.recorded:
            wish = f"{self.recorded} should serve" if self.recorded else "nothing was ever deployed"
            return f"By the records {wish}, but {answers}: deploy the one that is right, so that both agree."
        return ""


def look(service: Service) -> Serving:
    """Ask the records, the target and the endpoint; what this machine should serve is started first where it is silent."""
    recorded, traffic, card, silence = service.registry.last_deployed(service.name), Traffic(), None, ""
    try:
        card = serving(service)
        traffic = service.target.traffic()
    except RowmillError as error:
        silence = str(error)
    return Serving(recorded, {model_of(revision): percent for revision, percent in traffic.items()}, card, silence)


def serving(service: Service) -> dict[str, Any] | None:
    """Return what the endpoint says of itself, restarted first when it is silent; None where nothing ever served.

    Raises:
        EndpointError: By the records a model serves, but the endpoint stays silent.
        BusyError: Another program has the endpoint's port.
    """
    recorded = service.registry.last_deployed(service.name)
    try:
        if service.target.traffic():
            return described(service)
    except EndpointError:
        if not (recorded and service.target.embedded):
            raise
    if not recorded:
        return None
    if not service.target.embedded:
        sentence = f"By the records {recorded} serves {service.name}, but there is no such function any more"
        raise EndpointError(sentence, step="deploy a model, or look who removed it")
    return _restore(service, recorded)


def described(service: Service) -> dict[str, Any]:
    """Return what the endpoint says of itself.

    Raises:
        EndpointError: It is silent.
    """
    with service.target.open() as opened:
        return opened.describe()


def curl(service: Service, file: Path | None = None, kind: str = "application/json") -> str:
    """Return the line that asks the service from a shell: about a file, or about an example of what serves.

    Raises:
        EndpointError: Nothing answers.
    """
    if file is None:
        model = service.registry.model(described(service)["model"], service.name)
        file = bundles.build(service.settings, service.registry, model).folder / bundles.EXAMPLE_FILE
    private = not (service.target.embedded or service.settings.cloud.public)
    return endpoint.curl(service.target.address, file, kind, private=private)


def status(service: Service) -> str:
    """Return in one sentence what serves now, and in another what is wrong with it."""
    found = look(service)
    if found.silence:
        return f"Nothing answers for {service.name}: {found.silence}"
    if not found.card:
        return f"Nothing serves {service.name} yet."
    return f"{found.model} serves {service.name} at {service.target.address} since {found.card['since']}. {found.alarm}".rstrip()


def _restore(service: Service, recorded: str) -> dict[str, Any]:
    """Serve the recorded model from its registered files: its bundle was lost, or the project was moved."""
    try:
        model = service.registry.model(recorded, service.name)
        bundle = bundles.build(service.settings, service.registry, model)
        service.target.shift({bundle.folder.name: 100})
    except IntegrityError as error:
        sentence = f"Model {recorded} should serve at {service.target.address}, but nothing answers and it cannot be started"
        raise EndpointError(sentence, found=str(error).rstrip("."), step="deploy another model") from error
    return described(service)
