"""Everything that was made here is pushed to the remote, even after a killed attempt."""

import shutil

import pytest

from mlops.base.errors import UserError
from mlops.registry import publish


@pytest.fixture
def repo(dvc_repository, tmp_path, monkeypatch):
    """A repository with two folders, and a remote beside it."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    made = dvc_repository(str(tmp_path / "store"))
    monkeypatch.chdir(made.root_dir)
    for name in ("data", "models"):
        folder = tmp_path / "repository" / name
        folder.mkdir()
        (folder / "file").write_text(name)
        made.add([name])
    return made


def test_after_a_push_killed_while_listing_files_the_next_one_pushes_all(
    repo, tmp_path, monkeypatch
):
    from dvc_data.index import collect

    real, calls = collect._collect_from_index, []

    def killed_at_the_second(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(collect, "_collect_from_index", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            publish.run(repo.root_dir)
    publish.run(repo.root_dir)
    pushed = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(pushed) == 4


def test_files_in_the_remote_are_not_pushed_again(repo):
    assert publish.run(repo.root_dir) == "4 files pushed to DVC's remote 'store'"
    assert publish.run(repo.root_dir) == "0 files pushed to DVC's remote 'store'"


def test_a_file_that_does_not_reach_the_remote_fails_with_dvcs_reason(repo, tmp_path):
    """As on a disk that is full, or here, where one folder of the store is on one that is away."""
    (tmp_path / "store/files/md5").mkdir(parents=True)
    (tmp_path / "store/files/md5/8d").symlink_to("/proc/away")
    with pytest.raises(UserError, match=r"^DVC remote 'store': \[Errno 2\] .*store/files/md5/8d"):
        publish.run(repo.root_dir)


def test_a_file_that_is_neither_here_nor_in_the_remote_fails(repo):
    shutil.rmtree(f"{repo.cache.local.path}/8d")
    with pytest.raises(UserError, match=r"^DVC remote 'store': .*Missing cache files: .*8d777f"):
        publish.run(repo.root_dir)
