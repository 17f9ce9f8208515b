"""Azure Resource Manager: requests whose work goes on for minutes, followed to their end.

https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import requests

from mlops.base import faults
from mlops.base.errors import UserError
from mlops.base.faults import Patience
from mlops.base.http import Client, Denied, Doing, Site, Token

if TYPE_CHECKING:
    from azure.identity import DefaultAzureCredential

# Seconds between two looks where Azure asks for none, and until a look is the last one.
PAUSE, LONGEST = 5.0, 3600.0
ENDED = ("succeeded", "failed", "canceled")
# How often another's change may come first.
TURNS = 5


class Arm(Client):
    """Sends requests to one site of Azure's; each may be repeated."""

    def __init__(self, site: Site, token: Token, patience: Patience) -> None:
        super().__init__(site, token, patience)
        self.site = site

    def find(self, path: str, doing: Doing, **parameters: str) -> Any | None:
        """What is there; None when it is not."""
        try:
            return self.send("GET", path, doing, params=parameters)
        except Denied as denied:
            if denied.status == 404:
                return None
            raise

    def every(self, path: str, doing: Doing) -> Iterator[Any]:
        """The elements of a list, page by page."""
        parameters: dict[str, str] = {}
        while True:
            page = self.send("GET", path, doing, params=parameters)
            yield from page["value"]
            if not page.get("nextLink"):
                return
            path, parameters = self._place(page["nextLink"])

    def change(self, method: str, path: str, doing: Doing, content: Any = None) -> Any:
        """Create, change or delete, and wait until that is done; what is there then.

        Waits first where another change is under way. Raises UserError when it ends badly.
        """
        deadline = time.monotonic() + LONGEST
        answer = self._begun(method, path, doing, content, deadline)
        if answer is None:
            return None
        self._follow(answer, doing, deadline)
        return None if method == "DELETE" else self._whole(path, doing, deadline)

    def _begun(
        self, method: str, path: str, doing: Doing, content: Any, deadline: float
    ) -> requests.Response | None:
        """The answer to a change, when it is this one's turn; None for nothing to delete."""
        for turn in range(TURNS, -1, -1):
            try:
                return self._answer(method, path, doing, True, {"json": content})
            except Denied as denied:
                if denied.status == 404 and method == "DELETE":
                    return None
                if denied.status != 409 or not turn:
                    raise
            self._settle(path, doing, deadline)
        return None

    def _settle(self, path: str, doing: Doing, deadline: float) -> None:
        """Wait for another's change of the same thing, or of the endpoint that it belongs to."""
        self._wait(PAUSE, doing, deadline)
        for place in (path, path.rsplit("/", 2)[0]):
            while (found := self.find(place, doing)) and not _is_ended(found):
                self._wait(PAUSE, doing, deadline)

    def _follow(self, answer: requests.Response, doing: Doing, deadline: float) -> None:
        headers = answer.headers
        operation = headers.get("Azure-AsyncOperation")
        place = operation or (headers.get("Location") if answer.status_code == 202 else None)
        while place:
            self._wait(_pause(answer), doing, deadline)
            path, parameters = self._place(place)
            answer = self._answer("GET", path, doing, True, {"params": parameters})
            if operation:
                said = self._content(answer)
                ended = str(said.get("status", "")).lower()
                if ended in ENDED[1:]:
                    raise self._failed(said.get("error"), ended, doing)
                place = None if ended == ENDED[0] else place
            else:
                place = place if answer.status_code == 202 else None

    def _whole(self, path: str, doing: Doing, deadline: float) -> Any:
        """What is there once it is ready; for answers that named no operation."""
        while True:
            found = self.send("GET", path, doing)
            if _is_ended(found):
                break
            self._wait(PAUSE, doing, deadline)
        state = _state(found)
        if state in ENDED[1:]:
            raise self._failed(None, state, doing)
        return found

    def _wait(self, seconds: float, doing: Doing, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise UserError(
                f"{self.site.name}: could not {doing.text}: still under way after "
                f"{LONGEST / 60:.0f} min; run it again, it goes on from there"
            )
        time.sleep(seconds)

    def _failed(self, error: Any, state: str, doing: Doing) -> UserError:
        reason = self._token.hidden(reason_of({"error": error} if error else None, state))
        return UserError(self.site.explain(0, reason, doing))

    def _place(self, url: str) -> tuple[str, dict[str, str]]:
        """Path and parameters of a URL that Azure named; the token goes to no other host."""
        parts, own = urlsplit(url), urlsplit(self.site.url)
        if parts.hostname and parts.hostname != own.hostname:
            raise UserError(
                f"{self.site.name}: sends on to {parts.hostname}, expected {own.hostname}"
            )
        return parts.path, dict(parse_qsl(parts.query))

    def _allowed(self, answer: requests.Response, doing: Doing) -> requests.Response:
        if answer.ok and answer.status_code < 300:
            return answer
        try:
            said = answer.json()
        except ValueError:
            said = None
        reason = reason_of(said, f"{answer.status_code} {answer.reason}")
        reason = self._token.hidden(reason)
        line = self.site.explain(answer.status_code, reason, doing)
        raise Denied(line, answer.status_code, reason)


def reason_of(said: Any, otherwise: str) -> str:
    """The innermost words of an error as Azure writes it: `{"error": {"code", "message", …}}`."""
    error = said.get("error") if isinstance(said, dict) else None
    while isinstance(error, dict):
        details = [one for one in error.get("details") or [] if isinstance(one, dict)]
        otherwise = ": ".join(str(error[k]) for k in ("code", "message") if error.get(k))
        error = details[0] if details else None
    return " ".join(otherwise.split())[: faults.MOST_REASON]


def token(scope: str) -> Token:
    """A token of whoever runs this, as azure-identity finds it: CI's federation, `az login`, …"""
    from azure.core.exceptions import ClientAuthenticationError

    # What each way of signing in lacked, over a page.
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)
    try:
        return Token("azure-identity", signed_in().get_token(scope).token)
    except ClientAuthenticationError as error:
        reason = " ".join(str(error.message).split())[: faults.MOST_REASON]
        raise UserError(
            "azure-identity: found nobody signed in, expected `az login`, or AZURE_CLIENT_ID and "
            f"what goes with it ({reason})"
        ) from None


@cache
def signed_in() -> DefaultAzureCredential:
    """Whoever runs this; keeps tokens, and fetches new ones when they expire."""
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()


def _pause(answer: requests.Response) -> float:
    asked = answer.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else PAUSE


def _state(found: Any) -> str:
    return str((found.get("properties") or {}).get("provisioningState") or ENDED[0]).lower()


def _is_ended(found: Any) -> bool:
    return _state(found) in ENDED
