"""One comment per key on a pull request, recognised by a hidden first line and by its author."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Protocol

from mlops.base.http import RequestRefused, retry_ambiguous_create

# Characters reserved for closing what a cut leaves open.
CLOSING = 200


@dataclass(frozen=True)
class Comment:
    """A comment; `path` is its address within the forge's API."""

    path: str
    body: str
    url: str


class Comments(Protocol):
    """The comments on one pull request."""

    def own(self) -> list[Comment]:
        """Those that this token's owner wrote, the oldest first."""
        ...

    def create(self, body: str) -> Comment: ...

    def update(self, comment: Comment, body: str) -> None: ...

    def delete(self, comment: Comment) -> None: ...


def upsert(comments: Comments, body: str, key: str, longest: int) -> str:
    """Create the comment of that key, or update it; its URL.

    Two runs that look at the same time each create one. Both then look again, keep the older and
    delete the other, which only they can have written: its author and its marker are theirs.
    """
    marker = f"<!-- mlops:{key} -->"
    text = cut(f"{marker}\n\n{body}", longest)

    def look() -> list[Comment]:
        return [comment for comment in comments.own() if _first_line(comment.body) == marker]

    kept, *others = retry_ambiguous_create(look, lambda: comments.create(text))
    if kept.body != text:
        comments.update(kept, text)
    for other in others:
        _delete(comments, other)
        print(f"deleted {other.url}: {kept.url} is the same comment, and older", file=sys.stderr)
    return kept.url


def cut(text: str, longest: int) -> str:
    """The text, or as many of its lines as fit into `longest` characters with a note of the cut."""
    length = _length(text)
    if length <= longest:
        return text
    note = f"\n\n*Cut here: {length:,} characters, and the forge takes {longest:,}.*\n"
    room = longest - len(note) - CLOSING
    kept = text.encode("utf-16-le")[: 2 * room].decode("utf-16-le", "ignore")
    end = kept.rfind("\n")
    # At the end of a line, unless the last one is most of it.
    return _closed(kept[:end] if end > len(kept) // 2 else kept) + note


def _delete(comments: Comments, comment: Comment) -> None:
    try:
        comments.delete(comment)
    except RequestRefused as refused:
        # Another run has deleted it already.
        if refused.status != 404:
            raise


def _length(text: str) -> int:
    """The length as Azure DevOps counts, an emoji as two; GitHub counts no more than that."""
    return len(text.encode("utf-16-le")) // 2


def _closed(text: str) -> str:
    """The text with an open code block and open details closed: they would hide what follows."""
    fences = sum(line.lstrip().startswith("```") for line in text.splitlines())
    block = "\n```" if fences % 2 else ""
    details = "\n\n</details>" * (text.count("<details") - text.count("</details>"))
    return text + block + details


def _first_line(body: str) -> str:
    return body.partition("\n")[0].strip()
