"""The repository as a team's own: another project, schedule, target; one forge's files deleted."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECTS, REPOSITORY, Workspace, make_repository
from tests.repository_copy import copied, rewrite, run

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1800)]
PROJECT = "cellar"
TEST = """\
from cellar.tables import csv


def test_every_wine_has_a_grower() -> None:
    assert csv()["wines"]["grower"].notna().all()
"""


@pytest.fixture(scope="module")
def replaced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository, replaced as the README tells a user to replace it."""
    base = tmp_path_factory.mktemp("replaced")
    root = base / "repository"
    copied(root)
    if (REPOSITORY / ".mypy_cache").is_dir():
        # Mypy goes by content: what it knows of the same files here need not be found anew.
        shutil.copytree(REPOSITORY / ".mypy_cache", root / ".mypy_cache")
    for folder in ("src/flights", "tests/flights", ".azure"):
        shutil.rmtree(root / folder)
    for name in ("azure-pipelines.yml", "dvc.lock"):
        (root / name).unlink(missing_ok=True)
    wine = make_repository("wine", base / "wine")
    shutil.copytree(wine.root / "csv", root / "csv")
    shutil.copy(wine.root / "params.yaml", root)
    Workspace(root, base).change({"project": PROJECT, "model": "a-cellars-wine"})
    shutil.copytree(PROJECTS / "wine", root / "src" / PROJECT)
    (root / "tests" / PROJECT).mkdir()
    (root / "tests" / PROJECT / "test_tables.py").write_text(TEST)
    rewrite(root / "prefect.yaml", r'cron: ".*?"', 'cron: "17 3 * * 6"')
    for manifest in (root / "environments").glob("*.yaml"):
        rewrite(manifest, r"^target: .*", "target: kubernetes")
        rewrite(manifest, r"^endpoint: .*", "endpoint: cellar")
    for words in (("init", "-q"), ("add", "--all")):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


def test_every_test_can_be_collected(replaced: Path) -> None:
    run(replaced, sys.executable, "-m", "pytest", "--collect-only", "--numprocesses=0")


@pytest.mark.parametrize("target", ["lint", "check"])
def test_the_lane_passes(replaced: Path, target: str) -> None:
    # The environment is this one's: `setup` must not make it anew.
    run(replaced, "make", "--old-file=setup", target)


def test_the_tests_of_the_repository_s_own_files_pass(replaced: Path) -> None:
    """The others are of `src/mlops` and of projects of their own."""
    marked = ("-m", "not slow and not nightly", "--ignore=tests/mlops")
    run(replaced, sys.executable, "-m", "pytest", *marked)
