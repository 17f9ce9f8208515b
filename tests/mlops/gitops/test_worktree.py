"""A second working tree has the project where the repository has it, with this one's stores."""

import os
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo

from mlops.base import processes
from mlops.forge import branches, git
from mlops.gitops.worktree import worktree
from tests.conftest import PROJECTS


@pytest.fixture
def project(tmp_path):
    """A project in a sub-folder of a larger repository."""
    folder = tmp_path / "repository" / "models" / "churn [1]"
    folder.mkdir(parents=True)
    git.git(tmp_path / "repository", "init", "--quiet", "--initial-branch=main")
    Repo.init(str(folder), subdir=True).close()
    shutil.copy(PROJECTS / "params.yaml", folder)
    (folder / ".gitignore").write_text("/.run/\n/mlruns/\n/csv\n")
    git.git(folder, "add", ".")
    git.git(folder, "commit", "--quiet", "--message", "start", env=branches.IDENTITY)
    return folder


def test_a_project_in_a_sub_folder_has_its_tree_there_with_what_git_ignores(project):
    (project / "csv").mkdir()
    for _ in range(2):
        with worktree(project, "retrain") as tree:
            assert tree.path == project / ".run/retrain/tree/models/churn [1]"
            assert (tree.path / "params.yaml").exists()
            cache = Repo(str(project)).cache.local_cache_dir
            assert Repo(str(tree.path)).cache.local_cache_dir == cache
            assert (tree.path / "csv").samefile(project / "csv")


def test_a_tree_that_is_broken_is_made_anew(project):
    def made():
        with worktree(project, "retrain") as tree:
            assert (tree.path / "params.yaml").exists()
            return git.top(tree.path) / ".git"

    before = git.git(project, "status", "--porcelain")
    made().write_text("gitdir: nowhere\n")
    made().unlink()
    made()
    assert git.git(project, "status", "--porcelain") == before


def test_a_command_that_fails_there_ends_this_one_with_its_code(project, monkeypatch):
    monkeypatch.setenv("GIT_DIR", os.devnull)
    with worktree(project, "retrain") as tree:
        assert Path(tree.python("folder", "-c", "import os; print(os.getcwd())")) == tree.path
        for code, expected in ((1, 1), (-9, 137)):
            end = f"import os, sys; os.kill(os.getpid(), {-code}) if {code} < 0 else sys.exit(1)"
            with pytest.raises(processes.CommandFailed) as failed:
                tree.python("a command", "-c", end)
            assert failed.value.exit_code == expected
