"""A stage ends with one line and the exit code that fits."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mlops.base.errors import Refused, UserError
from mlops.contract.result import Result
from mlops.data import ingest
from mlops.data.params import Params
from mlops.pipeline import stage


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("params.yaml: seed: missing"), 2, "error: params.yaml: seed: missing"),
        (Refused("AUC 0.6, expected 0.7"), 1, "error: AUC 0.6, expected 0.7"),
        (KeyboardInterrupt(), 130, "interrupted; earlier outputs are untouched"),
        (FileNotFoundError(errno.ENOENT, "No such file", "data/raw/x.parquet"), 2,
         "error: data/raw/x.parquet: not found; ingest writes it"),
        (FileNotFoundError(errno.ENOENT, "No such file", "notes.txt"), 2,
         "error: notes.txt: not found"),
        (PermissionError(errno.EACCES, "Permission denied", "data/raw"), 2,
         "error: data/raw: Permission denied"),
        (OSError(errno.ENOSPC, "Arrow's own\nwords"), 2,
         "error: writing: No space left on device"),
        (OSError("two\nlines"), 2, "error: writing: two lines"),
        (MemoryError("Unable to allocate 7 GiB"), 2,
         "error: not enough memory: Unable to allocate 7 GiB"),
        (RuntimeError("std::bad_alloc"), 2, "error: not enough memory: std::bad_alloc"),
    ],
)  # fmt: skip
def test_what_the_user_can_mend_is_one_line(capsys, error, code, line):
    assert stage.guarded(raising(error)) == code
    assert capsys.readouterr().err == f"{line}\n"


def test_a_bug_shows_where_it_is_and_success_prints_nothing(capsys):
    assert stage.guarded(raising(ZeroDivisionError("here"))) == 70
    assert "Traceback" in capsys.readouterr().err
    assert stage.guarded(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


class Counted(Result):
    rows: int


def test_a_result_reads_back_and_one_of_another_kind_is_refused_in_one_line(tmp_path):
    Counted(rows=3).save(tmp_path)
    assert Counted.load(tmp_path) == Counted(rows=3)
    (tmp_path / "result.json").write_text('{"rows": "many"}')
    with pytest.raises(UserError, match="rows") as error:
        Counted.load(tmp_path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("asked", "said"), [((), ""), (("-W", "default"), "PySocks")])
def test_what_libraries_warn_of_is_said_only_to_who_asks(asked, said):
    program = (
        "from mlops.pipeline import stage\n"
        "def command():\n"
        "    try: import urllib3.contrib.socks\n"
        "    except ImportError: pass\n"
        "stage.guarded(command)"
    )
    done = subprocess.run(
        [sys.executable, *asked, "-c", program], capture_output=True, text=True, check=True
    )
    assert said in done.stderr if said else not done.stderr


CHILD = """
import os, time
from mlops.pipeline import stage
stage.guarded(lambda: (print(os.getpid(), flush=True), time.sleep(120)))
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


# As one whose parent is killed while it imports its libraries.
LATE = """
import os, time
parent = os.getppid()
print(os.getpid(), flush=True)
while os.getppid() == parent: time.sleep(0.01)
from mlops.pipeline import stage
stage.guarded(lambda: time.sleep(120))
"""


@pytest.mark.parametrize("child", [CHILD, LATE])
def test_what_dvc_starts_ends_with_the_dvc_that_is_killed(child):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, child], env={**os.environ, "DVC_STAGE": "fingerprint"},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    _, alive = psutil.wait_procs([child], timeout=30)
    assert alive == []


@pytest.mark.slow
def test_an_input_that_changed_while_the_stage_ran_refuses_its_record(
    repository, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(repository("trips", tmp_path / "trips").root)
    params = Path("params.yaml")

    def run(settings, root):
        result = ingest.run(settings, root)
        params.write_text(params.read_text().replace("2023-03-31", "2023-02-28"))
        return result

    with pytest.raises(SystemExit, match="2"):
        stage.main("ingest", run, Params)
    line = "error: ingest: params.yaml: data changed while the stage ran; run again\n"
    assert capfd.readouterr().err == line
