"""A connection that answers a usual request without a round of ASGI.

Usual is a request to score that has arrived whole, alone on its connection, with a head that was
seen before: clients send the same one again and again. Whatever else arrives, and whatever can't
be answered well, takes the long way through uvicorn and `app`, which reads every head the first
time and says what is wrong.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from mlops.contract.bundle import Array
from mlops.serving import app
from mlops.serving.endpoint import Endpoint
from mlops.serving.http import Answer, Head, Question, Request
from mlops.serving.protocol import END, Protocol
from mlops.serving.routes import MODEL_READERS, READERS, Reader
from mlops.serving.scorer import INLINE

# Heads that are kept, and the longest of them in bytes.
HEADS, LONGEST = 2048, 2048
# What uvicorn sees to: interim answers, and bodies whose length is not said.
SPECIAL = {b"expect", b"transfer-encoding"}


class Turn(NamedTuple):
    """A request that is being scored, with all that is needed to answer it on either way."""

    data: bytes
    route: str
    request: Request
    question: Question
    begun: float


class Shortcut(Protocol):
    """One connection; for the scorer it is who waits for the outputs."""

    app: app.App
    _turn: Turn | None = None
    _last = False
    _rests = 0.0
    _behind = b""
    _unknown = b""

    def data_received(self, data: bytes) -> None:
        if self._turn:
            # Sent before the answer came: it waits, and so does whoever sends more.
            self._behind += data
            self.flow.pause_reading()
        elif not (self._is_idle() and self._begin(data)):
            super().data_received(data)
            self._unknown = b""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._turn:
            self._end()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        self._last = True
        if not self._turn:
            super().shutdown()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._unknown:
            self._learn(self._unknown)
            self._unknown = b""

    def done(self) -> bool:
        """Whether the client has hung up."""
        return self._turn is None

    def set_result(self, outputs: list[Array]) -> None:
        """Answer, and go on."""
        assert self._turn
        _, route, request, question, begun = self._turn
        try:
            answer = question.answer(outputs)
        except Exception as error:
            self.set_exception(error)
            return
        self._end()
        self._write(answer, request)
        service = self.app.service
        service.sample(request.endpoint, question.rows, outputs, question.identity)
        service.metrics.answered(route, answer.status, time.perf_counter() - begun)
        self._rest()
        self._go_on()

    def set_exception(self, error: Exception) -> None:
        """Take the long way, which says what is wrong."""
        assert self._turn
        data = self._turn.data
        self._end()
        super().data_received(data)
        self._go_on()

    def timeout_keep_alive_handler(self) -> None:
        left = self._rests + self.timeout_keep_alive - self.loop.time()
        if self._turn or left > 0:
            self._look_again(max(left, 1.0))
        else:
            super().timeout_keep_alive_handler()

    def _rest(self) -> None:
        """From now on nothing is asked. A timer that looks again is less work than many."""
        self._rests = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again(self.timeout_keep_alive)

    def _look_again(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )

    def _is_idle(self) -> bool:
        asked = self.cycle and not self.cycle.response_complete
        return not (asked or self._in_head or self._in_body or self.flow.write_paused)

    def _begin(self, data: bytes) -> bool:
        """Have a usual request scored; whether it is one."""
        begun, service = time.perf_counter(), self.app.service
        head, body = self._split(data)
        if head is None or service.stopping or self.app.busy >= service.settings.requests:
            return False
        try:
            self.app.require_token(head.path, head.headers)
            identity = self.app.identity(head.headers)
            request = Request(service.endpoint, head.headers, body, identity)
            route, read = _reader(request.endpoint, head.path)
            question = read(request)
        # Whatever it is, the long way meets it again.
        except Exception:
            return False
        if not 0 < len(question.rows) <= INLINE:
            return False
        self._wait_no_more()
        self.app.busy += 1
        self._turn = Turn(data, route, request, question, begun)
        service.scorer.join(request.endpoint.model, question.rows, self)
        return True

    def _split(self, data: bytes) -> tuple[Head | None, bytes]:
        """What the head says, if it is a known one whose body is whole; and the body."""
        said, end, body = data.partition(END)
        head = self.app.heads.get(said)
        if head:
            return (head if len(body) == head.length else None), body
        # Where lines end as they should, the parser sees the same end of the head.
        if end and len(said) <= LONGEST and b"\n" not in said.replace(b"\r\n", b""):
            self._unknown = said
        return None, body

    def _learn(self, said: bytes) -> None:
        """Remember what uvicorn made of a head, where it is one of a usual request."""
        headers = dict(self.headers)
        length = headers.get(b"content-length", b"")
        usual = (
            self.scope["method"] == "POST" and self.scope["http_version"] == "1.1"
            and self.parser.should_keep_alive() and length.isdigit()
            and not SPECIAL & headers.keys()
        )  # fmt: skip
        if not usual or int(length) > self.app.service.settings.body:
            return
        if len(self.app.heads) >= HEADS:
            self.app.heads.clear()
        self.app.heads[said] = Head(self.scope["path"], headers, int(length))

    def _end(self) -> None:
        self._turn = None
        self.app.busy -= 1

    def _write(self, answer: Answer, request: Request) -> None:
        if self._last:
            answer.headers.append((b"connection", b"close"))
        known, headers = self.server_state.default_headers, request.endpoint.headers
        lines = [*known, *app.head(answer, headers, request.identity)]
        said = b"".join([b"%b: %b\r\n" % line for line in lines])
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[answer.status], said, answer.body))

    def _go_on(self) -> None:
        """Read what was sent meanwhile; close where this was the last answer."""
        if self._last:
            super().shutdown()
        elif self._behind:
            behind, self._behind = self._behind, b""
            self.flow.resume_reading()
            self.data_received(behind)


def _reader(endpoint: Endpoint, path: str) -> tuple[str, Reader]:
    return READERS.get(path) or MODEL_READERS[endpoint.below(path)]
