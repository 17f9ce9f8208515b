"""uvicorn's HTTP with an end to heads, and deaf to offers of other protocols.

Two things uvicorn leaves open: a head may be of any length and take for ever, and a request that
offers to go on in HTTP/2, as each of Java's own client does unless it is told not to, loses its
body.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Bytes of a request's line and headers, and seconds in which they must arrive.
HEAD = 64 * 1024
SECONDS = 30.0
END = b"\r\n\r\n"
OFFER = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


class Protocol(HttpToolsProtocol):
    """One connection."""

    _late: asyncio.TimerHandle | None = None
    _size = 0
    _in_head = False
    _in_body = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_body:
            super().data_received(data)
            return
        head, end, rest = data.partition(END)
        super().data_received(OFFER.sub(b"", head) + end + rest)
        if self._in_head:
            self._wait()
            self._size += len(data)
            if self._size > HEAD and not self.transport.is_closing():
                self.send_400_response(f"The request's head is longer than {HEAD} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._size = True, 0

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        self._wait_no_more()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def _wait(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(SECONDS, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._late:
            self._late.cancel()
            self._late = None
