"""What the forge that runs here knows: pull requests, comments, statuses, whoever made them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from itertools import count
from typing import Any

OWNER, NAME, PROJECT = "acme", "flights", "Machine Learning"
ROBOT, PERSON = "github-actions[bot]", "maria"
PERMISSIONS = ("pull-requests", "statuses")


@dataclass
class Comment:
    id: int
    pull: int
    author: str
    body: str
    deleted: bool = False


@dataclass
class Pull:
    """`owner` is another's for one from a fork; `state` is open, merged or closed."""

    number: int
    owner: str
    branch: str
    base: str
    title: str
    body: str
    author: str
    state: str = "open"


@dataclass(frozen=True)
class Status:
    commit: str
    state: str
    context: str
    text: str
    url: str | None


@dataclass(frozen=True)
class Call:
    """A request as a route sees it."""

    who: str
    query: dict[str, str]
    body: Any
    headers: Any


class Answer(Exception):
    """What a request ends with; a string is HTML."""

    def __init__(self, status: int, content: Any = None, **headers: str) -> None:
        self.status, self.content = status, content
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass
class State:
    """Everything there is, and what a person or a test does with it."""

    url: str = ""
    pulls: list[Pull] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    # What the tokens may do; whether workflows may open pull requests; whether it was renamed.
    permissions: set[str] = field(default_factory=lambda: set(PERMISSIONS))
    may_open: bool = True
    moved: bool = False
    lock: Any = field(default_factory=threading.RLock)
    _pulls: count[int] = field(default_factory=lambda: count(1))
    _comments: count[int] = field(default_factory=lambda: count(1001))

    def open(
        self,
        branch: str,
        base: str = "main",
        title: str = "",
        body: str = "",
        owner: str = OWNER,
        author: str = PERSON,
    ) -> Pull:
        """Open a pull request."""
        with self.lock:
            pull = Pull(next(self._pulls), owner, branch, base, title, body, author)
            self.pulls.append(pull)
            return pull

    def close(self, number: int, state: str = "merged") -> Pull:
        """Merge or close a pull request; the branch is the caller's affair."""
        with self.lock:
            pull = self.pull(number)
            pull.state = state
            return pull

    def write(self, pull: int, body: str, author: str = PERSON) -> Comment:
        """Comment on a pull request."""
        with self.lock:
            comment = Comment(next(self._comments), pull, author, body)
            self.comments.append(comment)
            return comment

    def on(self, pull: int) -> list[Comment]:
        """What stands on a pull request now, the oldest first."""
        return [item for item in self.comments if item.pull == pull and not item.deleted]

    def pull(self, number: int) -> Pull:
        """A pull request by its number; an Answer that it isn't there."""
        for pull in self.pulls:
            if pull.number == number:
                return pull
        raise Answer(404, {"message": "Not Found"})

    def comment(self, number: int) -> Comment:
        """A comment that stands; an Answer that it doesn't."""
        for comment in self.comments:
            if comment.id == number and not comment.deleted:
                return comment
        raise Answer(404, {"message": "Not Found"})

    def has(self, branch: str, base: str) -> bool:
        """Whether this branch has an open pull request into that one."""
        wanted = (OWNER, branch, base, "open")
        return wanted in [(pull.owner, pull.branch, pull.base, pull.state) for pull in self.pulls]

    def may(self, permission: str) -> None:
        """Raises PermissionError where the tokens have no such permission."""
        if permission not in self.permissions:
            raise PermissionError(permission)
