"""A server in front of another one, which refuses the login after so many answers."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

# What the other connection, and not the answer, says.
OWN = ("content-length", "transfer-encoding", "connection")


@contextmanager
def expiring(
    url: str, refusal: tuple[int, bytes], counts: Callable[[str, bytes], bool], answers: int
) -> Iterator[str]:
    """The URL of a server that passes requests on to `url`.

    Once `answers` of those that `counts(path, content)` were given, every such answer is the
    refusal, a status and a body.
    """
    given: list[bool] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
            request = urllib.request.Request(url + self.path, body or None, headers,
                                             method=self.command)  # fmt: skip
            try:
                answer = urllib.request.urlopen(request)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                code, content, passed = answer.status, answer.read(), answer.headers.items()
            if counts(self.path, content):
                given.append(True)
                if len(given) > answers:
                    code, content = refusal
            self.send_response(code)
            for name, value in passed:
                if name.lower() not in OWN:
                    self.send_header(name, value)
            # The length of an answer to HEAD is that of what GET would give.
            head = self.command == "HEAD"
            length = answer.headers.get("content-length") if head else len(content)
            self.send_header("content-length", str(length or 0))
            self.end_headers()
            if not head:
                self.wfile.write(content)

        do_POST = do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}"
        proxy.shutdown()
