"""Scores in one run all requests that have arrived together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import NamedTuple

import numpy as np

from mlops.contract.bundle import Array
from mlops.serving.errors import Refusal, too_many_rows
from mlops.serving.model import Batch, Model, Rows
from mlops.serving.settings import Settings

# A request of more rows gets a thread: others must be answered meanwhile.
MOST_TOGETHER = 256
log = logging.getLogger("mlops.serving")


class Queued(NamedTuple):
    """Rows of one request, the model they were decoded for, and the future of their outputs."""

    rows: Rows
    model: Model
    outputs: asyncio.Future[list[Array]]


class Scorer:
    """A queue in front of the model.

    The event loop reads every request that has arrived before it calls back: what it read is
    scored in one run. `observe` is called after every run.
    """

    def __init__(
        self, settings: Settings, observe: Callable[[Model, Batch, list[Array]], None]
    ) -> None:
        self.settings = settings
        self.observe = observe
        self.waiting = 0
        self._queue: list[Queued] = []
        self._threads = ThreadPoolExecutor(settings.threads, "scorer")

    async def score(self, model: Model, rows: Rows, alone: bool = False) -> list[Array]:
        """The model's outputs for these rows, at once where it is `alone`; raises Refusal."""
        if not len(rows):
            raise Refusal(422, "body: found no rows")
        if len(rows) > self.settings.rows:
            raise too_many_rows(str(len(rows)), self.settings.rows)
        if len(rows) > MOST_TOGETHER:
            return await self._in_thread(model, rows)
        if alone:
            arrays, results = _score(model, [rows])
            self._observe(model, arrays, results)
            return results
        loop = asyncio.get_running_loop()
        outputs: asyncio.Future[list[Array]] = loop.create_future()
        if not self._queue:
            loop.call_soon(self._run)
        self._queue.append(Queued(rows, model, outputs))
        return await outputs

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, model: Model, rows: Rows) -> list[Array]:
        if self.waiting + len(rows) > self.settings.waiting:
            raise Refusal(429, f"busy: {self.waiting} rows wait", **{"retry-after": "1"})
        self.waiting += len(rows)
        try:
            loop = asyncio.get_running_loop()
            arrays, outputs = await loop.run_in_executor(self._threads, _score, model, [rows])
        finally:
            self.waiting -= len(rows)
        self._observe(model, arrays, outputs)
        return outputs

    def _run(self) -> None:
        queue, self._queue = self._queue, []
        for model, requests in groupby(queue, lambda request: request.model):
            self._together(model, list(requests))

    def _together(self, model: Model, requests: list[Queued]) -> None:
        try:
            rows, outputs = _score(model, [request.rows for request in requests])
        except Exception as error:
            # Only a wrong one is refused.
            for request in requests if len(requests) > 1 else ():
                self._together(model, [request])
            if len(requests) == 1 and not requests[0].outputs.done():
                requests[0].outputs.set_exception(error)
            return
        start = 0
        for request in requests:
            end = start + len(request.rows)
            # A client that has hung up waits no longer.
            if not request.outputs.done():
                request.outputs.set_result([output[start:end] for output in outputs])
            start = end
        self._observe(model, rows, outputs)

    def _observe(self, model: Model, rows: Batch, outputs: list[Array]) -> None:
        """Count a run; requests are answered even where that fails."""
        try:
            self.observe(model, rows, outputs)
        except Exception:
            log.exception("a run is not counted")


def _score(model: Model, requests: list[Rows]) -> tuple[Batch, list[Array]]:
    rows = requests[0]
    if len(requests) > 1:
        # Tuples are made an array once, not once for each request.
        numeric = [row for one in requests for row in one.numeric]
        rows = Rows(numeric, [row for one in requests for row in one.categorical])
    batch = rows.arrays
    infinite = np.isinf(batch.numeric)
    if infinite.any():
        row, column = np.argwhere(infinite)[0].tolist()
        raise Refusal(
            422, f"row {row}, column {model.numeric[column]!r}: found a number beyond float32"
        )
    return batch, model.score(batch)
