"""A webhook: keeps what is posted to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any


@dataclass(frozen=True)
class Webhook:
    """Its URL, and the messages in the order of their arrival."""

    url: str
    messages: Queue[Any]


@contextmanager
def received(address: str = "127.0.0.1") -> Iterator[Webhook]:
    """Receive messages at an address of this machine until the block ends."""
    messages: Queue[Any] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer((address, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Webhook(f"http://{address}:{server.server_port}", messages)
    finally:
        server.shutdown()
        server.server_close()
