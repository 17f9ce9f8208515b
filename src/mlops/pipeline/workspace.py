"""This folder's outputs: written by one process at a time, and no file of a user's is removed."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from mlops.base import files
from mlops.base.errors import UserError
from mlops.contract.paths import BUNDLE, EVIDENCE, FEATURES, RAW, SEARCH, WRITERS

LOCK = Path(".run/training.lock")
# The workspace whose lock a process holds: the stages that it starts need none of their own.
LOCKED = "MLOPS_LOCKED_WORKSPACE"
CURVES = "roc|precision_recall|calibration"
PLOTS = f"({CURVES})_curve|(score|residual)_histogram|confusion_matrix|predicted_vs_actual"
# The files that each stage writes, by their names in its output.
WRITTEN = {
    RAW: r"result\.json|[^/]+/(all|\d{4}-\d{2})\.parquet",
    FEATURES: r"result\.json|(training|holdout)\.parquet",
    SEARCH: r"(result|trials)\.json",
    BUNDLE: r"bundle\.json|model\.onnx|reference\.parquet",
    EVIDENCE: r"(result|metrics)\.json|holdout\.parquet|report\.html|"
    rf"plots/({PLOTS}|slices|importance|search)\.csv",
}


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Lock the workspace; raises UserError where another process writes the same outputs."""
    from filelock import FileLock, Timeout

    path = root / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            os.environ[LOCKED] = str(root.resolve())
            try:
                yield
            finally:
                os.environ.pop(LOCKED, None)
    except Timeout:
        raise UserError(
            f"{path}: another training runs in this folder; wait for it to end, or stop it"
        ) from None


@contextmanager
def begun(root: Path, stages: Collection[str]) -> Iterator[None]:
    """Lock the workspace, unless what started this process has, and check the stages' outputs."""
    locked = os.environ.get(LOCKED) == str(root.resolve())
    with nullcontext() if locked else alone(root):
        require_own(root, stages)
        yield


def require_own(root: Path, stages: Collection[str]) -> None:
    """Raise UserError for a file that somebody has put into the output of one of these stages."""
    for output, stage in WRITERS.items():
        for path in files.foreign(root / output, WRITTEN[output]) if stage in stages else ():
            if not _is_cached(root, path):
                cure = ", such as raw/, and set data.location to that" if output == RAW else ""
                raise UserError(
                    f"{path}: found a file that {stage} did not write and would remove; "
                    f"move it to another folder{cure}"
                )


def clean(root: Path) -> None:
    """Remove what the stages wrote."""
    for output, written in WRITTEN.items():
        for path, name in files.files_in(root / output):
            if re.fullmatch(written, name):
                path.unlink()


def _is_cached(root: Path, path: Path) -> bool:
    """Whether DVC could restore the file's content, as it can what an earlier version wrote."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo
    from dvc_data.hashfile.hash import file_md5

    try:
        with Repo(str(root)) as repo:
            return path.exists() and bool(repo.cache.local.exists(file_md5(str(path))))
    except NotDvcRepoError:
        return False
