"""A server that answers anything with the same bytes: the load generator's own ceiling."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop

from benchmarks.serving.load import whole

BODY = b'{"probability":0.5}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Trivial(asyncio.Protocol):
    """Reads whole requests, understands nothing."""

    def __init__(self) -> None:
        self.rest = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.rest += data
        if whole(self.rest) is not None:
            self.rest = b""
            self.transport.write(ANSWER)


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Trivial, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
