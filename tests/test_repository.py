"""The house rules that no tool knows: what a lock holds, what is loaded, how long a file is."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlops.contract.stages import MODULES
from mlops.forge import branches, git
from tests.conftest import PROJECTS
from tests.repository_copy import listed

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
    r"    #[^:@]*(:\w+\))?",
]


def output(*command):
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout


def tracked(*patterns):
    return [REPOSITORY / name for name in listed(*patterns)]


def loaded_by(code):
    """The top-level packages in memory after the code ran in a fresh interpreter."""
    after = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    return set(output(sys.executable, "-c", f"{code}\n{after}").splitlines()[-1].split())


def test_a_lock_holds_pins_and_hashes_and_no_address():
    odd = [
        f"{path.name}: {line}"
        for path in tracked("*.lock")
        for line in path.read_text().splitlines()
        if path.name != "dvc.lock" and not any(re.fullmatch(form, line) for form in LOCKED)
    ]
    assert odd == []


def test_make_help_lists_every_target():
    text = (REPOSITORY / "Makefile").read_text()
    phony = next(line for line in text.splitlines() if line.startswith(".PHONY:"))
    targets = re.findall(r"^([a-z-]+):", text, flags=re.MULTILINE)
    said = output("make", "--no-print-directory")
    assert sorted(line.split()[0] for line in said.splitlines()) == sorted(targets)
    assert sorted(phony.split()[1:]) == sorted(targets)


def test_the_makefile_needs_no_program_or_option_that_macos_lacks():
    text = (REPOSITORY / "Makefile").read_text()
    assert re.findall(r"\bcolumn -|sed -E|p}|grep -P|readlink -f|\.ONESHELL|::=", text) == []


def test_what_a_shell_has_for_other_projects_does_not_reach_what_make_runs(monkeypatch):
    for name in ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONHOME"):
        monkeypatch.setenv(name, "/elsewhere")
    shown = "show: ; @echo $$PYTHONPATH $${PYTHONSAFEPATH-unset} $${PYTHONHOME-unset}"
    said = output("make", "--no-print-directory", f"--eval={shown}", "show")
    assert said == f"{REPOSITORY / 'src'} unset unset\n"


def test_a_clone_with_windows_line_ends_has_the_same_bytes(tmp_path):
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    for name in (".gitattributes", "Makefile", ".ci/run"):
        (origin / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, origin / name)
    git.git(origin, "init", "--quiet")
    git.git(origin, "add", ".")
    git.git(origin, "commit", "--quiet", "--message", "all", env=branches.IDENTITY)
    git.git(tmp_path, "-c", "core.autocrlf=true", "clone", "--quiet", str(origin), str(clone))
    for name in ("Makefile", ".ci/run"):
        assert (clone / name).read_bytes() == (REPOSITORY / name).read_bytes()


def test_help_is_there_at_once():
    helped = "from mlops.cli import main; main(['--help'], standalone_mode=False)"
    assert loaded_by(helped) & (HEAVY | {"numpy", "pydantic"}) == set()


def test_stages_are_imported_without_the_libraries_that_they_work_with():
    assert loaded_by(f"import {', '.join(MODULES.values())}") & HEAVY == set()


def test_a_file_fits_on_two_screens():
    code = tracked("src/mlops/*.py", "flows/*.py", "benchmarks/*.py")
    assert [path for path in code if len(path.read_text().splitlines()) > MOST_LINES] == []
    assert len(code) > 40


def test_the_pipeline_has_all_that_the_tests_own_copy_of_it_has():
    """The tests judge their copy, which must not fall behind; a project may add to its own."""
    own, tested = (
        yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
        for folder in (REPOSITORY, PROJECTS)
    )
    for name, stage in tested.items():
        assert own[name]["cmd"] == stage["cmd"], name
        for key in ("deps", "params", "outs"):
            lacking = [one for one in stage.get(key, ()) if one not in own[name].get(key, ())]
            assert lacking == [], f"{name}: {key}"


MADE = (
    "data/raw/result.json", "data/raw/trips/2023-01.parquet", "data/features/training.parquet",
    "data/fingerprint.json", "models/search/result.json", "models/bundle/model.onnx",
    "reports/result.json", "logs/stages.jsonl",
)  # fmt: skip
OWN = (
    "data/raw/mine.csv", "data/raw/backup/mine.csv", "data/raw/trips/mine.csv", "data/mine.csv",
    "models/notes.md", "raw/trips.csv",
)  # fmt: skip


# Without the result, ingest wrote none of these.
@pytest.mark.parametrize(("made", "own"), [(MADE, OWN), ((), ("data/raw/trips/mine.csv",))])
def test_make_clean_removes_what_the_pipeline_made_and_nothing_else(tmp_path, made, own):
    for name in (*made, *own):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    command = ["make", "--old-file=down", "--file", REPOSITORY / "Makefile", "clean"]
    subprocess.run(command, cwd=tmp_path, check=True)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(own)


def test_data_that_the_docs_name_is_ignored_by_git():
    names = ["raw/trips.csv", "scored/part.parquet", "scored.json"]
    assert output("git", "check-ignore", *names).split() == names


def test_what_git_ignores_is_not_sent_to_the_build_of_the_repository_s_image():
    lines = (REPOSITORY / ".gitignore").read_text().splitlines()
    ignored = [line.rstrip("/") for line in lines if line and not line.startswith("#")]
    # Docker's patterns begin at the context's root, those of Git do at a slash.
    patterns = {line.lstrip("/") if "/" in line else f"**/{line}" for line in ignored}
    sent = (REPOSITORY / "infra/local/Dockerfile.dockerignore").read_text().splitlines()
    assert patterns - set(sent) == set()


def test_every_row_of_what_happens_when_something_breaks_is_a_test():
    page = (REPOSITORY / "docs/faults.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    named = [row.split("`")[-2] for row in rows if row.endswith("` |")]
    code = "".join(path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert len(named) == len(set(named)) == len(rows) - 2 * page.count("\n## ") >= 40
    assert [name for name in named if f"def test_{name}(" not in code] == []
