"""Retrain: move `data.until` forward on a branch, train there, judge, and propose what is good.

All of it happens in a working tree of its own, at main's tip and with main's code: nothing that a
person has checked out or changed is touched.
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

from mlops.base import documents, processes
from mlops.base.errors import REFUSED, Refused, UserError
from mlops.base.files import folder_digest
from mlops.contract import bundle
from mlops.contract.params import FILE as PARAMETERS
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.contract.stages import RECORD
from mlops.forge import git
from mlops.forge.protocol import Forge
from mlops.gitops import proposal, report, verdict
from mlops.gitops.proposal import Proposal
from mlops.gitops.worktree import MLOPS, Worktree, worktree

BRANCH = "retrain/data"


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
        page = self.tree.path / report.FILE
        return Proposal(
            branch=BRANCH,
            parent=self.tree.commit,
            files={name: (self.tree.path / name).read_bytes() for name in (PARAMETERS, RECORD)},
            title=f"Retrain on data until {self.until}",
            why=f"Why: {self.because}.",
            report=page.read_text(encoding="utf-8") if page.exists() else "",
            surpassed_by=lambda commit: _until(self.root, commit) > self.until,
        )


def run(root: Path, until: dt.date | None, because: str, forge: Forge) -> str:
    """Retrain on data until a day, or the source's newest; the outcome in a line.

    Raises Refused when the gate refuses: nothing is proposed then. Raises UserError when the
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
    with worktree(root, "retrain") as tree:
        current = _until(root, tree.commit)
        newest = until or tree.python("newest day", "-m", "mlops.data.newest_day")
        day = dt.date.fromisoformat(str(newest))
        if day <= current:
            source = "asked for" if until else "the source has"
            yield f"nothing newer: main has data until {current}, {source} {day}"
            return
        file = tree.path / PARAMETERS
        # Bytes: line ends stay as they are.
        file.write_bytes(with_until(file.read_bytes().decode(), day).encode())
        yield Attempt(root, tree, day, because)


def train(attempt: Attempt) -> None:
    """The training flow up to the evidence, then everything to DVC's remote where there is one."""
    attempt.tree.python("training", "-m", "flows", "training", "--no-register", shown=True)
    attempt.tree.python("publish", *MLOPS, "publish")


def judge(attempt: Attempt) -> None:
    """Run the gate, and write the report that the pull request will show; raises Refused."""
    tree, made = attempt.tree, proposal.commit(attempt.root, attempt.proposal)
    # The report says which commit to check out to repeat it.
    git.git(tree.path, "checkout", "--quiet", "--force", "--detach", made)
    if not _is_judged(tree):
        # Whatever happens to the gate, an older verdict must not be taken for its own.
        shutil.rmtree(tree.path / verdict.FOLDER, ignore_errors=True)
        try:
            tree.python("gate", *MLOPS, "gate", "--base", tree.commit)
        except processes.CommandFailed as failed:
            if failed.exit_code != REFUSED:
                raise
    tree.python("report", *MLOPS, "report")
    result = verdict.load(tree.path)
    if not result.accepted:
        raise Refused(f"data until {attempt.until}: {result.line}")


def propose(attempt: Attempt, forge: Forge) -> str:
    """Push the judged commit to its one branch, and open or update its one pull request."""
    made = git.commit(attempt.tree.path, "HEAD")
    return proposal.propose(attempt.root, attempt.proposal, forge, made)


def with_until(text: str, day: dt.date) -> str:
    """The text of `params.yaml` with another `data.until`; every other byte stays."""
    node: Any = yaml.compose(text)
    for name in ("data", "until"):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        values = [value for key, value in pairs if key.value == name]
        if not values:
            raise UserError(f"{PARAMETERS}: data.until: missing; expected a value")
        node = values[0]
    return f'{text[: node.start_mark.index]}"{day}"{text[node.end_mark.index :]}'


def _is_judged(tree: Worktree) -> bool:
    """Whether the gate has accepted these very bytes on this very base, before a push failed."""
    try:
        last = verdict.load(tree.path)
    except UserError:
        return False
    digest, evidence = bundle.digest(tree.path / BUNDLE), folder_digest(tree.path / EVIDENCE)
    judged = (last.candidate, last.evidence, last.base)
    return last.accepted and judged == (digest, evidence, tree.commit)


def _until(root: Path, commit: str) -> dt.date:
    """The last day of the data at a commit; the earliest date where it can't be read."""
    try:
        text = git.show(root, commit, PARAMETERS) or ""
        return dt.date.fromisoformat(documents.parse(text, str(PARAMETERS))["data"]["until"])
    except (UserError, KeyError, TypeError, ValueError):
        return dt.date.min
