"""A pull request of the machine's own: one commit on one branch, opened once and then updated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops.forge import git
from mlops.forge.protocol import GATE, Forge

ATTEMPTS = 3


@dataclass(frozen=True)
class Proposal:
    """Files on top of a commit, and the words that go with them.

    `why` is in the commit and in the pull request, `report` in the pull request alone. Whether a
    commit that the branch holds already proposes more than this one, `surpassed_by` says.
    """

    branch: str
    parent: str
    files: Mapping[Path, bytes]
    title: str
    why: str
    report: str = ""
    surpassed_by: Callable[[str], bool] = lambda there: False

    @property
    def message(self) -> str:
        """The commit's message."""
        return f"{self.title}\n\n{self.why}\n"

    @property
    def body(self) -> str:
        """The pull request's text."""
        return "\n\n".join(part for part in (self.why, self.report) if part).rstrip() + "\n"


def commit(root: Path, proposal: Proposal) -> str:
    """The commit that a proposal is: the one that its branch holds already, else a new one."""
    there = git.remote_head(root, proposal.branch) if git.has_remote(root) else ""
    if there and _is_same(root, there, proposal):
        return there
    return git.write(root, proposal.parent, proposal.files, proposal.message)


def propose(root: Path, proposal: Proposal, forge: Forge, made: str = "") -> str:
    """Put the commit on its branch and open or update its pull request; what came of it.

    Of two that propose at once, the one made from the later commit stays. `made` is what `commit`
    gave, where it was asked before. Without a remote the branch is made here. Raises GitError when
    the push is not allowed.
    """
    made = made or commit(root, proposal)
    if not git.has_remote(root):
        git.git(root, "branch", "--force", proposal.branch, made)
        return f"{proposal.title}: on branch {proposal.branch}; no remote to push it to"
    pushed = _pushed(root, proposal, made)
    if pushed is None:
        return f"{proposal.title}: not proposed, {proposal.branch} holds a later one"
    forge.status(pushed, "success", GATE, "judged before it was proposed")
    main = git.main_branch(root)
    place = forge.pull_request(proposal.branch, main, proposal.title, proposal.body)
    return f"{proposal.title}: branch {proposal.branch} pushed; pull request: {place}"


def withdraw(root: Path, branch: str, forge: Forge) -> None:
    """Mark what a branch still proposes as overtaken, where it does: it must not be merged."""
    there = git.remote_head(root, branch) if git.has_remote(root) else ""
    if there:
        forge.status(there, "failure", GATE, "overtaken: main makes what is pinned already")


def _pushed(root: Path, proposal: Proposal, made: str) -> str | None:
    """The commit that the branch holds in the end; None when that is a later proposal."""
    for left in reversed(range(ATTEMPTS)):
        there = git.remote_head(root, proposal.branch)
        if there and _is_newer(root, there, proposal):
            return None
        if there and _is_same(root, there, proposal):
            return there
        try:
            git.push(root, made, proposal.branch, there)
            return made
        except git.GitError:
            # Moved in between: look again. Not moved: it was not allowed.
            if not left or git.remote_head(root, proposal.branch) == there:
                raise
    raise AssertionError("unreachable")


def _is_same(root: Path, there: str, proposal: Proposal) -> bool:
    """Whether the branch holds this very proposal, on this very commit."""
    parent = git.commit(root, f"{there}^")
    return parent == proposal.parent and all(
        (git.show(root, there, file) or "").encode() == content
        for file, content in proposal.files.items()
    )


def _is_newer(root: Path, there: str, proposal: Proposal) -> bool:
    parent = git.commit(root, f"{there}^")
    later = parent != proposal.parent and git.is_ancestor(root, proposal.parent, parent)
    return later or proposal.surpassed_by(there)
