"""A forge that runs here: GitHub's and Azure DevOps' REST APIs over HTTP, with a state that stays.

    with ForgeServer() as forge:
        environment = forge.github()  # or forge.azure(): what a CI run would have
        pull = forge.open("feature")
        forge.fail(Fault("POST .*/comments", status=500, times=2))

Both APIs speak of the same pull requests. `log` holds every request with its answer's status.
`from tests.forge_server import Fault, ForgeServer` finds it from any test.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests import forge_azure, forge_github
from tests.forge_state import NAME, OWNER, PERSON, PROJECT, ROBOT, Answer, Call, State

# Who asks, by the token.
WHO = {"the-robots-own": ROBOT, "marias-own": PERSON}


@dataclass(frozen=True)
class Request:
    """One that came in, and who sent it; `status` 0 is a connection that was dropped."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    status: int
    who: str


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose `METHOD /path` matches.

    Without a status the connection is dropped. `after`: the request is carried out all the same.
    With `meanwhile` nothing goes wrong, but that happens before the answer leaves.
    """

    match: str
    status: int = 0
    content: Any = "Injected"
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    after: bool = False
    meanwhile: Callable[[], Any] | None = None


class ForgeServer(State):
    """Both forges, on one port of this machine."""

    def __init__(self) -> None:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        super().__init__(url=f"http://127.0.0.1:{self._http.server_port}")
        self.log: list[Request] = []
        self._faults: list[Fault] = []

    def __enter__(self) -> Self:
        # Asked often whether to end: every test waits for that.
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def encrypt(self, certificate: Path, key: Path) -> None:
        """From now on speak TLS, with a certificate that nobody has to trust."""
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
        """Have something go wrong; of several faults that match, the first that is left does."""
        with self.lock:
            self._faults.append(fault)

    @property
    def to_fail(self) -> list[Fault]:
        """The faults that have not happened yet."""
        return [fault for fault in self._faults if fault.times]

    def asked(self, match: str = "") -> list[Request]:
        """The requests so far whose `METHOD /path` matches."""
        return [item for item in self.log if re.search(match, f"{item.method} {item.path}")]

    def answer(self, method: str, target: str, headers: Any, body: Any) -> Answer:
        """What to answer, faults included; status 0 is to drop the connection."""
        parts = urlsplit(target)
        path, query = unquote(parts.path), {k: v[0] for k, v in parse_qs(parts.query).items()}
        call = Call(_who(path, headers), query, body, headers)
        with self.lock:
            fault = self._fault(f"{method} {path}")
            answer = Answer(0)
            if not fault or fault.after or fault.meanwhile:
                answer = self._carry_out(f"{method} {path}", call)
        if fault and fault.meanwhile:
            fault.meanwhile()
        elif fault:
            said = {"message": fault.content}
            html = str(fault.content).startswith("<")
            answer = Answer(fault.status, fault.content if html else said, **fault.headers)
        self.log.append(Request(method, path, query, body, answer.status, call.who))
        return answer

    def _fault(self, request: str) -> Fault | None:
        for fault in self._faults:
            if fault.times and re.search(fault.match, request):
                fault.times -= 1
                return fault
        return None

    def _carry_out(self, request: str, call: Call) -> Answer:
        api: Any = forge_github if "/api/v3/" in request else forge_azure
        answer = Answer(404, {"message": "Not Found"}) if call.who else api.unknown(call)
        for pattern, route in api.ROUTES:
            found = re.fullmatch(pattern, request)
            if found and call.who:
                try:
                    answer = route(self, call, *found.groups())
                except Answer as said:
                    answer = said
                except PermissionError as permission:
                    answer = api.forbidden(str(permission))
        return answer


def _who(path: str, headers: Any) -> str:
    """Whose token it is; nobody's is empty."""
    scheme, _, given = headers.get("Authorization", "").partition(" ")
    if scheme == "Basic":
        given = base64.b64decode(given).decode().partition(":")[2]
    who = WHO.get(given, "")
    # Azure DevOps takes a person's token in no other way.
    return "" if (who, scheme) == (PERSON, "Bearer") and path.startswith(f"/{OWNER}/") else who


def _handler(forge: ForgeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer leaves whole: in two parts it takes forty milliseconds more.
        wbufsize = -1

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            answer = forge.answer(self.command, self.path, self.headers, body)
            if answer.status:
                self._send(answer)
            else:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

        do_POST = do_PATCH = do_DELETE = do_GET

        def _send(self, answer: Answer) -> None:
            html = isinstance(answer.content, str)
            text = answer.content if html else json.dumps(answer.content)
            content = b"" if answer.content is None else text.encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "text/html" if html else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing: the forge keeps a log of its own."""

    return Handler
