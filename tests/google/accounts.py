"""Who calls: throwaway service accounts, their tokens, and the IAM policies that say what they may."""

import base64
import copy
import json
import secrets
import threading
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

from google.auth import jwt
from werkzeug import Response

from tests.google.wire import Answer, ApiError, Call, Json, Routes

GCLOUD = "32555940559.apps.googleusercontent.com"  # the audience of `gcloud auth print-identity-token` without --audiences
SECONDS = 3600
INVOKERS = ("roles/run.invoker", "roles/run.admin", "roles/editor", "roles/owner")


class Accounts:
    """Tokens that were issued, and policies by resource, such as `projects/p` or `projects/p/locations/r/services/s`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, bytes] = {}
        self._people: dict[str, str] = {}
        self._access: dict[str, str] = {}
        self._identities: dict[str, Json] = {}
        self._policies: dict[str, Json] = {}

    def routes(self) -> Routes:
        """Return the calls that are answered."""
        routes: Routes = {"POST oauth2/token": self._token}
        for api in ("run/v1", "run/v2", "cloudresourcemanager/v1", "iam/v1", "artifactregistry/v1", "storage/v1"):
            routes[f"GET {api}/<path:resource>:getIamPolicy"] = self._get_policy
            routes[f"POST {api}/<path:resource>:getIamPolicy"] = self._get_policy
            routes[f"POST {api}/<path:resource>:setIamPolicy"] = self._set_policy
            routes[f"POST {api}/<path:resource>:testIamPermissions"] = _test_permissions
        return routes

    def register(self, email: str, public_key: bytes) -> None:
        """Let an account log in by the key (PEM) that belongs to it."""
        self._keys[email] = public_key

    def person(self, email: str) -> str:
        """Return a refresh token with which somebody who is no service account is logged in."""
        token = f"1//{secrets.token_hex(8)}"
        self._people[token] = email
        return token

    def grant(self, resource: str, role: str, *members: str) -> None:
        """Add members, such as `allUsers`, to a role."""
        with self._lock:
            policy = self._policy(resource)
            policy["bindings"].append({"role": role, "members": list(members)})
            policy["etag"] = _etag()

    def members(self, resource: str, roles: Iterable[str]) -> set[str]:
        """Return who has one of the roles on the resource."""
        with self._lock:
            bindings = self._policy(resource)["bindings"]
            return {member for binding in bindings if binding["role"] in roles for member in binding.get("members", [])}

    def forget(self, resource: str) -> None:
        """Drop the policy of what was deleted."""
        with self._lock:
            self._policies.pop(resource, None)

    def expire(self) -> None:
        """Let all tokens be over."""
        self._access.clear()
        self._identities.clear()

    def caller(self, authorization: str) -> str:
        """Return the account of an access token, or an empty text."""
        return self._access.get(authorization.removeprefix("Bearer "), "")

    def identity(self, authorization: str) -> Json | None:
        """Return the claims of an identity token that was issued here."""
        return self._identities.get(authorization.removeprefix("Bearer "))

    def _token(self, call: Call) -> Answer:
        """Exchange a refresh token, or an assertion that a service account signed, as Google's OAuth 2.0 does."""
        asked = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
        if asked.get("refresh_token") in self._people:
            email = self._people[asked["refresh_token"]]
            return {**self._access_token(email), "id_token": self._identity_token(email, GCLOUD)}
        try:
            unverified: dict[str, Any] = jwt.decode(asked["assertion"], verify=False)
            jwt.decode(asked["assertion"], certs=self._keys[unverified["iss"]], audience=unverified["aud"])
        except (ValueError, KeyError) as error:
            return Response(json.dumps({"error": "invalid_grant", "error_description": f"Bad Request: {error}"}), 400)
        if "target_audience" in unverified:
            return {"id_token": self._identity_token(unverified["iss"], unverified["target_audience"])}
        return self._access_token(unverified["iss"])

    def _access_token(self, email: str) -> Json:
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self._access[token] = email
        return {"access_token": token, "expires_in": SECONDS - 1, "token_type": "Bearer"}

    def _identity_token(self, email: str, audience: str) -> str:
        claims = {"iss": "https://accounts.google.com", "aud": audience, "email": email, "email_verified": True, "sub": "1"}
        claims |= {"iat": int(time.time()), "exp": int(time.time()) + SECONDS}
        token = ".".join((_encoded({"alg": "RS256", "typ": "JWT", "kid": "stub"}), _encoded(claims), secrets.token_urlsafe(24)))
        self._identities[token] = claims
        return token

    def _policy(self, resource: str) -> Json:
        return self._policies.setdefault(resource, {"version": 1, "etag": _etag(), "bindings": []})

    def _get_policy(self, call: Call) -> Answer:
        with self._lock:
            return copy.deepcopy(self._policy(_resource(call)))

    def _set_policy(self, call: Call) -> Answer:
        with self._lock:
            before, asked = self._policy(_resource(call)), call.content["policy"]
            if asked.get("etag") not in (None, before["etag"]):
                raise ApiError(409, "There were concurrent policy changes. Please retry the whole read-modify-write.")
            policy = {**asked, "etag": _etag(), "bindings": asked.get("bindings", [])}
            self._policies[_resource(call)] = policy
            return copy.deepcopy(policy)


def _resource(call: Call) -> str:
    resource = call.names["resource"]
    return resource if resource.startswith(("projects/", "b/")) else f"projects/{resource}"


def _test_permissions(call: Call) -> Answer:
    return {"permissions": call.content.get("permissions", [])}


def _etag() -> str:
    # Hexadecimal digits, so that both alphabets of Base64 write them alike: gcloud does not give back the one it got.
    return base64.b64encode(secrets.token_hex(6).encode()).decode()


def _encoded(content: Json) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
