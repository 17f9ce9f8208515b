"""Publish: what was trained here, and how to make it again, to DVC's default remote."""

from __future__ import annotations

from pathlib import Path

from mlops.base.errors import UserError, one_line
from mlops.pipeline import remotes

NO_REMOTE = (
    "no DVC remote is configured: what was trained stays in this machine's cache, and a release "
    "keeps its bundle on the Git branch `bundles`; "
    "`dvc remote add --default NAME URL` lets colleagues and CI restore it instead of training"
)


def run(root: Path) -> str:
    """Push every output and the run cache; the outcome in a line.

    Raises UserError when the remote can't be reached or written to, or when a file of dvc.lock is
    neither there nor here.
    """
    from dvc.repo import Repo, lock_repo

    remotes.begin_log()
    repo = Repo(str(root))
    remote = remotes.default(repo)
    if not remote:
        return NO_REMOTE
    try:
        remotes.require_answer(repo, remote)
        with lock_repo(repo):
            # DVC saves its list of files to push while it makes it, and takes an unfinished list
            # of a killed push for a complete one: the files missing in it would never be pushed.
            repo.drop_data_index()
            pushed = repo.push(run_cache=True)
        failure = remotes.not_copied()
    except Exception as error:
        failure = remotes.not_copied() or one_line(error)
    if failure:
        raise UserError(f"DVC remote {remote!r}: {failure}")
    return f"{pushed} files pushed to DVC's remote {remote!r}"
