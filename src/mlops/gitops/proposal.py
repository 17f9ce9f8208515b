"""A pull request of the bot's own: one commit on one branch, opened once and then updated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlops.contract.stages import RECORD
from mlops.deploy import manifest
from mlops.forge import branches, git
from mlops.forge.protocol import GATE, Forge
from mlops.gitops import signing
from mlops.gitops.pins import manifest_at
from mlops.registry.pin import Pin


@dataclass(frozen=True)
class Proposal:
    """Files on top of a commit, with title and text.

    `why` is in the commit and in the pull request, `report` in the pull request alone. An earlier
    commit of the same files is proposed as it is, unless it lacks the `reason`.
    `surpassed_by` says whether a commit that the branch holds already proposes more.
    """

    branch: str
    parent: str
    files: Mapping[Path, bytes]
    title: str
    why: str
    report: str = ""
    reason: str = ""
    surpassed_by: Callable[[str], bool] = lambda commit: False


def commit(root: Path, proposal: Proposal) -> str:
    """The proposal's commit: the one that its branch holds already, else a new one."""
    head = branches.head(root, proposal.branch)
    if head and _is_same(root, head, proposal):
        return head
    message = f"{proposal.title}\n\n{proposal.why}\n"
    return branches.write(root, proposal.parent, proposal.files, message)


def propose(root: Path, proposal: Proposal, forge: Forge, made: str = "") -> str:
    """Push the commit to its branch and open or update its pull request; the outcome in a line.

    Of two that propose at once, the one made from the later commit stays. `made` is the result
    of `commit`, where that was called before. Without a remote the branch is made here. Raises
    GitError when the push is not allowed.
    """
    made, title, branch = made or commit(root, proposal), proposal.title, proposal.branch
    if not git.remote(root):
        git.git(root, "branch", "--force", branch, made)
        by_hand = f"review it, then `git merge {branch}`"
        return f"{title}: on branch {branch}; no remote to push it to; {by_hand}"
    pushed = branches.update(root, branch, partial(_onto, root, proposal, made))
    if pushed is None:
        return f"{title}: not proposed, {branch} holds a later one"
    forge.status(pushed, "success", GATE, "judged before it was proposed")
    # The branch may hold an earlier commit with these files: the text is of what will be merged.
    why = git.git(root, "log", "-1", "--format=%b", pushed).strip()
    body = f"{why}\n\n{proposal.report}".rstrip() + "\n"
    url = forge.pull_request(branch, git.main_branch(root), title, body)
    return f"{title}: branch {branch} pushed; pull request: {url}"


def withdraw(root: Path, branch: str, forge: Forge) -> None:
    """Mark what a branch still proposes as overtaken, where it does: it must not be merged."""
    head = branches.head(root, branch)
    if head:
        forge.status(head, "failure", GATE, "overtaken: main makes what is pinned already")


def _onto(root: Path, proposal: Proposal, made: str, head: str) -> str | None:
    """What the branch shall hold instead of `head`; None when that is a later proposal."""
    if head and _is_later(root, head, proposal):
        return None
    return head if head and _is_same(root, head, proposal) else made


def _is_same(root: Path, head: str, proposal: Proposal) -> bool:
    """Whether the branch holds this very proposal, on this very commit."""
    if proposal.reason not in git.git(root, "log", "-1", "--format=%B", head):
        return False
    return git.commit(root, f"{head}^") == proposal.parent and all(
        (git.show(root, head, file) or "").encode() == content
        for file, content in proposal.files.items()
    )


def _is_later(root: Path, head: str, proposal: Proposal) -> bool:
    parent = git.commit(root, f"{head}^")
    later = parent != proposal.parent and git.is_ancestor(root, proposal.parent, parent)
    return later or proposal.surpassed_by(head)


def repin(
    root: Path, parent: str, environment: str, pin: Pin, verb: str, why: str, lock: bytes = b"",
    trailers: Sequence[str] = (),
) -> Proposal:  # fmt: skip
    """The manifest at a commit with another pin; with it the lock, if given, and a signature.

    `trailers` end the commit's message. Raises Refused where the manifest's signer has not signed
    the pinned bundle.
    """
    before, text = manifest_at(root, parent, environment)
    signing.require(root, pin.digest, before.signer)
    was = f"before it {before.pin.digest[:12]}" if before.pin else "the first"
    files = {manifest.path(environment): manifest.with_pin(text, pin).encode()}
    signature = signing.file(pin.digest)
    if (root / signature).exists():
        files[signature] = (root / signature).read_bytes()
    what = "Release to" if verb == "release" else verb.capitalize()
    made_by = {
        "bundle": pin.digest, "model": f"{pin.model} version {pin.version}",
        "commit": pin.commit, "data": pin.data, "run": pin.run,
    }  # fmt: skip
    return Proposal(
        branch=f"{verb}/{environment}",
        parent=parent,
        files=files | ({RECORD: lock} if lock else {}),
        title=f"{what} {environment}: {pin.short}, {was}",
        why="\n".join(
            [why, "", *(f"- {name}: {value}" for name, value in made_by.items()), "", *trailers]
        ).rstrip(),
    )
