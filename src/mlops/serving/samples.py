"""A share of the requests with their answers, as JSON lines in files that rotate.

No request waits for the disk: a thread writes, and what it can't keep up with is counted as lost.
"""

from __future__ import annotations

import logging
import os
import queue
import random
from collections.abc import Iterator
from logging.handlers import QueueListener, RotatingFileHandler
from typing import Any, NamedTuple

import msgspec

from mlops.base.errors import UserError
from mlops.contract.bundle import Array
from mlops.serving.metrics import Metrics
from mlops.serving.model import Batch, Model, Rows
from mlops.serving.settings import Settings

# The most bytes of bodies whose samples wait to be written.
WAITING = 64 * 1024 * 1024
log = logging.getLogger("mlops.serving")


class Sample(NamedTuple):
    """One request's id, rows and outputs, when it was scored, in seconds since 1970, and the bytes
    of its body."""

    time: float
    request: str
    model: Model
    rows: Rows | Batch
    outputs: list[Array]
    size: int


class _File(RotatingFileHandler):
    """A rotating file that raises what went wrong, where logging would print it with the row."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        raise


class Samples(QueueListener):
    """Writes a share of all requests to the folder `settings.samples`, in a thread."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        assert settings.samples is not None
        try:
            settings.samples.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{settings.samples}: samples: {error.strerror}") from None
        super().__init__(queue.SimpleQueue())
        # Bytes of the bodies whose samples were taken, and of those that were written; each is
        # changed by one thread.
        self._taken = self._written = 0
        self._failing = False
        self.settings = settings
        self.metrics = metrics
        # A file for each process: two that rotate one file would lose lines.
        self._file = _File(
            settings.samples / f"predictions-{os.getpid()}.jsonl",
            maxBytes=settings.sample_bytes, backupCount=settings.sample_files - 1, delay=True,
        )  # fmt: skip

    def offer(self, sample: Sample) -> None:
        """Keep this request if it is drawn and there is room."""
        if random.random() >= self.settings.sample_share:
            return
        if self._taken - self._written + sample.size > WAITING:
            self.metrics.sampled.labels("lost").inc(len(sample.rows))
            return
        self._taken += sample.size
        self.queue.put_nowait(sample)

    def handle(self, record: Any) -> None:
        """Write one sample; the thread calls this."""
        outcome = "kept"
        try:
            for line in lines(record):
                self._file.emit(logging.makeLogRecord({"msg": line}))
            self._failing = False
        except OSError as error:
            outcome = "lost"
            # Once, and not for each request while a disk is full.
            if not self._failing:
                log.error("samples can't be written", extra={"reason": str(error)})
            self._failing = True
        self.metrics.sampled.labels(outcome).inc(len(record.rows))
        self._written += record.size

    def stop(self) -> None:
        """Write the samples that wait, and stop."""
        super().stop()
        self._file.close()


def lines(sample: Sample) -> Iterator[str]:
    """A line for each row: time, request, key, version, digest, inputs and outputs."""
    model, rows = sample.model, sample.rows.arrays
    columns = (*model.numeric, *model.categorical)
    outputs = zip(*(output.tolist() for output in sample.outputs), strict=True)
    values = zip(rows.numeric.tolist(), rows.categorical.tolist(), outputs, strict=True)
    head: dict[str, Any] = {"time": sample.time, "request": sample.request}
    head |= {"version": model.version, "digest": model.digest}
    keys = getattr(sample.rows, "keys", None)
    for row, (numeric, categorical, scores) in enumerate(values):
        if keys:
            head["key"] = keys[row]
        inputs = dict(zip(columns, [*numeric, *categorical], strict=True))
        named = dict(zip(model.card.outputs, scores, strict=True))
        yield msgspec.json.encode({**head, "row": row, "inputs": inputs, "outputs": named}).decode()
