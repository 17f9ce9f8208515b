"""The verdict on a pull request: its one comment, and the status of its commit.

CI runs this with main's code, apart from the code that was judged.
"""

from __future__ import annotations

import re
from pathlib import Path

from mlops.base.errors import UserError, listed
from mlops.forge.protocol import GATE, DryRun, State
from mlops.forge.select import current_forge
from mlops.gitops.base_gate import JUDGES

KEY = "verdict"
# Files that decide what is judged, and how: `params.yaml` has the section `gate`.
DECIDING = (*JUDGES, "environments/", "params.yaml")
SHOWN = 20
# GitHub lists no more of a pull request.
MOST_FILES = 3000


def post(file: Path, head: str | None) -> str:
    """Create or update the comment on the pull request of `head`, or of this CI run; its URL.

    It begins with the files that decide about the verdict, as the forge lists them, since the
    branch's own code wrote the rest. Raises UserError when there is no such file, or no open pull
    request.
    """
    try:
        body = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(f"{file}: not found; `mlops report` writes it") from None
    forge = current_forge()
    number = forge.number(head)
    if number is None and isinstance(forge, DryRun):
        return f"no forge here; the comment is {file}"
    if number is None:
        raise UserError(f"pull request: none open for {head or 'this run'}")
    deciding = [name for name in forge.files(number) if name.startswith(DECIDING)]
    return forge.comment(number, _warning(deciding) + body, KEY)


def mark(commit: str, state: State, fork: str | None = None) -> None:
    """Set the gate's status of a commit, for rules that require it before a merge.

    A pull request of `fork`, as OWNER:BRANCH, that changes its own judge is never marked as
    accepted: its verdict is a stranger's. A maintainer pushes it to a branch of this repository.
    """
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise UserError(f"COMMIT: found {commit!r}, expected 40 hexadecimal digits")
    forge, text = current_forge(), "accepted" if state == "success" else "refused, or not judged"
    number = forge.number(fork) if fork else None
    files = forge.files(number) if number else []
    judges = [name for name in files if name.startswith(JUDGES)]
    reason = ""
    if judges:
        reason = f"a fork that changes its own judge: {judges[0]}"
    elif fork and (number is None or len(files) >= MOST_FILES):
        reason = f"no open pull request of {fork} with fewer than {MOST_FILES} files"
    if reason:
        state, text = "failure", reason
    forge.status(commit, state, GATE, text)


def _warning(files: list[str]) -> str:
    if not files:
        return ""
    names = listed([f"`{name}`" for name in files], SHOWN)
    return (
        f"> ⚠️ This pull request changes {names}: files that decide how it is judged. "
        "Read them first: their code wrote what follows.\n\n"
    )
