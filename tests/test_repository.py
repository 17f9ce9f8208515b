"""The house rules that no tool knows: who imports whom, what the lock holds, how long a file is."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlops.contract.stages import MODULES
from tests.conftest import PROJECTS

REPOSITORY = Path(__file__).parents[1]
# Two screens of code, and the words that explain it.
MOST_LINES = 300
HEAVY = {
    "dvc", "duckdb", "hyperopt", "lightgbm", "matplotlib", "mlflow", "onnx",
    "onnxruntime", "pandas", "pandera", "prefect", "pyarrow", "pyspark", "scipy", "sklearn",
    "sqlframe", "xgboost",
}  # fmt: skip
LOCKED = [
    r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,-]+\])?==[^\s/@:]+( ; [^/@:]+)? \\",
    r"    --hash=sha256:[0-9a-f]{64}( \\)?",
    r"    # via( \S+( \(pyproject\.toml(:\w+)?\))?)?",
    r"    #   \S+( \(pyproject\.toml(:\w+)?\))?",
]


def tracked(*patterns):
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return [REPOSITORY / name for name in listed.stdout.splitlines()]


def imports(path):
    """What a file imports, anywhere in it; `from a import b` counts as `a` and as `a.b`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def loaded_by(code):
    """The top-level packages in memory after the code ran in a fresh interpreter."""
    after = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{after}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_lock_holds_pins_and_hashes_and_no_address():
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    odd = [line for line in lines if not any(re.fullmatch(form, line) for form in LOCKED)]
    assert odd == []
    assert len(lines) > 1000


def test_every_pin_of_the_lock_has_a_hash():
    text = (REPOSITORY / "requirements.lock").read_text()
    pins = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert [pin.splitlines()[0] for pin in pins if "--hash=sha256:" not in pin] == []


def test_make_help_lists_every_target():
    text = (REPOSITORY / "Makefile").read_text()
    phony = next(line for line in text.splitlines() if line.startswith(".PHONY:"))
    targets = re.findall(r"^([a-z-]+):", text, flags=re.MULTILINE)
    said = subprocess.run(
        ["make", "--no-print-directory"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert sorted(line.split()[0] for line in said.splitlines()) == sorted(targets)
    assert sorted(phony.split()[1:]) == sorted(targets)


def test_help_is_there_at_once():
    helped = "from mlops.cli import main; main(['--help'], standalone_mode=False)"
    assert loaded_by(helped) & (HEAVY | {"numpy", "pydantic"}) == set()


@pytest.mark.parametrize("stage", MODULES)
def test_a_stage_is_imported_without_the_libraries_that_it_works_with(stage):
    assert loaded_by(f"import {MODULES[stage]}") & HEAVY == set()


def test_a_file_fits_on_two_screens():
    code = tracked("src/mlops/*.py", "flows/*.py", "benchmarks/*.py")
    long = {str(path): len(path.read_text().splitlines()) for path in code if path.exists()}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES} == {}
    assert len(long) > 40


def test_the_flows_know_no_model():
    kinds = {"mlflow", "numpy", "onnx", "onnxruntime", "pandas", "sklearn", "lightgbm", "xgboost"}
    known = {name.split(".")[0] for path in tracked("flows/*.py") for name in imports(path)}
    assert known & kinds == set()
    assert "prefect" in known


def test_the_pipeline_has_all_that_the_tests_own_copy_of_it_has():
    """The tests judge their copy, which must not fall behind; a project may add to its own."""
    own, tested = (
        yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
        for folder in (REPOSITORY, PROJECTS)
    )
    for name, stage in tested.items():
        assert own[name]["cmd"] == stage["cmd"], name
        for key in ("deps", "params", "outs"):
            assert set(stage[key]) <= set(own[name][key]), f"{name}: {key}"
