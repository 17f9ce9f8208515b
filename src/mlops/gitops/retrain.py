"""Retrain: move `data.until` forward on a branch, train there, judge, and propose what is good.

All of it happens in a working tree of its own, at main's tip and with main's code: whoever asks,
a person in the middle of something else or a schedule, finds nothing of theirs changed.
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlops.base.errors import REFUSED, Refused, UserError
from mlops.base.files import folder_digest
from mlops.contract import bundle
from mlops.contract.params import FILE as PARAMETERS
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.forge import git
from mlops.forge.protocol import Forge
from mlops.gitops import proposal, report, verdict
from mlops.gitops.pin import LOCK
from mlops.gitops.proposal import Proposal
from mlops.gitops.verdict import Verdict
from mlops.gitops.worktree import MLOPS, Ended, Worktree, worktree

BRANCH = "retrain/data"
NAME = "retrain"


@dataclass(frozen=True)
class Attempt:
    """A retraining under way in `tree`, on main's tip, with data up to `until`."""

    root: Path
    tree: Worktree
    until: dt.date
    because: str

    @property
    def proposal(self) -> Proposal:
        """What would be proposed, as far as the tree has it."""
        folder = self.tree.path
        page = folder / verdict.FOLDER / report.FILE
        return Proposal(
            branch=BRANCH,
            parent=self.tree.commit,
            files={name: (folder / name).read_bytes() for name in (PARAMETERS, LOCK)},
            title=f"Retrain on data until {self.until}",
            why=f"Why: {self.because}.",
            report=page.read_text(encoding="utf-8") if page.exists() else "",
            surpassed_by=lambda there: _until(self.root, there) > self.until,
        )


def run(root: Path, until: dt.date | None, because: str, forge: Forge) -> str:
    """Retrain on data until a day, the newest that the source has; what came of it, in a line.

    Raises Refused when the gate says no: nothing is proposed then. Raises UserError when the
    training, a store, the push or the forge fails: the next run goes on where this one ended.
    """
    with begun(root, until, because) as attempt:
        if isinstance(attempt, str):
            return attempt
        train(attempt)
        judge(attempt)
        return propose(attempt, forge)


@contextmanager
def begun(root: Path, until: dt.date | None, because: str) -> Iterator[Attempt | str]:
    """A retraining with its parameters set; or a line where main has those days already."""
    with worktree(root, NAME) as tree:
        known = _until(root, tree.commit)
        day = until or newest(tree)
        if day <= known:
            source = "asked for" if until else "the source has"
            yield f"nothing newer: main has data until {known}, {source} {day}"
            return
        file = tree.path / PARAMETERS
        file.write_text(with_until(file.read_text(), day))
        yield Attempt(root, tree, day, because)


def newest(tree: Worktree) -> dt.date:
    """The newest complete day of the source that the tree's parameters name."""
    return dt.date.fromisoformat(tree.said("newest day", "-m", "mlops.data.sources.days"))


def train(attempt: Attempt) -> None:
    """The training flow up to the evidence, then everything to DVC's remote where there is one."""
    attempt.tree.watched("training", "-m", "flows", "training", "--no-register")
    attempt.tree.said("publish", *MLOPS, "publish")


def judge(attempt: Attempt) -> Verdict:
    """Ask the gate, and write the report that the pull request will show; raises Refused."""
    tree, made = attempt.tree, proposal.commit(attempt.root, attempt.proposal)
    # The report says which commit to check out to repeat it.
    git.git(tree.path, "checkout", "--quiet", "--force", "--detach", made)
    if not _is_judged(attempt):
        # Whatever happens to the gate, an older verdict must not be taken for its own.
        shutil.rmtree(tree.path / verdict.FOLDER, ignore_errors=True)
        try:
            tree.said("gate", *MLOPS, "gate", "--base", tree.commit)
        except Ended as ended:
            if ended.exit_code != REFUSED:
                raise
    tree.said("report", *MLOPS, "report")
    said = verdict.load(tree.path)
    if not said.accepted:
        raise Refused(f"data until {attempt.until}: {said.line}")
    return said


def propose(attempt: Attempt, forge: Forge) -> str:
    """Push the judged commit to its one branch, and open or update its one pull request."""
    made = git.commit(attempt.tree.path, "HEAD")
    return proposal.propose(attempt.root, attempt.proposal, forge, made)


def with_until(text: str, day: dt.date) -> str:
    """The text of `params.yaml` with another `data.until`; every other byte stays."""
    value: Any = yaml.compose(text)
    for name in ("data", "until"):
        pairs = value.value if isinstance(value, yaml.MappingNode) else []
        found = [inner for key, inner in pairs if key.value == name]
        if not found:
            raise UserError(f"{PARAMETERS}: data.until: missing; expected a value")
        value = found[0]
    return f'{text[: value.start_mark.index]}"{day}"{text[value.end_mark.index :]}'


def _is_judged(attempt: Attempt) -> bool:
    """Whether the gate has accepted these very bytes on this very base, before a push failed."""
    folder = attempt.tree.path
    try:
        said = verdict.load(folder)
    except UserError:
        return False
    here = (bundle.digest(folder / BUNDLE), folder_digest(folder / EVIDENCE), attempt.tree.commit)
    return said.accepted and (said.candidate, said.evidence, said.base) == here


def _until(root: Path, commit: str) -> dt.date:
    """The last day known at a commit; none at all where it can't be read."""
    try:
        text = git.show(root, commit, PARAMETERS) or ""
        return dt.date.fromisoformat(yaml.safe_load(text)["data"]["until"])
    except (KeyError, TypeError, ValueError, yaml.YAMLError):
        return dt.date.min
