"""The client of a served model: asks which model answers, and predicts in batches."""

import contextlib
import secrets
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import orjson

from rowmill.errors import EndpointError, ParameterError
from rowmill.records import LIMITS

CHECK = "rowmill-check-"  # how the ids of requests begin by which rowmill checks a model: they are nobody's use of it
_SECONDS = 30.0
# A prediction changes nothing, so it may be asked again: where the connection broke, and where a server or what stands before it says
# "later". Not after a time-out: whoever is too slow gets no second helping.
_AGAIN = (429, 502, 503, 504)
_WAITS = (0.1, 0.4, 1.6)  # seconds before the second try and so on
_HEADERS: Mapping[str, str] = MappingProxyType({"Content-Type": "application/json"})
_BYTES_PER_PIXEL = 4  # "255,"


def curl(address: str, file: Path, kind: str = "application/json", *, private: bool = False) -> str:
    """Return the line that sends a file to an address from a shell; a private function's with gcloud's identity token.

    Args:
        address: As the shell shall read it.
        file: What is sent.
        kind: Its content type.
        private: Whether the address wants a token.
    """
    bearer = '-H "Authorization: Bearer $(gcloud auth print-identity-token)" ' if private else ""
    body = "-d" if kind == "application/json" else "--data-binary"
    return f"curl -s {bearer}-H 'Content-Type: {kind}' {body} @{shlex.quote(str(file))} {address}"


class Endpoint:
    """A served model at an address; use it in a `with` statement.

    Args:
        address: Such as `http://127.0.0.1:8501`.
        transport: Another way to the model than HTTP, such as in this process.
        seconds: How long to wait for an answer, or for a connection.
        token: The identity token that a private function wants.
    """

    def __init__(self, address: str, transport: httpx.BaseTransport | None = None, seconds: float = _SECONDS, *, token: str = "") -> None:
        self.address = address
        headers = {"Authorization": f"Bearer {token}"} if token else None
        # No proxy and no .netrc: a model is asked where it is.
        self._client = httpx.Client(base_url=address, transport=transport, timeout=seconds, trust_env=False, headers=headers)

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def describe(self) -> dict[str, Any]:
        """Return what the endpoint says of itself: model, service, input, labels, state, since.

        Raises:
            EndpointError: It is silent, or says nothing of the kind.
        """
        card = self._ask("GET", None)
        if not isinstance(card.get("model"), str):
            raise EndpointError(f"{self.address} does not say which model answers", found=str(card)[:80], step="look at what listens there")
        return card

    def predict(self, images: npt.NDArray[np.uint8], invert: bool = False, *, check: bool = False) -> tuple[npt.NDArray[np.float64], str]:
        """Predict in batches within the function's limits, over one connection; what fails by chance is asked again, up to three times.

        Args:
            images: uint8, (examples, height, width, channels).
            invert: Whether the function takes 255 less each pixel, for what is dark on light and should be light on dark.
            check: Whether this is a probe or a verdict's question, which the requests' ids then say.

        Returns:
            Probabilities, float64, (examples, labels), and the id of the one model that gave all of them.

        Raises:
            EndpointError: It is silent, refuses, changes its model on the way, or answers something else than probabilities.
            ParameterError: The images are no such array.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
            raise ParameterError(
                "Images must be uint8, (examples, height, width, channels), with at least one",
                found=f"{images.dtype}, {images.shape}",
                step="give pixels from 0 to 255 and not scaled ones; one grey image is image[np.newaxis, :, :, np.newaxis]",
            )
        size = max(1, min(LIMITS["instances"], LIMITS["bytes"] // (_BYTES_PER_PIXEL * images[0].size + 2) - 1))
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        answers = [self._predict_batch(batch, invert, check) for batch in batches]
        models = sorted({model for _, model in answers})
        if len(models) > 1:
            raise EndpointError(
                f"{self.address} changed its model while it was asked", found=" and ".join(models), step="ask again when nobody deploys"
            )
        return np.concatenate([probabilities for probabilities, _ in answers]), models[0]

    def send(self, content: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        """Send a body as it is, such as a PNG file with its content type, and return the answer.

        Raises:
            EndpointError: It is silent, or refuses.
        """
        return self._ask("POST", content, _WAITS, headers)

    def _predict_batch(self, images: npt.NDArray[np.uint8], invert: bool, check: bool) -> tuple[npt.NDArray[np.float64], str]:
        parameters = {"parameters": {"invert": True}} if invert else {}
        # Flat: nested, each pixel is a list of its own, which costs nine times as much to read, and half as many bytes again.
        body = orjson.dumps({"instances": images.reshape(len(images), -1), **parameters}, option=orjson.OPT_SERIALIZE_NUMPY)
        answer = self._ask("POST", body, _WAITS, {**_HEADERS, "X-Request-Id": f"{CHECK}{secrets.token_hex(8)}"} if check else _HEADERS)
        try:
            probabilities = np.asarray(answer["predictions"], np.float64)
            model = str(answer["deployedModelId"])
        except (KeyError, TypeError, ValueError) as error:
            raise EndpointError(
                f"{self.address} answers no predictions with a model id", found=str(answer)[:80], step="look at what listens there"
            ) from error
        if probabilities.ndim != 2 or len(probabilities) != len(images):
            raise EndpointError(
                f"{self.address} must answer {len(images)} rows of probabilities",
                found=f"shape {probabilities.shape}",
                step="look at its log",
            )
        # Not `abs(...) > 1e-3`: NaN must fail, too.
        if not (np.abs(probabilities.sum(axis=1) - 1) <= 1e-3).all() or (probabilities < 0).any():
            raise EndpointError(
                f"Model {model} at {self.address} answers no probabilities", found=str(probabilities[0])[:80], step="deploy another model"
            )
        return probabilities, model

    def _ask(self, method: str, body: bytes | None, waits: tuple[float, ...] = (), headers: Mapping[str, str] = _HEADERS) -> dict[str, Any]:
        response = self._response(method, body, waits, headers)
        try:
            content = orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise EndpointError(
                f"{self.address} does not answer JSON", found=f"code {response.status_code}", step="look at what listens there"
            ) from error
        if response.status_code != 200 or not isinstance(content, dict):
            raise EndpointError(
                f"{self.address} answers code {response.status_code}", found=str(content)[:200], step="mend the request, or look at its log"
            )
        return content

    def _response(self, method: str, body: bytes | None, waits: tuple[float, ...], headers: Mapping[str, str]) -> httpx.Response:
        """Return the first answer that is no `later`; after the last wait whatever comes counts."""
        try:
            for wait in waits:
                with contextlib.suppress(httpx.NetworkError, httpx.RemoteProtocolError):
                    response = self._client.request(method, "/", content=body, headers=headers)
                    if response.status_code not in _AGAIN:
                        return response
                time.sleep(wait)
            return self._client.request(method, "/", content=body, headers=headers)
        except httpx.HTTPError as error:
            raise EndpointError(
                f"The endpoint {self.address} does not answer ({type(error).__name__})", step="start it with `make run`, or look at its log"
            ) from error
