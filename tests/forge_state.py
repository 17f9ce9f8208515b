"""The state behind both APIs of the forge server: pull requests, comments, statuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from tests.mlops.deploy import cloud
from tests.mlops.deploy.cloud import Answer

__all__ = ["Answer"]

T = TypeVar("T")
OWNER, NAME, PROJECT = "acme", "flights", "Machine Learning"
ROBOT, PERSON = "github-actions[bot]", "maria"
OPENED, MERGED = "2026-03-01T10:00:00", "2026-03-02T11:30:00"
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
    # What it changes: a name, or both names of a file that was renamed.
    files: list[tuple[str, ...]] = field(default_factory=list)

    # The commit that its merge made, and who reviewed it how: APPROVED, COMMENTED, …
    commit: str = ""
    reviews: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Status:
    commit: str
    state: str
    context: str
    text: str
    url: str | None


@dataclass(frozen=True)
class Call(cloud.Call):
    """A request as a route sees it, and its sender."""

    who: str


@dataclass
class State:
    """All of a forge's content, and what a person or a test does with it."""

    url: str = ""
    pulls: list[Pull] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    # What files have in the pull request that was opened last.
    contents: dict[str, bytes] = field(default_factory=dict)
    # Of the tokens; whether workflows may open pull requests; whether it was renamed.
    permissions: set[str] = field(default_factory=lambda: set(PERMISSIONS))
    may_open: bool = True
    moved: bool = False
    _pulls: count[int] = field(default_factory=lambda: count(1))
    _comments: count[int] = field(default_factory=lambda: count(1001))

    def open(
        self, branch: str, base: str = "main", title: str = "", body: str = "",
        owner: str = OWNER, author: str = PERSON,
    ) -> Pull:  # fmt: skip
        """Open a pull request."""
        pull = Pull(next(self._pulls), owner, branch, base, title, body, author)
        self.pulls.append(pull)
        return pull

    def close(self, number: int, state: str = "merged", commit: str = "") -> Pull:
        """Merge or close a pull request; the branch is left to the caller."""
        pull = self.pull(number)
        pull.state, pull.commit = state, commit
        return pull

    def write(self, pull: int, body: str, author: str = PERSON) -> Comment:
        """Comment on a pull request."""
        comment = Comment(next(self._comments), pull, author, body)
        self.comments.append(comment)
        return comment

    def on(self, pull: int) -> list[Comment]:
        """The comments on a pull request, the oldest first."""
        return [item for item in self.comments if item.pull == pull and not item.deleted]

    def pull(self, number: int) -> Pull:
        """A pull request by its number. Raises Answer when it does not exist."""
        return _only([pull for pull in self.pulls if pull.number == number])

    def comment(self, number: int) -> Comment:
        """A comment by its number. Raises Answer when it does not exist."""
        return _only([one for one in self.comments if one.id == number and not one.deleted])

    def has(self, branch: str, base: str) -> bool:
        """Whether this branch has an open pull request into that one."""
        wanted = (OWNER, branch, base, "open")
        return wanted in [(pull.owner, pull.branch, pull.base, pull.state) for pull in self.pulls]

    def may(self, permission: str) -> None:
        """Raise PermissionError where the tokens have no such permission."""
        if permission not in self.permissions:
            raise PermissionError(permission)


def _only(items: list[T]) -> T:
    if not items:
        raise Answer(404, {"message": "Not Found"})
    return items[0]
