"""The base's gate: what it says of a branch that changes its own judge.

A branch is judged by its own code. Where that differs from the base's, reviewers need to know what
the base's would have said: its `src/mlops` and its `gate:` judge the same bundle, with the branch's
project.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from mlops.base import documents, processes
from mlops.base.errors import one_line
from mlops.contract import params
from mlops.forge import git
from mlops.gitops import judges, pins
from mlops.gitops.verdict import Verdict

MACHINERY = Path("src/mlops")


def changed(root: Path, base: str) -> list[str]:
    """What judges a branch and differs from the base: files, manifests above their pin, sections.

    Files are named from the repository's top.
    """
    found = judges.changed(root, base)
    above = [f"{git.prefix(root)}{name}" for name in pins.rewritten(root, base)]
    found += [name for name in above if name not in found]
    before, after = git.show(root, base, params.FILE), (root / params.FILE).read_text()
    return found + judges.sections(before or "", after)


def verdict(root: Path, base: str) -> str:
    """The line of the base's gate on the bundle here, or why it could not judge it."""
    commit = git.commit(root, base)
    with tempfile.TemporaryDirectory(prefix="base-gate-") as place:
        archive = Path(place) / "archive.tar"
        try:
            git.git(root, "archive", f"--output={archive}", commit, str(MACHINERY))
            with tarfile.open(archive) as files:
                files.extractall(place, filter="data")
            path = os.pathsep.join([f"{place}/src", str(root.resolve() / "src")])
            command = [sys.executable, "-m", "mlops.gitops.gate", commit]
            environment = {**os.environ, "PYTHONPATH": path}
            answer = processes.run(
                command, "the base's gate", cwd=root, capture_output=True, env=environment
            )
            return Verdict.model_validate_json(answer.strip().splitlines()[-1]).line
        # It informs the reviewers, and decides nothing.
        except Exception as error:
            return f"could not judge: {one_line(error)}"


def settings(root: Path, commit: str) -> dict[str, Any]:
    """The parameters' section `gate` at a commit."""
    text = git.show(root, commit, params.FILE) or ""
    return dict(documents.parse(text, str(params.FILE)).get("gate") or {})
