"""GitHub's and Azure DevOps' REST APIs in this process, over HTTP, with one state.

    with ForgeServer() as forge:
        environment = forge.github()  # or forge.azure(): what a CI run would have
        pull = forge.open("feature")
        forge.fail(Fault("POST .*/comments", status=500, times=2))

Both APIs have the same pull requests. `log` holds every request with its response's status.
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests import forge_azure, forge_github
from tests.forge_state import NAME, OWNER, PERSON, PROJECT, ROBOT, Answer, Call, State
from tests.mlops.deploy import cloud

# The users, by their tokens.
TOKENS = {"the-robots-own": ROBOT, "marias-own": PERSON}


@dataclass(frozen=True)
class Request:
    """A request and its sender; `status` 0 is a connection that was dropped."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    status: int
    who: str


@dataclass
class Fault(cloud.Fault):
    """`after`: the request is carried out all the same.

    With `meanwhile` nothing goes wrong, but that is called before the response leaves.
    """

    content: Any = "Injected"
    after: bool = False
    meanwhile: Callable[[], Any] | None = None


class ForgeServer(State, cloud.Cloud):
    """Both forges, on one port of this machine."""

    def __init__(self) -> None:
        cloud.Cloud.__init__(self)
        State.__init__(self, url=self.url)
        self.log: list[Any] = []

    def encrypt(self, certificate: Path, key: Path) -> None:
        """From now on use TLS, with a certificate that no client trusts."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)

    def github(self, token: str = "the-robots-own", **more: str) -> dict[str, str]:
        """The environment of a GitHub Actions run."""
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_TOKEN": token,
            "GITHUB_API_URL": f"{self.url}/api/v3",
            "GITHUB_SERVER_URL": self.url,
            "GITHUB_REPOSITORY": f"{OWNER}/{NAME}",
            **more,
        }

    def azure(self, token: str = "the-robots-own", **more: str) -> dict[str, str]:
        """The environment of an Azure Pipelines run."""
        return {
            "TF_BUILD": "True",
            "SYSTEM_ACCESSTOKEN": token,
            "SYSTEM_COLLECTIONURI": f"{self.url}/{OWNER}/",
            "SYSTEM_TEAMPROJECT": PROJECT,
            "BUILD_REPOSITORY_NAME": NAME,
            "BUILD_REPOSITORY_PROVIDER": "TfsGit",
            **more,
        }

    def fail(self, fault: Fault) -> None:
        """Add a fault; of several that match, the first that is left happens."""
        self.faults.append(fault)

    def asked(self, match: str = "") -> list[Request]:
        """The requests so far whose `METHOD /path` matches."""
        return [item for item in self.log if re.search(match, f"{item.method} {item.path}")]

    def answer(self, method: str, target: str, headers: Any, content: bytes) -> Answer:
        """The response, faults included; status 0 is to drop the connection."""
        parts = urlsplit(target)
        path, query = unquote(parts.path), {k: v[0] for k, v in parse_qs(parts.query).items()}
        call = Call(query, headers, content, _who(path, headers))
        with self._lock:
            left: list[Any] = [fault for fault in self.faults if fault.times]
            fault = next((f for f in left if re.search(f.match, f"{method} {path}")), None)
            answer = Answer(0)
            if not fault or fault.after or fault.meanwhile:
                answer = self._carry_out(f"{method} {path}", call)
            if fault:
                fault.times -= 1
        if fault and fault.meanwhile:
            fault.meanwhile()
        elif fault:
            html = str(fault.content).startswith("<")
            body = fault.content if html else {"message": fault.content}
            answer = Answer(fault.status, body, **fault.headers)
        self.log.append(Request(method, path, query, call.body, answer.status, call.who))
        return answer

    def _carry_out(self, request: str, call: Call) -> Answer:
        api: Any = forge_github if "/api/v3/" in request else forge_azure
        if not call.who:
            return api.unknown(call)
        version = "7.1-preview" if "connectionData" in request else "7.1"
        if api is forge_azure and call.query.get("api-version") != version:
            return Answer(400, {"message": f"The api-version {version} was not supplied."})
        for pattern, route in api.ROUTES:
            match = re.fullmatch(pattern, request)
            if match:
                try:
                    return route(self, call, *match.groups())
                except Answer as answer:
                    return answer
                except PermissionError as permission:
                    return api.forbidden(str(permission))
        return Answer(404, {"message": "Not Found"})


def _who(path: str, headers: Any) -> str:
    """The user of a token, "" for an unknown one."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme == "Basic":
        token = base64.b64decode(token).decode().partition(":")[2]
    who = TOKENS.get(token, "")
    # Azure DevOps takes a person's token in no other way than Basic.
    return "" if (who, scheme) == (PERSON, "Bearer") and path.startswith(f"/{OWNER}/") else who
