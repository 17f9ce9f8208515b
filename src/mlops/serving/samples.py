"""A sample of what was asked and answered, as JSON lines in files that rotate.

Nothing waits for the disk: a thread writes, and what it can't keep up with is counted and lost.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
import time
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler

import msgspec

from mlops.base.errors import UserError
from mlops.contract.bundle import Array
from mlops.serving.metrics import Metrics
from mlops.serving.model import Batch, Model, batch
from mlops.serving.rows import Rows
from mlops.serving.settings import Settings

# Requests that may wait for the disk.
QUEUE = 1000
log = logging.getLogger("mlops.serving")


@dataclass(frozen=True)
class Sample:
    """One request's rows and outputs, and when they met, in seconds since 1970."""

    time: float
    request: str
    model: Model
    rows: Rows | Batch
    outputs: list[Array]


class _File(RotatingFileHandler):
    """One that leaves it to us what is done when the disk says no."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Raise what went wrong, where logging would print it with all that was asked."""
        raise


class Samples:
    """Keeps a share of all requests in `settings.samples`, never more than the files may hold."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        assert settings.samples is not None
        try:
            settings.samples.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{settings.samples}: samples: {error.strerror}") from None
        self.settings = settings
        self.metrics = metrics
        self._queue: queue.Queue[Sample | None] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._write, name="samples", daemon=True)
        # A file for each process: two that rotate one file would lose lines.
        self._file = _File(
            settings.samples / f"predictions-{os.getpid()}.jsonl",
            maxBytes=settings.size, backupCount=settings.kept - 1, delay=True,
        )  # fmt: skip
        self._file.setFormatter(logging.Formatter("%(message)s"))

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, then end."""
        self._queue.put(None)
        self._thread.join()
        self._file.close()

    def offer(self, model: Model, rows: Rows | Batch, outputs: list[Array], request: str) -> None:
        """Keep this request, if the dice say so and there is room."""
        if random.random() >= self.settings.sample:
            return
        try:
            self._queue.put_nowait(Sample(time.time(), request, model, rows, outputs))
        except queue.Full:
            self.metrics.sampled.labels("lost").inc(len(rows))

    def _write(self) -> None:
        while (sample := self._queue.get()) is not None:
            try:
                for line in lines(sample):
                    self._file.emit(logging.makeLogRecord({"msg": line}))
                self.metrics.sampled.labels("kept").inc(len(sample.rows))
            except OSError as error:
                self.metrics.sampled.labels("lost").inc(len(sample.rows))
                log.error("samples can't be written", extra={"reason": str(error)})


def lines(sample: Sample) -> list[str]:
    """A line for each row: when, by which bundle, what was asked, what was answered."""
    model, rows = sample.model, sample.rows
    made = rows if isinstance(rows, Batch) else batch(rows.numbers, rows.words)
    values = [output.tolist() for output in sample.outputs]
    head = {
        "time": sample.time, "request": sample.request,
        "version": model.version, "digest": model.digest,
    }  # fmt: skip
    return [
        msgspec.json.encode(
            head
            | {
                "row": row,
                "inputs": dict(zip(model.numbers, numbers, strict=True))
                | dict(zip(model.words, words, strict=True)),
                "outputs": {n: v[row] for n, v in zip(model.card.outputs, values, strict=True)},
            }
        ).decode()
        for row, (numbers, words) in enumerate(
            zip(made.numbers.tolist(), made.words.tolist(), strict=True)
        )
    ]
