"""What every forge can do, and a dry run of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

# The status that a branch rule may require on a commit before it is merged.
GATE = "mlops/gate"
State = Literal["pending", "success", "failure"]


@dataclass(frozen=True)
class Merge:
    """A merged pull request: when it was opened and merged, and who approved it."""

    opened: datetime
    merged: datetime
    approved_by: tuple[str, ...]


class Forge(Protocol):
    """Every call may be repeated: it leaves one comment, one pull request, one status.

    Each raises UserError, in one line, for what the forge refuses or does not answer.
    """

    def comment(self, pull_request: int, body: str, key: str) -> str:
        """Create this project's one comment of that key, or update it; its URL.

        Recognised by a hidden first line and by its author, so that nobody else's is changed.
        """

    def pull_request(self, branch: str, base: str, title: str, body: str) -> str:
        """Open a branch's pull request into `base`, or update the open one; its URL."""

    def status(self, commit: str, state: State, context: str, text: str) -> None:
        """Set the status `context`, such as `mlops/gate`, of a commit."""

    def number(self, head: str | None) -> int | None:
        """The open pull request of OWNER:BRANCH, the oldest of several; of this run without."""

    def files(self, pull_request: int) -> dict[str, str]:
        """The files that a pull request changes, each with its content's id; "" for an old name.

        None of them where the forge can't say.
        """
        return {}

    def content(self, blob: str) -> str:
        """The text of a content's id."""
        return ""

    def merged(self, commit: str) -> Merge | None:
        """The pull request whose merge made a commit of the main branch."""
        return None


@dataclass(frozen=True)
class DryRun(Forge):
    """Prints what would be sent to a forge, and why it isn't."""

    reason: str
    current_pull_request: int | None = None

    def comment(self, pull_request: int, body: str, key: str) -> str:
        return self._print(f"comment {key!r} on pull request {pull_request}", body)

    def pull_request(self, branch: str, base: str, title: str, body: str) -> str:
        sent = self._print(f"pull request {branch} -> {base}: {title}", body)
        by_hand = f"git switch {base} && git fetch && git merge origin/{branch} && git push"
        return f"{sent}; by hand, after a review: {by_hand}"

    def status(self, commit: str, state: State, context: str, text: str) -> None:
        self._print(f"status {context} of {commit[:12]}: {state}, {text}")

    def number(self, head: str | None) -> int | None:
        return self.current_pull_request

    def _print(self, request: str, body: str = "") -> str:
        print(f"dry run; {self.reason}", f"would send: {request}", *body.splitlines(), sep="\n    ")
        return "dry run, nothing sent"
