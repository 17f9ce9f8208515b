"""A folder that takes whole files alone, as a volume of Unity Catalog does, is a remote of DVC's.

Databricks' machines see a volume as a folder below `/Volumes`, through FUSE, where files are
written once from start to end: nothing is appended, changed in place, linked, locked or given
other rights.
"""

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

from mlops.registry import publish

REFUSED = {"os.link": errno.EXDEV, "os.symlink": errno.ENOTSUP, "os.chmod": errno.EPERM,
           "os.truncate": errno.ENOTSUP, "fcntl.flock": errno.ENOTSUP,
           "fcntl.lockf": errno.ENOTSUP}  # fmt: skip
_volumes: list[str] = []
_hooked: list[bool] = []


def _refuse(event, arguments):
    """Fail what a volume would: Python tells audit hooks of it before it is done."""
    if not _volumes or not (event in REFUSED or event == "open"):
        return
    inside = [one for one in arguments if isinstance(one, (str, os.PathLike))
              and any(os.fspath(one).startswith(volume) for volume in _volumes)]  # fmt: skip
    if not inside:
        return
    changes = event == "open" and (arguments[2] & os.O_APPEND or (
        arguments[2] & os.O_RDWR and not arguments[2] & os.O_TRUNC))  # fmt: skip
    if event in REFUSED or changes:
        raise OSError(REFUSED.get(event, errno.ENOTSUP), f"a volume: {event}", inside[0])


@pytest.fixture
def volume(tmp_path):
    if not _hooked:
        sys.addaudithook(_refuse)
        _hooked.append(True)
    folder = tmp_path / "Volumes/catalog/schema/store"
    folder.mkdir(parents=True)
    _volumes.append(str(folder))
    yield folder
    _volumes.clear()


def test_the_folder_refuses_what_a_volume_does(volume):
    file = volume / "file"
    file.write_text("whole")
    for refused in (
        lambda: file.open("a"), lambda: file.open("r+"), lambda: file.chmod(0o444),
        lambda: os.link(file, volume / "another"),
    ):  # fmt: skip
        with pytest.raises(OSError, match="a volume"):
            refused()


def test_a_remote_of_dvc_s_gives_back_what_was_published(volume, dvc_repository, monkeypatch):
    from dvc.repo import Repo

    repo = dvc_repository(str(volume))
    root = Path(repo.root_dir)
    monkeypatch.chdir(root)
    (root / "made").mkdir()
    for number in range(3):
        (root / "made" / str(number)).write_text(f"row {number}")
    repo.add("made")
    assert publish.run(root).startswith("4 files pushed")
    shutil.rmtree(root / "made")
    shutil.rmtree(root / ".dvc/cache")
    with Repo(str(root)) as again:
        again.pull()
    assert (root / "made/2").read_text() == "row 2"
