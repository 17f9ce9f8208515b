"""What forges with a REST API share: one comment per key, one pull request for two branches."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, ClassVar

from mlops.base.http import Client, Operation, RequestRefused, retry_ambiguous_create
from mlops.forge.protocol import Forge

# Characters reserved for closing what a cut leaves open.
CLOSING = 200
REDIRECT, OTHER = 300, 0


@dataclass(frozen=True)
class Comment:
    """A comment; `path` is its address within the forge's API."""

    path: str
    body: str
    url: str


@dataclass(frozen=True)
class RestForge(Forge, ABC):
    """A repository, at the path `root` of a forge's API.

    `run_url` is the page of this CI run, `page` that of pull requests where the API names none.
    """

    client: Client = field(repr=False)
    current_pull_request: int | None
    run_url: str | None
    root: str
    page: str = ""
    # Characters of a comment, and of a pull request's text.
    longest_comment: ClassVar[int]
    longest_text: ClassVar[int]
    # Keys of the API: a comment's text; a pull request's number, text, branches (after `ref`).
    comment_key: ClassVar[str]
    number_key: ClassVar[str]
    text_key: ClassVar[str]
    source_key: ClassVar[str]
    target_key: ClassVar[str]
    ref: ClassVar[str] = ""
    # The path of pull requests, and what the API says where there is one already.
    pulls: ClassVar[str]
    exists: ClassVar[str]
    # What it takes to write and to read comments and pull requests.
    permission: ClassVar[str]
    read_permission: ClassVar[str]

    def comment(self, pull_request: int, body: str, key: str) -> str:
        """Create the comment of that key, or update it; its URL.

        Two runs that look at the same time each create one. Both then look again, keep the older
        and delete the other, which is theirs too, and say so on stderr.
        """
        operation = Operation(f"comment on pull request {pull_request}", self.permission)
        marker = f"<!-- mlops:{key} -->"
        text = cut(f"{marker}\n\n{body}", self.longest_comment)

        def look() -> list[Comment]:
            comments = self._own_comments(pull_request, operation)
            return [item for item in comments if item.body.partition("\n")[0].strip() == marker]

        kept, *others = retry_ambiguous_create(
            look, lambda: self._create_comment(pull_request, text, operation)
        )
        if kept.body != text:
            self.client.send("PATCH", kept.path, operation, json={self.comment_key: text})
        for other in others:
            self._delete(other, operation)
            print(f"deleted {other.url}: {kept.url} is the same comment, and older",
                  file=sys.stderr)  # fmt: skip
        return kept.url

    def pull_request(self, branch: str, base: str, title: str, body: str) -> str:
        operation = Operation(f"open a pull request from {branch} into {base}", self.permission)
        path, content = f"{self.root}/{self.pulls}", {"title": title}
        content[self.text_key] = cut(body, self.longest_text)
        age = itemgetter(self.number_key)
        branches = {self.source_key: self.ref + branch, self.target_key: self.ref + base}
        pull, *_ = retry_ambiguous_create(
            lambda: sorted(self._open_pulls(branch, operation, base), key=age),
            lambda: self.client.create(path, operation, content | branches, self.exists),
        )
        # Azure DevOps lists the beginning of a long text, which differs from the whole.
        if any(pull.get(key) != value for key, value in content.items()):
            self.client.send("PATCH", f"{path}/{pull[self.number_key]}", operation, json=content)
        return str(pull.get("html_url") or f"{self.page}/{pull[self.number_key]}")

    def number(self, head: str | None) -> int | None:
        if head is None:
            return self.current_pull_request
        operation = Operation(f"look for the pull request of {head}", self.read_permission)
        pulls = self._open_pulls(head, operation)
        return min((int(pull[self.number_key]) for pull in pulls), default=None)

    def _delete(self, comment: Comment, operation: Operation) -> None:
        try:
            self.client.send("DELETE", comment.path, operation)
        except RequestRefused as refused:
            # Another run has deleted it already.
            if refused.status != 404:
                raise

    @abstractmethod
    def _own_comments(self, pull_request: int, operation: Operation) -> list[Comment]:
        """The comments that this token's owner wrote, the oldest first.

        Others' are left out: a stranger could change one after it was taken for ours.
        """

    @abstractmethod
    def _create_comment(self, pull_request: int, text: str, operation: Operation) -> Comment:
        """Create a comment with `Client.create`."""

    @abstractmethod
    def _open_pulls(self, head: str, operation: Operation, base: str | None = None) -> list[Any]:
        """The open pull requests of OWNER:BRANCH or BRANCH."""


def explanation(lines: Mapping[int, str], **names: str) -> Callable[[int, str, Operation], str]:
    """The user's line of a refused request, from a template for each status."""

    def explain(status: int, reason: str, operation: Operation) -> str:
        line = lines.get(REDIRECT if 300 <= status < 400 else status, lines[OTHER])
        what, permission = operation.description, operation.permission
        return line.format(what=what, permission=permission, reason=reason, **names)

    return explain


def cut(text: str, longest: int) -> str:
    """The text, or as many of its lines as fit into `longest` characters with a note of the cut."""
    # As Azure DevOps counts, an emoji as two; GitHub counts no more than that.
    encoded = text.encode("utf-16-le")
    length = len(encoded) // 2
    if length <= longest:
        return text
    note = f"\n\n*Cut here: {length:,} characters, and the forge takes {longest:,}.*\n"
    room = longest - len(note) - CLOSING
    kept = encoded[: 2 * room].decode("utf-16-le", "ignore")
    end = kept.rfind("\n")
    # At the end of a line, unless the last one is most of it.
    kept = kept[:end] if end > len(kept) // 2 else kept
    # An open code block and open details would hide what follows.
    fences = sum(line.lstrip().startswith("```") for line in kept.splitlines())
    details = "\n\n</details>" * (kept.count("<details") - kept.count("</details>"))
    return kept + ("\n```" if fences % 2 else "") + details + note
