"""The Markdown that GitHub and Azure DevOps both render: tables, and folds."""

from __future__ import annotations

from collections.abc import Sequence

Row = tuple[str, ...]


def folded(title: str, content: str) -> str:
    """Content behind a title that opens on a click."""
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"


def table(head: Row, rows: Sequence[Row]) -> str:
    """A table with its heads; a bar or a line break stays in its cell."""
    lines = [" | ".join(line) for line in (head, ["---"] * len(head))]
    lines += [" | ".join(c.replace("|", "\\|").replace("\n", " ") for c in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)
