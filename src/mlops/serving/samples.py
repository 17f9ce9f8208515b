"""A share of the requests with their answers, as JSON lines in files that rotate.

No request waits for the disk: a thread writes, and what it can't keep up with is counted as lost.
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

# Requests that may wait to be written.
QUEUE = 1000
log = logging.getLogger("mlops.serving")


@dataclass(frozen=True)
class Sample:
    """One request's id, rows and outputs, and when it was scored, in seconds since 1970."""

    time: float
    request: str
    model: Model
    rows: Rows | Batch
    outputs: list[Array]


class _File(RotatingFileHandler):
    """A rotating file that raises what went wrong, where logging would print it with the row."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        raise


class Samples:
    """Writes a share of all requests to the folder `settings.samples`."""

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
            maxBytes=settings.sample_bytes, backupCount=settings.sample_files - 1, delay=True,
        )  # fmt: skip
        self._file.setFormatter(logging.Formatter("%(message)s"))

    def start(self) -> None:
        """Start to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write the samples that wait, and stop."""
        self._queue.put(None)
        self._thread.join()
        self._file.close()

    def offer(self, model: Model, rows: Rows | Batch, outputs: list[Array], request: str) -> None:
        """Keep this request if it is drawn and there is room."""
        if random.random() >= self.settings.sample_share:
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
    """A line for each row: time, request, version, digest, inputs and outputs."""
    model, rows = sample.model, sample.rows
    arrays = rows if isinstance(rows, Batch) else batch(rows.numeric, rows.categorical)
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
                "inputs": dict(zip(model.numeric, numeric, strict=True))
                | dict(zip(model.categorical, categorical, strict=True)),
                "outputs": {n: v[row] for n, v in zip(model.card.outputs, values, strict=True)},
            }
        ).decode()
        for row, (numeric, categorical) in enumerate(
            zip(arrays.numeric.tolist(), arrays.categorical.tolist(), strict=True)
        )
    ]
