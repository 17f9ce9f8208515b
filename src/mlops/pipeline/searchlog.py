"""Tracks a search while it runs: batches of trials, written beside the search and not by it."""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mlops.pipeline import tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH_SECONDS = 5.0


class SearchLog:
    """Tracks a search as it runs, in batches and off the search's own thread."""

    def __init__(self, model: str, root: Path) -> None:
        self._model, self._root = model, root
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracking")
        self._waiting: list[tuple[int, dict[str, Any]]] = []
        self._count = 0
        self._sent = time.monotonic()
        self._opened: Future[tuple[MlflowClient, str, str]] = self._thread.submit(self._open)
        self._writes: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def trial(self, outcome: dict[str, Any]) -> None:
        """One trial ended; it becomes a child run with the next batch."""
        self._waiting.append((self._count, outcome))
        self._count += 1
        if time.monotonic() - self._sent > BATCH_SECONDS:
            self._send()

    def finish(self) -> None:
        """The search is written to disk: close its run under the digest of its files."""
        self._send()
        self._writes.append(self._thread.submit(self._close))
        errors = [e for write in self._writes if (e := write.exception())]
        if errors:
            reason = " ".join(str(errors[0]).split())[: tracking.LONGEST_REASON]
            print(f"not tracked, `mlops register` will: {reason}", file=sys.stderr)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._thread.submit(self._abandon)
        self._thread.shutdown(wait=True)

    def _open(self) -> tuple[MlflowClient, str, str]:
        client, experiment = tracking.connect(self._model, self._root)
        return client, experiment, tracking.start_run(client, experiment, "search")

    def _send(self) -> None:
        batch, self._waiting = self._waiting, []
        self._sent = time.monotonic()
        self._writes.append(self._thread.submit(self._write, batch))

    def _write(self, batch: list[tuple[int, dict[str, Any]]]) -> None:
        client, experiment, run = self._opened.result()
        for number, outcome in batch:
            tracking.log_trial(client, experiment, run, number, outcome)

    def _close(self) -> None:
        client, _, run = self._opened.result()
        tracking.finish_search(client, run, self._root)

    def _abandon(self) -> None:
        client, _, run = self._opened.result()
        client.set_terminated(run, "KILLED")
