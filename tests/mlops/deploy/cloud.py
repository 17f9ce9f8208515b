"""Servers that stand in for a cloud's REST API: routes, a log, faults, interruptions, TLS."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Self
from unittest import mock
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Call:
    """A request as a route sees it."""

    query: dict[str, str]
    headers: Any
    content: bytes

    @cached_property
    def body(self) -> Any:
        return json.loads(self.content) if self.content else None


class Answer(Exception):
    """What a request ends with: JSON, or text."""

    def __init__(self, status: int, content: Any = None, **headers: str) -> None:
        self.status, self.content = status, content
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass
class Fault:
    """What the next `times` requests whose `METHOD /path` matches end with; 0 is a lost line."""

    match: str
    status: int = 0
    content: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1


class Cloud:
    """A platform's REST API on a port of this machine; `routes` are its methods, by pattern.

    With `tls` it is also a proxy that answers as every host itself.
    """

    routes: tuple[tuple[str, str], ...] = ()

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.port = self._http.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._lock = threading.RLock()
        Cloud.reset(self)

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def reset(self, polls: int = 2) -> None:
        """Begin anew; from now on a change takes as many requests as `polls`."""
        self.polls = polls
        self.log: list[str] = []
        self.faults: list[Fault] = []
        # The requests that are left of each change, what it changes, and what ends it.
        self.pending: list[list[Any]] = []

    def begin(self, what: str, end: Callable[[], object]) -> None:
        self.pending.append([self.polls, what, end])

    def tick(self) -> None:
        """Time goes on: with every request a little."""
        for change in list(self.pending):
            change[0] -= 1
            if change[0] <= 0:
                self.pending.remove(change)
                change[2]()

    def denied(self, path: str, call: Call) -> Answer | None:
        """What whoever may not ask at all is told."""
        return None

    def missing(self, path: str) -> Answer:
        return Answer(404, {"message": f"{path}: not found"})

    def answer(self, method: str, target: str, headers: Any, content: bytes) -> Answer:
        parts = urlsplit(target)
        path = unquote(parts.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self._lock:
            self.log.append(f"{method} {path}")
            for fault in self.faults:
                if fault.times and re.search(fault.match, f"{method} {path}"):
                    fault.times -= 1
                    return Answer(fault.status, fault.content, **fault.headers)
            self.tick()
            call = Call(query, headers, content)
            return self.denied(path, call) or self._carried_out(method, path, call)

    def _carried_out(self, method: str, path: str, call: Call) -> Answer:
        for pattern, name in self.routes:
            found = re.fullmatch(pattern, f"{method} {path}")
            if found:
                try:
                    return getattr(self, name)(call, *found.groups())
                except Answer as said:
                    return said
        return self.missing(path)


def _handler(cloud: Cloud) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = cloud.answer(self.command, self.path, self.headers, content)
            if not answer.status:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            body, text = answer.content, isinstance(answer.content, str)
            if not isinstance(body, bytes):
                body = b"" if body is None else (body if text else json.dumps(body)).encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "text/plain" if text else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def do_CONNECT(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.flush()
            assert cloud.tls
            self.connection = cloud.tls.wrap_socket(self.connection, server_side=True)
            self.rfile, self.wfile = (self.connection.makefile(mode) for mode in ("rb", "wb"))
            self.close_connection = False

        def log_message(self, *_: object) -> None:
            """Say nothing: the cloud keeps a log of its own."""

    return Handler


def certificate(folder: Path, *hosts: str) -> tuple[ssl.SSLContext, Path]:
    """A server's certificate for these host names, and the file with which clients trust it."""
    public, secret = folder / "certificate.pem", folder / "key.pem"
    names = ",".join(f"DNS:{host}" for host in hosts)
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "rsa:2048", "-subj",
         "/CN=tests", "-addext", f"subjectAltName={names}", "-keyout", secret, "-out", public],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, secret)
    return context, public


CHANGES = re.compile(r"PUT|POST|PATCH|DELETE|'(apply|delete|annotate)'")


class Killed(BaseException):
    """The process went down."""


@contextmanager
def at_change(
    owner: Any, name: str, event: Callable[[], object], number: int, after: bool
) -> Iterator[list[int]]:
    """Have something happen at a function's call of that number, before it or after its end.

    Only calls that change something count: what reads leaves all as the call before it did. Yields
    a list that has the number once it has happened.
    """
    real, calls, reached = getattr(owner, name), count(1), list[int]()

    def call(*given: Any, **more: Any) -> Any:
        # A request's method, or kubectl's command.
        what = " ".join(str(getattr(one, "method", one)) for one in given[:2])
        now = bool(CHANGES.search(what)) and next(calls) == number
        if now:
            reached.append(number)
        if now and not after:
            event()
        result = real(*given, **more)
        if now and after:
            event()
        return result

    with mock.patch.object(owner, name, call):
        yield reached
