"""Outputs are whole or not there, whatever interrupts them; digests name nothing but content."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.base import files

NAMES = st.text("abcxyz0189", min_size=1, max_size=8)
CONTENTS = st.dictionaries(NAMES, st.binary(max_size=40), max_size=6)


def write(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def half_written(folder, error):
    (folder / "result").write_text("half")
    raise error


@pytest.fixture
def output(tmp_path):
    """An output that an earlier run left."""
    return write(tmp_path / "output", {"result": b"earlier"})


def test_a_block_that_ends_well_replaces_the_whole_folder(output):
    with files.whole_folder(output) as folder:
        (folder / "other").write_text("new")
    assert left_in(output) == ["other"]
    assert left_in(output.parent) == ["output"]


def test_the_output_does_not_change_before_the_block_ends(output):
    with files.whole_folder(output) as folder:
        (folder / "result").write_text("half")
        assert (output / "result").read_text() == "earlier"


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_leaves_the_output_and_nothing_else(output, error):
    with pytest.raises(error), files.whole_folder(output) as folder:
        half_written(folder, error)
    assert (output / "result").read_text() == "earlier"
    assert left_in(output.parent) == ["output"]


def test_a_stop_between_the_two_renames_puts_the_output_back(output, monkeypatch):
    rename = Path.rename

    def stopped(path, target):
        if not path.name.endswith("-old") and Path(target) == output:
            os.kill(os.getpid(), signal.SIGTERM)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(SystemExit), files.whole_folder(output) as folder:
        (folder / "result").write_text("new")
    assert (output / "result").read_text() == "earlier"
    assert left_in(output.parent) == ["output"]


def test_the_first_output_makes_its_parents_and_can_be_read_by_all(tmp_path):
    with files.whole_folder(tmp_path / "a" / "b"):
        pass
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755


WRITER = """
import sys, time
from pathlib import Path
from mlops.base.files import whole_folder
with whole_folder(Path(sys.argv[1])) as folder:
    (folder / "result").write_text("half")
    print("writing", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def writer(output: Path, seconds: float) -> subprocess.Popen[str]:
    """Another process, in the middle of writing the same output."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(output), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_process_ended_while_it_writes_leaves_the_earlier_output(output, number):
    process = writer(output, 60)
    process.send_signal(number)
    assert process.wait(10) != 0
    assert (output / "result").read_text() == "earlier"


def test_what_a_killed_run_left_is_swept_by_the_next(output):
    process = writer(output, 60)
    process.kill()
    process.wait(10)
    assert len(left_in(output.parent)) == 2
    with files.whole_folder(output):
        pass
    assert left_in(output.parent) == ["output"]


def test_of_two_writers_one_waits_and_both_end_well(output):
    process = writer(output, 0.5)
    start = time.monotonic()
    with files.whole_folder(output) as folder:
        (folder / "result").write_text("second")
    assert time.monotonic() - start > 0.2
    assert process.wait(10) == 0
    assert (output / "result").read_text() == "second"
    assert left_in(output.parent) == ["output"]


@given(CONTENTS)
@settings(max_examples=25, deadline=None)
def test_the_order_in_which_files_are_made_is_not_in_the_digest(tmp_path_factory, content):
    base = tmp_path_factory.mktemp("digest")
    backwards = dict(reversed(content.items()))
    first, second = write(base / "a", content), write(base / "b", backwards)
    assert files.folder_digest(first) == files.folder_digest(second)


@given(CONTENTS.filter(bool), st.data())
@settings(max_examples=25, deadline=None)
def test_any_changed_byte_changes_the_digest(tmp_path_factory, content, data):
    base = tmp_path_factory.mktemp("digest")
    name = data.draw(st.sampled_from(sorted(content)))
    other = data.draw(st.binary(max_size=40).filter(lambda new: new != content[name]))
    first, second = write(base / "a", content), write(base / "b", {**content, name: other})
    assert files.folder_digest(first) != files.folder_digest(second)


def test_a_renamed_file_changes_the_digest(tmp_path):
    first, second = write(tmp_path / "a", {"x": b"1"}), write(tmp_path / "b", {"y": b"1"})
    assert files.folder_digest(first) != files.folder_digest(second)


def test_equal_content_is_equal_json_whatever_the_order_of_keys(tmp_path):
    files.write_json(tmp_path / "a", {"x": 1, "y": [2]})
    files.write_json(tmp_path / "b", {"y": [2], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_json_takes_no_nan_which_other_readers_would_refuse(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a", {"x": float("nan")})
