"""Clients that never stop asking, and check every answer against what that bundle must predict."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import requests

from mlops.base import processes

# Between two requests of a client: what is started meanwhile needs the processors too.
PAUSE_SECONDS = 0.01
Reply = tuple[int, Mapping[str, str], Any]


def post(url: str, row: Any, headers: Any = None, session: Any = requests) -> Reply:
    """Send one request, by default on a connection of its own; status, headers, content."""
    response = session.post(f"{url}/predict", json=row, headers=headers, timeout=90)
    return response.status_code, response.headers, response.json()


class Load:
    """So many clients at once, until the block ends.

    `rows` are sent in turn; `expected` are each digest's probabilities of them.
    """

    def __init__(
        self, url: str, rows: list[Any], expected: dict[str, list[float]], clients: int
    ) -> None:
        self.url, self.rows, self.expected = url, rows, expected
        self.answered: Counter[str] = Counter()
        self.failed: list[str] = []
        self._sent = [0] * clients
        self._over, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def sent(self) -> int:
        """The requests that were sent."""
        return sum(self._sent)

    def wait(self, more: int, digest: str = "", seconds: float = 60.0) -> None:
        """Wait until so many more were answered, by this digest if one is named."""

        def count() -> int:
            return self.answered[digest] if digest else self.answered.total()

        goal = count() + more
        done = processes.wait(lambda: count() >= goal or bool(self.failed), seconds=seconds)
        assert done, f"{count()} of {goal}"

    def _ask(self, number: int) -> None:
        place = number
        with requests.Session() as session:
            while not self._over.wait(PAUSE_SECONDS):
                place = (place + 1) % len(self.rows)
                self._sent[number] += 1
                try:
                    self._check(place, *post(self.url, self.rows[place], session=session))
                except Exception as error:
                    self.failed.append(f"{type(error).__name__}: {error}")

    def _check(self, place: int, status: int, headers: Mapping[str, str], content: Any) -> None:
        if status != 200:
            self.failed.append(f"{status}: {content}")
            return
        digest = headers.get("x-model-digest", "")
        probability = content["predictions"][0]["probability"]
        if abs(probability - self.expected[digest][place]) > 1e-5:
            self.failed.append(f"{digest[:12]} predicted {probability}")
        with self._lock:
            self.answered[digest] += 1
