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


def complaint(package, name, text):
    """What loading a project's file says, without the folder."""
    (package / f"{name}.py").write_text(text)
    with pytest.raises(UserError) as error:
        getattr(project, name)("unfinished")
    return str(error.value).removeprefix(f"{package}/")


FEATURES = {
    "KEY": "id", "DAY": "day", "TARGET": "y", "FEATURES": {"x": "m", "kind": "category"},
    "SLICES": ("kind",), "BASELINE": "x",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"KEY": None}, "KEY: found nothing, expected text"),
        ({"FEATURES": ["x"]}, "FEATURES: found ['x'], expected a valid dictionary"),
        ({"DAY": "id"}, "DAY: found 'id', which is KEY already"),
        ({"FEATURES": {"x": "m", "y": "leak"}},
         "FEATURES: found 'y', which is TARGET; expected inputs that are known when the model is "
         "asked"),
        ({"FEATURES": {"x": "m", "z z": "m"}},
         "FEATURES: found column 'z z', expected letters, digits and underscores"),
        ({"FEATURES": {"x": "m", "probability_1": "m"}},
         "found column 'probability_1', a name of the model's own; expected another"),
        ({"OPTIONAL": ("kinds",)},
         "OPTIONAL: found 'kinds', expected one of FEATURES; did you mean 'kind'?"),
        ({"RETIRED": ("kind",)}, "RETIRED: found 'kind', which is one of FEATURES still"),
        ({"CLASSES": ("yes",)}, "CLASSES: found ('yes',), expected two or more, each once"),
        ({"GROUP": "home"}, "GROUP: found 'home', expected none where there is a DAY"),
    ],
)  # fmt: skip
def test_a_role_that_could_not_be_trained_on_is_refused_at_loading(package, changes, line):
    text = "\n".join(f"{name} = {value!r}" for name, value in {**FEATURES, **changes}.items())
    assert complaint(package, "features", f"{text}\nfeatures = dict") == f"features.py: {line}"


def test_roles_are_read_as_they_are_declared(package):
    declared = {**FEATURES, "DAY": None, "GROUP": "home", "CLASSES": [False, True]}
    text = "\n".join(f"{name} = {value!r}" for name, value in declared.items())
    (package / "features.py").write_text(f"{text}\nfeatures = dict")
    spec = project.features("unfinished")
    assert (spec.day, spec.group, spec.order, spec.classes) == (None, "home", ["id"], ("0", "1"))
    assert spec.columns == ["id", "y", "x", "kind", "home"]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("models", "SPACE = {'a': {}}", "models.py: TASK: missing; expected a value"),
        ("models", "TASK = 'binary'; FIRST = [{'family': 'linear'}]",
         "models.py: FIRST: found candidates, expected a SPACE for them too"),
        ("models", "TASK = 'binry'; SPACE = {'a': {}}; FIRST = []",
         "models.py: TASK: found 'binry', expected 'binary', 'multiclass' or 'regression'"
         "; did you mean 'binary'?"),
        ("models", "TASK = 'binary'\nSPACE = {", "models.py:2: SyntaxError: '{' was never closed"),
        ("features", "raise SystemExit(3)", "features.py:1: SystemExit: 3"),
        ("features", "\nratio = 1 / 0", "features.py:2: ZeroDivisionError: division by zero"),
        ("tables", "TABLES = []",
         "tables.py: TABLES: found [], expected a Pandera model for each table's name"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_named_with_file_and_line(package, name, text, line):
    assert complaint(package, name, text) == line


def test_an_installed_package_is_no_project():
    with pytest.raises(UserError, match="found 'pandera', which is the name of an installed"):
        project.features("pandera")


def test_a_forgotten_project_is_read_again(package):
    (package / "models.py").write_text("TASK = 'binary'\nSPACE = {'linear': {}}\nFIRST = []\n")
    assert project.models("unfinished").task == "binary"
    (package / "models.py").write_text("TASK = 'regression'\nSPACE = {'linear': {}}\nFIRST = []\n")
    project.forget("unfinished")
    importlib.invalidate_caches()
    assert project.models("unfinished").task == "regression"
    assert "unfinished.models" in sys.modules
