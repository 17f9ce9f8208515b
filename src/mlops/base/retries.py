"""Bounded retries of HTTP requests.

urllib3's `Retry` sends a request again after a lost connection, a 5xx or a rate limit. A request
that creates something must not be among them: it may have been carried out although its response
was lost. `retry_ambiguous_create` looks before it sends that again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import requests
from urllib3.exceptions import MaxRetryError, ResponseError
from urllib3.util.retry import Retry

from mlops.base.errors import UserError

# The longest `Retry-After`, in seconds, that is waited for.
LONGEST_WAIT = 60

T = TypeVar("T")


class BoundedRetry(Retry):
    """urllib3's Retry, except that it gives up at once where waiting is too long or no help."""

    # GitHub's secondary rate limit is a 403.
    RETRY_AFTER_STATUS_CODES = frozenset([403, 413, 429, 503])

    def increment(
        self, method: Any = None, url: Any = None, response: Any = None, error: Any = None,
        *arguments: Any, **options: Any,
    ) -> BoundedRetry:  # fmt: skip
        too_long = response is not None and (self.get_retry_after(response) or 0) > LONGEST_WAIT
        if too_long or is_untrusted(error):
            raise MaxRetryError(options.get("_pool"), url, error or ResponseError("Retry-After"))  # type: ignore[arg-type]
        return super().increment(method, url, response, error, *arguments, **options)


# Waits of 0, 1, 2, 4 and 8 seconds, or what the server asks for.
RETRIES = BoundedRetry(
    total=5, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None,
    raise_on_status=False,
)  # fmt: skip


class Unavailable(UserError):
    """No retry helped; a request that creates something may have been carried out or not."""

    def __init__(self, line: str, response: requests.Response | None) -> None:
        super().__init__(line)
        self.response = response


def retry_ambiguous_create(look: Callable[[], list[T]], create: Callable[[], T]) -> list[T]:
    """What `look` finds, in its order; when that is nothing, what is there after `create`.

    Looks again before it repeats a creation that was Unavailable, and raises that when no retry
    is left. Looks again after a creation too: of two runs that create at once, both see both.
    """
    retries = RETRIES
    while not (existing := look()):
        try:
            created = create()
        except Unavailable as error:
            response: Any = None if error.response is None else error.response.raw
            try:
                retries = retries.increment(response=response)
            except MaxRetryError:
                raise error from None
            retries.sleep(response)
        else:
            return look() or [created]
    return existing


def is_untrusted(error: Exception | None) -> bool:
    """Whether a request failed because the server's certificate is not trusted."""
    return "certificate verify failed" in str(error).lower()
