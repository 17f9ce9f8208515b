"""The verdict on a pull request: its one comment, and the status of its commit.

CI runs this with main's code, apart from the code that was judged.
"""

from __future__ import annotations

import re
from pathlib import Path

from mlops.base.errors import UserError, listed
from mlops.contract.params import FILE as PARAMETERS
from mlops.deploy import manifest
from mlops.forge import git
from mlops.forge.protocol import GATE, DryRun, Forge, State
from mlops.forge.select import current_forge
from mlops.gitops import judges

KEY = "verdict"
SHOWN = 20
# GitHub lists no more of a pull request.
MOST_FILES = 3000


def post(root: Path, file: Path, head: str | None, key: str = KEY) -> str:
    """Create or update a comment on the pull request of `head`, or of this CI run; its URL.

    `key` says which of the project's comments. A verdict begins with what decides about it, as the
    forge tells it, since the branch's own code wrote the rest. Raises UserError when there is no
    such file, or no open pull request.
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
    if key == KEY:
        body = _warning(_deciding(root, forge, forge.files(number))) + body
    return forge.comment(number, body, key)


def mark(root: Path, commit: str, state: State, fork: str | None = None) -> None:
    """Set the gate's status of a commit, for rules that require it before a merge.

    A pull request of `fork`, as OWNER:BRANCH, that changes its own judge is never marked as
    accepted: its verdict is a stranger's. A maintainer pushes it to a branch of this repository.
    """
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise UserError(f"COMMIT: found {commit!r}, expected 40 hexadecimal digits")
    forge, text = current_forge(), "accepted" if state == "success" else "refused, or not judged"
    number = forge.number(fork) if fork else None
    files = forge.files(number) if number else {}
    deciding = _deciding(root, forge, files)
    reason = ""
    if deciding:
        reason = f"a fork that changes its own judge: {deciding[0]}"
    elif fork and (number is None or len(files) >= MOST_FILES):
        reason = f"no open pull request of {fork} with fewer than {MOST_FILES} files"
    if reason:
        state, text = "failure", reason
    forge.status(commit, state, GATE, text)


def _deciding(root: Path, forge: Forge, files: dict[str, str]) -> list[str]:
    """What a pull request changes of its judges, of manifests, and of sections that decide."""
    if not files:
        return []
    within = git.prefix(root)
    folder, parameters = f"{within}{manifest.FOLDER}/", f"{within}{PARAMETERS}"
    judging = judges.among(root, [*files])
    found = [name for name in files if name in judging or name.startswith(folder)]
    if parameters in files:
        blob = files[parameters]
        after = forge.content(blob) if blob else ""
        found += judges.sections((root / PARAMETERS).read_text(), after)
    return found


def _warning(deciding: list[str]) -> str:
    if not deciding:
        return ""
    names = listed([f"`{name}`" for name in deciding], SHOWN)
    return (
        f"> ⚠️ This pull request changes {names}, which decide how it is judged. "
        "Read that first: the branch's own code wrote what follows.\n\n"
    )
