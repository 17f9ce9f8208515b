"""What may go wrong between a forge and here and pass again, and how long to wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import requests

FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
# What GitHub asks for after a secondary rate limit that names no time.
UNNAMED_WAIT = 60.0
MOST_REASON = 300


@dataclass(frozen=True)
class Fault:
    """What went wrong and may pass; `wait` is what the forge asks for, in seconds."""

    what: str
    wait: float | None = None

    def __str__(self) -> str:
        wait = max(0.0, self.wait or 0.0)
        return f"{self.what} for {_time(wait)} more" if wait else self.what


class Patience:
    """The seconds that all requests together may lose to faults and to waiting after them."""

    def __init__(self, seconds: float = 90.0, sleep: Callable[[float], None] = time.sleep) -> None:
        self.left = seconds
        self._sleep = sleep
        self._wait = FIRST_WAIT

    def bear(self, fault: Fault, took: float) -> bool:
        """Wait after a fault that took so many seconds; False when it would be too long."""
        wait = max(self._wait, fault.wait or 0.0)
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        self.left -= took + wait
        if self.left < 0:
            return False
        self._sleep(wait)
        return True


def of(answer: requests.Response) -> Fault | None:
    """The fault that an answer tells of: a rate limit, or a trouble of the forge's own."""
    status = answer.status_code
    if status == 429 or (status == 403 and _is_limited(answer)):
        return Fault("the rate limit is reached", _pause(answer))
    if status >= 500:
        return Fault(f"it answers {status} {answer.reason}", _retry_after(answer))
    return None


def _is_limited(answer: requests.Response) -> bool:
    headers = answer.headers
    said = "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0"
    return said or "rate limit" in answer.text.lower()


def _pause(answer: requests.Response) -> float:
    """The seconds that a rate limit lasts, by the forge's own clock."""
    asked = _retry_after(answer)
    if asked is not None:
        return asked
    reset = answer.headers.get("x-ratelimit-reset", "")
    if answer.headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        return int(reset) - _clock(answer)
    return UNNAMED_WAIT


def _retry_after(answer: requests.Response) -> float | None:
    value = answer.headers.get("retry-after", "")
    if value.isdigit():
        return float(value)
    with suppress(ValueError):
        return parsedate_to_datetime(value).timestamp() - _clock(answer)
    return None


def _clock(answer: requests.Response) -> float:
    with suppress(ValueError):
        return parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    return time.time()


def reason(answer: requests.Response) -> str:
    """What the forge says of its no, in one line."""
    try:
        said = answer.json()
        parts = [said["message"], *(_detail(error) for error in said.get("errors", []))]
        text = ": ".join(str(part) for part in parts)
    except (ValueError, KeyError, TypeError, AttributeError):
        text = f"{answer.status_code} {answer.reason}"
    return " ".join(text.split())[:MOST_REASON]


def _detail(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    return str(error.get("message") or f"{error.get('field')} is {error.get('code')}")


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
