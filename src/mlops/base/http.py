"""One HTTP client for every forge: it waits where that may help, and says in a line what can't.

A request is sent again after 429, a rate limit, 5xx and a lost connection, for as long as there is
patience. One that creates something is not: it may have been carried out although the answer was
lost, so `once` looks first.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import requests
from requests.auth import AuthBase

from mlops.base import faults
from mlops.base.errors import UserError
from mlops.base.faults import Fault, Patience

# Seconds to connect, and between two bytes of an answer.
TIMEOUT = (10.0, 30.0)

T = TypeVar("T")


class Denied(UserError):
    """The forge said no, for a `reason` in its own words; `status` is HTTP's."""

    def __init__(self, line: str, status: int, reason: str) -> None:
        super().__init__(line)
        self.status, self.reason = status, reason


class Uncertain(Exception):
    """A creation that may have been carried out or not: look before it is sent again."""


@dataclass(frozen=True)
class Doing:
    """What a request is for, and the permission that it needs, in the forge's words."""

    text: str
    permission: str


@dataclass(frozen=True)
class Token(AuthBase):
    """What proves who asks: sent with each request, shown nowhere.

    Raises UserError for what can't be a token; a header's own complaint would show it.
    """

    variable: str
    secret: str = field(repr=False)
    basic: bool = False

    def __post_init__(self) -> None:
        if not (self.secret.isascii() and self.secret.isprintable()) or " " in self.secret:
            raise UserError(f"{self.variable}: found spaces or odd characters, expected a token")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        scheme = f"Basic {self._packed}" if self.basic else f"Bearer {self.secret}"
        request.headers["Authorization"] = scheme
        return request

    def hidden(self, text: str) -> str:
        """The text without the token, should a server have repeated it."""
        return text.replace(self.secret, "***").replace(self._packed, "***")

    @property
    def _packed(self) -> str:
        return base64.b64encode(f":{self.secret}".encode()).decode()


@dataclass(frozen=True)
class Site:
    """Where a forge is: the variable that said so, and what it wants with each request.

    `explain` makes of a status, the forge's reason and what was being done the line for the user.
    """

    name: str
    variable: str
    url: str
    explain: Callable[[int, str, Doing], str]
    headers: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)


class Client:
    """Sends requests to one forge."""

    def __init__(self, site: Site, token: Token, patience: Patience) -> None:
        self._site, self._token, self._patience = site, token, patience
        self._session = requests.Session()
        self._session.headers.update(site.headers)
        self._session.auth = token

    def send(
        self, method: str, path: str, doing: Doing, *, again: bool = True, **request: Any
    ) -> Any:
        """The content of the answer; None where it has none.

        Raises Denied for a no, UserError when patience ends, and, where the request is not to be
        sent `again`, Uncertain when it may have been carried out.
        """
        return self._content(self._answer(method, path, doing, again, request))

    def pages(self, path: str, doing: Doing, **parameters: Any) -> Iterator[Any]:
        """The elements of a list that comes in pages, told by a `Link` header."""
        more, page = True, 1
        while more:
            asked = {"params": {**parameters, "per_page": 100, "page": page}}
            answer = self._answer("GET", path, doing, True, asked)
            yield from self._content(answer)
            more, page = "next" in answer.links, page + 1

    def doubt(self, what: str, doing: Doing) -> NoReturn:
        """Wait, then have `once` look again. Raises Uncertain, or UserError when patience ends."""
        self._bear(Fault(what), doing, 0.0)
        raise Uncertain

    def _answer(
        self, method: str, path: str, doing: Doing, again: bool, request: dict[str, Any]
    ) -> requests.Response:
        request["params"] = {**self._site.parameters, **request.get("params", {})}
        while True:
            start = time.monotonic()
            try:
                answer = self._session.request(
                    method, self._site.url + path, timeout=TIMEOUT, allow_redirects=False, **request
                )
                fault = faults.of(answer)
            except requests.RequestException as error:
                fault = self._lost(error)
            if fault is None:
                return self._allowed(answer, doing)
            self._bear(fault, doing, time.monotonic() - start)
            if not again:
                raise Uncertain

    def _bear(self, fault: Fault, doing: Doing, took: float) -> None:
        if not self._patience.bear(fault, took):
            raise UserError(
                f"{self._site.name}: could not {doing.text}: {fault}; "
                "run it again, nothing is done twice"
            )

    def _lost(self, error: requests.RequestException) -> Fault:
        """The fault behind a request without an answer, unless no waiting can mend it."""
        place = f"{self._site.variable}: {self._site.url}"
        if isinstance(error, requests.exceptions.SSLError) and "certificate" in str(error).lower():
            raise UserError(
                f"{place}: its certificate is not trusted; REQUESTS_CA_BUNDLE can name one that is"
            ) from None
        # What can't be a URL.
        if isinstance(error, ValueError):
            raise UserError(f"{place}: not a URL that can be asked") from None
        return Fault(f"{self._site.url} does not answer ({type(error).__name__})")

    def _allowed(self, answer: requests.Response, doing: Doing) -> requests.Response:
        # Azure DevOps answers a token that it doesn't know with 203 and a page to sign in.
        if answer.ok and answer.status_code < 300 and answer.status_code != 203:
            return answer
        reason = self._token.hidden(faults.reason(answer))
        line = self._site.explain(answer.status_code, reason, doing)
        raise Denied(line, answer.status_code, reason)

    def _content(self, answer: requests.Response) -> Any:
        try:
            return answer.json() if answer.content else None
        except ValueError:
            site = self._site
            raise UserError(
                f"{site.variable}: {site.url} answers, but not as {site.name} does"
            ) from None


def once(look: Callable[[], list[T]], create: Callable[[], T]) -> list[T]:
    """What `look` finds, in its order; when that is nothing, what is there after `create`.

    It looks again after each creation, so that of two runs that create at once both see both.
    """
    while not (found := look()):
        with suppress(Uncertain):
            made = create()
            return look() or [made]
    return found
