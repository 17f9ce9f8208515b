"""How long a body may take to arrive, looked after once for all requests.

A timer for each request costs more than reading it; a clerk who looks around now and then does not.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from mlops.serving.errors import Refusal

GLANCES = 10


class Patience:
    """Within it a task waits at most `seconds`, and a tenth more; then Refusal is raised there."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()
        self._clerk: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look around."""
        self._clerk = asyncio.get_running_loop().create_task(self._look())

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task:
            self._since[task] = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        task = asyncio.current_task()
        if task:
            self._since.pop(task, None)
        if task in self._late and kind is asyncio.CancelledError:
            self._late.discard(task)
            task.uncancel()
            raise Refusal(408, "body: did not arrive in time", connection="close") from None

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self.seconds / GLANCES)
            latest = time.monotonic() - self.seconds
            for task in [task for task, since in self._since.items() if since < latest]:
                self._since.pop(task)
                self._late.add(task)
                task.cancel()
