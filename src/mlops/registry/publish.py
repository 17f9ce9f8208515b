"""Publish: what was trained here, and how to make it again, to DVC's default remote."""

from __future__ import annotations

import logging
from pathlib import Path

from mlops.base.errors import UserError, one_line
from mlops.pipeline import remotes

NO_REMOTE = (
    "no DVC remote is configured: what was trained stays in this machine's cache; "
    "`dvc remote add --default NAME URL` lets colleagues and CI restore it instead of training"
)


def run(root: Path) -> str:
    """Push every output and the run cache; the outcome in a line.

    Raises UserError when the remote can't be reached or does not let this machine write.
    """
    from dvc.repo import Repo, lock_repo

    # A failure becomes one line, below.
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    repo = Repo(str(root))
    remote = remotes.default(repo)
    if not remote:
        return NO_REMOTE
    try:
        remotes.require_answer(repo)
        with lock_repo(repo):
            # DVC saves its list of files to push while it makes it, and takes an unfinished list
            # of a killed push for a complete one: the files missing in it would never be pushed.
            repo.drop_data_index()
            pushed = repo.push(run_cache=True)
    except Exception as error:
        raise UserError(f"DVC remote {remote!r}: {one_line(error)}") from None
    return f"{pushed} files pushed to DVC's remote {remote!r}"
