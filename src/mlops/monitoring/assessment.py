"""The assessment of one environment: what monitoring measured, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mlops.monitoring.decision import State
from mlops.monitoring.window import Window


@dataclass(frozen=True)
class Assessment:
    """The state of an environment at `now`, with its reasons; its files lie in `folder`.

    `windows` are those of requests, `labelled` those of rows whose labels have arrived; both
    newest first. `notes` say what was left out, and why; `lines` counts the log lines by kind.
    """

    environment: str
    model: str
    digest: str
    now: datetime
    state: State
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    lines: dict[str, int]
    windows: tuple[Window, ...]
    labelled: tuple[Window, ...]
    folder: Path

    @property
    def line(self) -> str:
        """The assessment in one line, for the screen."""
        details = "; ".join((*self.reasons, *self.notes)) or f"{self.windows[0].rows:,} rows judged"
        return f"{self.environment} {self.digest[:12]}: {self.state}: {details}"
