"""Clients that never stop asking, and hold every answer against what that bundle must say."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

JSON = {"content-type": "application/json"}
Told = tuple[int, Mapping[str, str], Any]


def post(
    url: str, body: Any, headers: Mapping[str, str] = JSON
) -> tuple[int, Mapping[str, str], Any]:
    """One request on a connection of its own."""
    client = http.client.HTTPConnection(urlsplit(url).netloc, timeout=90)
    try:
        return _post(client, body, headers)
    finally:
        client.close()


def _post(client: http.client.HTTPConnection, body: Any, headers: Mapping[str, str]) -> Told:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    client.request("POST", "/predict", content, dict(headers))
    answer = client.getresponse()
    told = answer.read()
    return answer.status, {k.lower(): v for k, v in answer.headers.items()}, json.loads(told)


class Load:
    """So many clients at once, until the block ends.

    `rows` are asked in turn; `expected` is for each digest what it says to each of them.
    """

    def __init__(
        self, url: str, rows: list[Any], expected: dict[str, list[float]], clients: int = 4
    ) -> None:
        self.url, self.rows, self.expected = url, rows, expected
        self.answered: Counter[str] = Counter()
        self._asked = [0] * clients
        self.failed: list[str] = []
        self._over, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def asked(self) -> int:
        """The requests that were sent."""
        return sum(self._asked)

    def wait(self, more: int, digest: str = "", seconds: float = 60.0) -> None:
        """Until so many more were answered, by this digest if one is named."""

        def count() -> int:
            return self.answered[digest] if digest else self.answered.total()

        goal, deadline = count() + more, time.monotonic() + seconds
        while count() < goal and not self.failed:
            assert time.monotonic() < deadline, f"{count()} of {goal}"
            time.sleep(0.01)

    def _ask(self, number: int) -> None:
        client = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=90)
        place = number
        while not self._over.is_set():
            place = (place + 1) % len(self.rows)
            self._asked[number] += 1
            try:
                status, headers, answer = _post(client, self.rows[place], JSON)
            except Exception as error:
                self.failed.append(f"{type(error).__name__}: {error}")
                client.close()
                continue
            self._check(place, status, headers.get("x-model-digest", ""), answer)

    def _check(self, place: int, status: int, digest: str, answer: Any) -> None:
        if status != 200:
            self.failed.append(f"{status}: {answer}")
            return
        said = answer["predictions"][0]["probability"]
        if abs(said - self.expected[digest][place]) > 1e-5:
            self.failed.append(f"{digest[:12]} said {said}")
        with self._lock:
            self.answered[digest] += 1
