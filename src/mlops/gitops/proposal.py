"""A pull request that changes a pin: one commit on one branch, opened once and then updated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops.gitops import git
from mlops.gitops.forge import GATE, Forge
from mlops.gitops.manifest import Pin

ATTEMPTS = 3


@dataclass(frozen=True)
class Proposal:
    """Files on top of a commit, the pin in them, and the words that go with it."""

    environment: str
    branch: str
    parent: str
    files: Mapping[Path, bytes]
    pin: Pin
    title: str
    why: str


def propose(root: Path, proposal: Proposal, forge: Forge) -> str:
    """Put the commit on its branch and open or update its pull request; what came of it.

    Of two that propose at once, the one made from the later commit stays. Without a remote the
    branch is made here. Raises GitError when the push is not allowed.
    """
    body = f"{proposal.why}\n\n{_facts(proposal.pin)}\n"
    message = f"{proposal.title}\n\n{body}"
    if not git.has_remote(root):
        commit = git.write(root, proposal.parent, proposal.files, message)
        git.git(root, "branch", "--force", proposal.branch, commit)
        return f"{proposal.title}: on branch {proposal.branch}; no remote to push it to"
    pushed = _pushed(root, proposal, message)
    if pushed is None:
        return f"{proposal.title}: not proposed, {proposal.branch} holds a later one"
    forge.status(pushed, "success", GATE, "judged before it was proposed")
    main = git.main_branch(root)
    place = forge.pull_request(proposal.branch, main, proposal.title, body)
    return f"{proposal.title}: branch {proposal.branch} pushed; pull request: {place}"


def withdraw(root: Path, branch: str, forge: Forge) -> None:
    """Mark what a branch still proposes as overtaken, where it does: it must not be merged."""
    there = git.remote_head(root, branch) if git.has_remote(root) else ""
    if there:
        forge.status(there, "failure", GATE, "overtaken: main makes what is pinned already")


def _pushed(root: Path, proposal: Proposal, message: str) -> str | None:
    """The commit that the branch holds in the end; None when that is a later proposal."""
    for left in reversed(range(ATTEMPTS)):
        there = git.remote_head(root, proposal.branch)
        if there and _is_newer(root, there, proposal):
            return None
        if there and _is_same(root, there, proposal):
            return there
        commit = git.write(root, proposal.parent, proposal.files, message)
        try:
            git.push(root, commit, proposal.branch, there)
            return commit
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
    return parent != proposal.parent and git.is_ancestor(root, proposal.parent, parent)


def _facts(pin: Pin) -> str:
    rows = {
        "bundle": pin.digest,
        "model": f"{pin.model} version {pin.version}",
        "commit": pin.commit,
        "data": pin.data,
        "run": pin.run,
    }
    return "\n".join(f"- {name}: {value}" for name, value in rows.items())
