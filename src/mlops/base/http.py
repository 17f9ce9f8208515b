"""A client for JSON REST APIs: bounded retries, and one line for what an API refuses.

urllib3's `Retry` sends a request again after a lost connection, a 5xx or a rate limit. A request
that creates something must not be among them: it may have been carried out although its response
was lost. `retry_ambiguous_create` looks before it sends that again.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

import requests
from requests import exceptions
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import MaxRetryError, ResponseError
from urllib3.util.retry import Retry

from mlops.base.errors import UserError, one_line

# Seconds to connect, and between two bytes of a response.
TIMEOUT = (10.0, 30.0)
# The longest `Retry-After`, in seconds, that is waited for.
LONGEST_WAIT = 60
NOT_A_URL = (exceptions.InvalidURL, exceptions.InvalidSchema, exceptions.MissingSchema)

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
        if too_long or _is_untrusted(error):
            raise MaxRetryError(options.get("_pool"), url, error or ResponseError("Retry-After"))  # type: ignore[arg-type]
        return super().increment(method, url, response, error, *arguments, **options)


# Waits of 0, 1, 2, 4 and 8 seconds, or what the server asks for.
RETRIES = BoundedRetry(
    total=5, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None,
    raise_on_status=False,
)  # fmt: skip


class RequestRefused(UserError):
    """The API refused a request with an HTTP `status`, for a `reason` in its own words."""

    def __init__(self, line: str, status: int, reason: str) -> None:
        super().__init__(line)
        self.status, self.reason = status, reason


class Unavailable(UserError):
    """No retry helped; a request that creates something may have been carried out or not."""

    def __init__(self, line: str, response: requests.Response | None) -> None:
        super().__init__(line)
        self.response = response


@dataclass(frozen=True)
class Operation:
    """What a request is for, and the permission that it needs, in the API's own terms."""

    description: str
    permission: str


@dataclass(frozen=True)
class Token(AuthBase):
    """A credential: sent with each request, never part of a message.

    Raises UserError for characters that no token has; a header's own complaint would show it.
    """

    variable: str
    secret: str = field(repr=False)
    basic: bool = False

    def __post_init__(self) -> None:
        if not (self.secret.isascii() and self.secret.isprintable()) or " " in self.secret:
            raise UserError(f"{self.variable}: found spaces or odd characters, expected a token")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        scheme = f"Basic {self._encoded}" if self.basic else f"Bearer {self.secret}"
        request.headers["Authorization"] = scheme
        return request

    def hide_in(self, text: str) -> str:
        """The text without the token, should a server have repeated it."""
        return text.replace(self.secret, "***").replace(self._encoded, "***")

    @property
    def _encoded(self) -> str:
        return base64.b64encode(f":{self.secret}".encode()).decode()


@dataclass
class Client:
    """Sends requests to the service `name`, whose URL an environment `variable` gave.

    `explain` makes the user's line of a status, the service's reason and the operation. Every
    method raises RequestRefused for what is refused, and Unavailable without an answer.
    """

    name: str
    variable: str
    url: str
    token: Token
    explain: Callable[[int, str, Operation], str]
    headers: dict[str, str]
    parameters: dict[str, str] = field(default_factory=dict)

    def send(self, method: str, path: str, operation: Operation, **request: Any) -> Any:
        """The response's JSON, None where it is empty; only for what may be carried out twice."""
        return self._json(self._response(method, path, operation, **request))

    def create(self, path: str, operation: Operation, content: Any, exists: str = "") -> Any:
        """The response to a POST that is sent once, for use in `retry_ambiguous_create`.

        A refusal that says `exists` is Unavailable too: another run was faster.
        """
        try:
            return self._json(self._response("POST", path, operation, retries=0, json=content))
        except RequestRefused as refused:
            if not (exists and exists in refused.reason):
                raise
            raise self._unavailable(operation, "it has one, but does not show it") from None

    def pages(self, path: str, operation: Operation, **parameters: Any) -> Iterator[Any]:
        """The elements of a list that comes in pages, as a `Link` header says."""
        for page in count(1):
            query = {**parameters, "per_page": 100, "page": page}
            response = self._response("GET", path, operation, params=query)
            yield from self._json(response)
            if "next" not in response.links:
                return

    def _response(
        self, method: str, path: str, operation: Operation, retries: Retry | int = RETRIES,
        params: dict[str, Any] | None = None, **request: Any,
    ) -> requests.Response:  # fmt: skip
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=retries))
            try:
                response = session.request(
                    method, self.url + path, params=self.parameters | (params or {}),
                    headers=self.headers, auth=self.token, timeout=TIMEOUT, allow_redirects=False,
                    **request,
                )  # fmt: skip
            except requests.RequestException as error:
                raise self._lost(error, operation) from None
        status = response.status_code
        if _is_rate_limited(response):
            what = f"the rate limit is reached{_remaining(response)}"
        else:
            what = f"it answers {status} {response.reason}" if status >= 500 else ""
        if what:
            raise self._unavailable(operation, what, response)
        # Azure DevOps answers a token that it doesn't know with 203 and a page to sign in.
        if status >= 300 or status == 203:
            reason = self.token.hide_in(_reason(response))
            raise RequestRefused(self.explain(status, reason, operation), status, reason)
        return response

    def _lost(self, error: requests.RequestException, operation: Operation) -> UserError:
        place = f"{self.variable}: {self.url}"
        if _is_untrusted(error):
            return UserError(
                f"{place}: its certificate is not trusted; REQUESTS_CA_BUNDLE can name one that is"
            )
        if isinstance(error, NOT_A_URL):
            return UserError(f"{place}: not a URL that can be asked")
        return self._unavailable(operation, f"{self.url} does not answer ({type(error).__name__})")

    def _unavailable(
        self, operation: Operation, what: str, response: requests.Response | None = None
    ) -> Unavailable:
        line = f"{self.name}: could not {operation.description}: {what}"
        return Unavailable(f"{line}; run it again, nothing is done twice", response)

    def _json(self, response: requests.Response) -> Any:
        try:
            return response.json() if response.content else None
        except ValueError:
            line = f"{self.variable}: {self.url} answers, but not as {self.name} does"
            raise UserError(line) from None


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


def _is_untrusted(error: Exception | None) -> bool:
    """Whether a request failed because the server's certificate is not trusted."""
    return "certificate verify failed" in str(error).lower()


def _is_rate_limited(response: requests.Response) -> bool:
    if response.status_code != 403:
        return response.status_code == 429
    headers = response.headers
    named = "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0"
    return named or "rate limit" in response.text.lower()


def _remaining(response: requests.Response) -> str:
    """How long a rate limit lasts, where the response says so, as ` for N min more`."""
    headers, seconds = response.headers, 0.0
    with suppress(ValueError):
        if headers.get("x-ratelimit-remaining") == "0":
            seconds = float(headers.get("x-ratelimit-reset", "")) - time.time()
        seconds = float(headers.get("retry-after", seconds))
    if seconds < 120:
        return f" for {seconds:.0f} s more" if seconds > 0 else ""
    return f" for {seconds / 60:.0f} min more"


def _reason(response: requests.Response) -> str:
    """Why the API refused a request, in its own words and one line."""
    try:
        content = response.json()
        parts = [content["message"], *(_detail(error) for error in content.get("errors", []))]
        return one_line(": ".join(map(str, parts)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{response.status_code} {response.reason}"


def _detail(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    return str(error.get("message") or f"{error.get('field')} is {error.get('code')}")
