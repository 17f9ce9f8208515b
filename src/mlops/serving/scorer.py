"""Scores together what queued up while the run before was busy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np

from mlops.contract.bundle import Array
from mlops.serving.errors import Refusal
from mlops.serving.model import Batch, Model, batch, joined
from mlops.serving.rows import Rows
from mlops.serving.settings import Settings

# Above, a run takes so long that others must be answered meanwhile: it gets a thread.
INLINE = 256
log = logging.getLogger("mlops.serving")


class Awaited(Protocol):
    """Where a request's outputs go; a future is one."""

    def done(self) -> bool:
        """Whether nobody waits any longer."""
        ...

    def set_result(self, outputs: list[Array], /) -> None:
        """Answer with the outputs, in the card's order, each (rows,)."""
        ...

    def set_exception(self, error: Exception, /) -> None:
        """Say why there are none."""
        ...


class Waiting(NamedTuple):
    """Rows of one request, the model they were decoded for, and where its outputs go."""

    rows: Rows | Batch
    model: Model
    outputs: Awaited


Seen = Callable[[Model, Batch, list[Array]], None]


class Scorer:
    """A queue in front of the model.

    The event loop reads every request that has arrived before it calls back: what it read is
    scored in one run, a lone request at once. `seen` is told of every run.
    """

    def __init__(self, settings: Settings, seen: Seen) -> None:
        self.settings = settings
        self.seen = seen
        self.busy = 0
        self._waiting: list[Waiting] = []
        self._threads = ThreadPoolExecutor(settings.threads, "scorer")

    async def score(self, model: Model, rows: Rows | Batch) -> list[Array]:
        """The model's outputs for these rows; raises Refusal when too many wait, or are too many,
        or hold a number that no float32 can."""
        if not len(rows):
            raise Refusal(422, "body: found no rows")
        if len(rows) > self.settings.rows:
            raise Refusal(
                413, f"body: found {len(rows)} rows, expected at most {self.settings.rows}"
            )
        if len(rows) > INLINE:
            return await self._apart(model, rows)
        outputs: asyncio.Future[list[Array]] = asyncio.get_running_loop().create_future()
        self.join(model, rows, outputs)
        return await outputs

    def join(self, model: Model, rows: Rows | Batch, outputs: Awaited) -> None:
        """Have these rows, at most `INLINE`, scored together with what else has arrived."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._run)
        self._waiting.append(Waiting(rows, model, outputs))

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _apart(self, model: Model, rows: Rows | Batch) -> list[Array]:
        if self.busy + len(rows) > self.settings.waiting:
            raise Refusal(429, f"busy: {self.busy} rows wait", **{"retry-after": "1"})
        self.busy += len(rows)
        try:
            loop = asyncio.get_running_loop()
            made, outputs = await loop.run_in_executor(self._threads, _score, model, rows)
        finally:
            self.busy -= len(rows)
        self._tell(model, made, outputs)
        return outputs

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        while waiting:
            model = waiting[0].model
            mine = [one for one in waiting if one.model is model]
            waiting = [one for one in waiting if one.model is not model]
            self._together(model, mine)

    def _together(self, model: Model, requests: list[Waiting]) -> None:
        try:
            whole = _merged(requests)
            outputs = model.score(whole)
        except Exception:
            for request in requests:
                self._alone(request)
            return
        start = 0
        for request in requests:
            end = start + len(request.rows)
            _answer(request, [output[start:end] for output in outputs])
            start = end
        self._tell(model, whole, outputs)

    def _alone(self, request: Waiting) -> None:
        """One request's mistake is its own."""
        try:
            made, outputs = _score(request.model, request.rows)
        except Exception as error:
            if not request.outputs.done():
                request.outputs.set_exception(error)
            return
        _answer(request, outputs)
        self._tell(request.model, made, outputs)

    def _tell(self, model: Model, rows: Batch, outputs: list[Array]) -> None:
        """What fails to be counted is answered all the same, and so are those who wait behind."""
        try:
            self.seen(model, rows, outputs)
        except Exception:
            log.exception("a run is not counted")


def _answer(request: Waiting, outputs: list[Array]) -> None:
    # Whoever has hung up waits no longer.
    if not request.outputs.done():
        request.outputs.set_result(outputs)


def _score(model: Model, rows: Rows | Batch) -> tuple[Batch, list[Array]]:
    made = rows if isinstance(rows, Batch) else batch(rows.numbers, rows.words)
    _require_finite(model, made)
    return made, model.score(made)


def _merged(requests: list[Waiting]) -> Batch:
    """One batch of all; tuples are made an array once, not once for each request."""
    if all(isinstance(request.rows, Rows) for request in requests):
        numbers = [row for request in requests for row in request.rows.numbers]
        words = [row for request in requests for row in request.rows.words]
        whole = batch(numbers, words)
    else:
        made = [
            r.rows if isinstance(r.rows, Batch) else batch(r.rows.numbers, r.rows.words)
            for r in requests
        ]
        whole = joined(made)
    _require_finite(requests[0].model, whole)
    return whole


def _require_finite(model: Model, rows: Batch) -> None:
    infinite = np.isinf(rows.numbers)
    if infinite.any():
        row, column = np.argwhere(infinite)[0].tolist()
        raise Refusal(
            422, f"row {row}, column {model.numbers[column]!r}: found a number beyond float32"
        )
