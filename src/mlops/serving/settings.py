"""What a service may be told: limits, places, and nothing about any one model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Limits and places of one service. Sizes are bytes, times are seconds.

    `rows` is the most in one request, `body` its largest size and `patience` how long it may take
    to arrive. `requests` may be under way at once, `bodies` be the bytes of those that arrive
    piece by piece, and `waiting` rows wait for a thread, beyond which clients are told to come
    back later. Told to stop, the service is unready for `drain` and serves on. Of the requests a
    share of `sample` is kept in `samples`, in at most `kept` files of `size`.
    """

    rows: int = 10_000
    body: int = 16 * 1024 * 1024
    bodies: int = 256 * 1024 * 1024
    requests: int = 1024
    waiting: int = 100_000
    patience: float = 30.0
    drain: float = 0.0
    threads: int = 1
    token: str = ""
    samples: Path | None = None
    sample: float = 1.0
    size: int = 16 * 1024 * 1024
    kept: int = 8
