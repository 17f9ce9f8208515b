"""What is missing from a project is named with its file."""

import importlib
import sys

import pytest

from mlops.base.errors import UserError
from mlops.contract import project


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A project that lacks everything; files can be written into it."""
    folder = tmp_path / "unfinished"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    project.forget("unfinished")


def test_a_project_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"found 'tirps', .*; did you mean 'trips'\?"):
        project.tables("tirps")


@pytest.mark.parametrize("name", ["tables", "features", "models"])
def test_a_file_that_is_not_there_is_named(package, name):
    with pytest.raises(UserError, match=f"^unfinished/{name}.py: not found"):
        getattr(project, name)("unfinished")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("TASK = 'binary'; SPACE = {}", r"unfinished/models\.py: FIRST is missing"),
        ("TASK = 'ranking'; SPACE = {}; FIRST = []", "TASK: found 'ranking', expected one of"),
    ],
)
def test_a_constant_that_is_missing_or_unknown_is_named(package, text, said):
    (package / "models.py").write_text(text)
    with pytest.raises(UserError, match=said):
        project.models("unfinished")


def test_a_forgotten_project_is_read_again(package):
    (package / "models.py").write_text("TASK = 'binary'\nSPACE = {}\nFIRST = []\n")
    assert project.models("unfinished").task == "binary"
    (package / "models.py").write_text("TASK = 'regression'\nSPACE = {'linear': {}}\nFIRST = []\n")
    project.forget("unfinished")
    importlib.invalidate_caches()
    assert project.models("unfinished").task == "regression"
    assert "unfinished.models" in sys.modules
