"""Outputs are whole or not there, whatever interrupts them; digests name nothing but content."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.base import files
from mlops.base.errors import UserError
from tests import locks

CONTENTS = st.dictionaries(
    st.text("abcxyz0189", min_size=1, max_size=8), st.binary(max_size=40), min_size=1, max_size=6
)


def write(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def output(tmp_path):
    """An output that an earlier run left."""
    return write(tmp_path / "output", {"result": b"earlier"})


def test_a_block_that_ends_well_replaces_the_whole_folder(output):
    with files.whole_folder(output) as folder:
        (folder / "other").write_text("new")
        assert (output / "result").read_text() == "earlier"
    assert (left_in(output), left_in(output.parent)) == (["other"], ["output"])


def test_a_block_that_ends_well_replaces_a_file_and_its_mode(output):
    file = output / "result"
    with files.whole_file(file, 0o600) as partial:
        assert partial.stat().st_mode & 0o777 == 0o600
        partial.write_text("new")
        assert file.read_text() == "earlier"
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", 0o600)
    assert left_in(output) == ["result"]


@pytest.mark.parametrize("name", ["notes.txt", "plots/notes.txt", "result.bak"])
def test_a_folder_with_a_file_of_somebody_else_is_not_replaced(output, name):
    written = r"result|plots/\w+\.csv"
    (output / "plots").mkdir()
    (output / ".DS_Store").touch()
    with files.whole_folder(output, written) as folder:
        (folder / "plots").mkdir()
    (output / name).write_text("mine")
    line = f"{output / name}: found a file that is none of the results here and would be removed"
    with pytest.raises(UserError, match=re.escape(line)), files.whole_folder(output, written):
        pass
    assert (output / name).read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named_and_not_the_partial_file(tmp_path):
    for target in (tmp_path, tmp_path / "lost" / "file"):
        errors = IsADirectoryError, FileNotFoundError
        with pytest.raises(errors) as raised, files.whole_file(target):
            pass
        assert raised.value.filename == str(target)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_output_and_nothing_else(output, error):
    with pytest.raises(error), files.whole_folder(output) as folder:
        (folder / "result").write_text("half")
        raise error
    with pytest.raises(error), files.whole_file(output / "result") as partial:
        partial.write_text("half")
        raise error
    assert (output / "result").read_text() == "earlier"
    assert (left_in(output), left_in(output.parent)) == (["result"], ["output"])


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
import sys
from pathlib import Path
from mlops.base.files import whole_folder
with whole_folder(Path(sys.argv[1])) as folder:
    (folder / "result").write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(output):
    """Another process, in the middle of writing the same output until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_process_ended_while_it_writes_leaves_the_earlier_output(output, writer, number):
    writer.send_signal(number)
    assert writer.wait() != 0
    assert (output / "result").read_text() == "earlier"
    # What a killed one left, the next one removes.
    with files.whole_folder(output):
        pass
    assert left_in(output.parent) == ["output"]


def test_of_two_writers_one_waits_and_both_end_well(output, writer):
    def write_too():
        with files.whole_folder(output) as folder:
            (folder / "result").write_text("second")

    second = threading.Thread(target=write_too)
    second.start()
    locks.wait_until(lambda: locks.waits(os.getpid()), writer)
    writer.stdin.close()
    second.join()
    assert writer.wait() == 0
    assert (output / "result").read_text() == "second"
    assert left_in(output.parent) == ["output"]


@given(CONTENTS, st.data())
@settings(max_examples=25, deadline=None)
def test_the_digest_changes_with_any_byte_or_name_and_nothing_else(tmp_path_factory, content, data):
    base = tmp_path_factory.mktemp("digest")
    name = data.draw(st.sampled_from(sorted(content)))
    changed = data.draw(st.binary(max_size=40).filter(lambda new: new != content[name]))
    renamed = {f"{key}-" if key == name else key: value for key, value in content.items()}
    reordered = dict(reversed(content.items()))
    folders = [content, reordered, {**content, name: changed}, renamed]
    digests = [files.folder_digest(write(base / str(i), one)) for i, one in enumerate(folders)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_equal_content_is_equal_json_and_nan_is_refused(tmp_path):
    files.write_json(tmp_path / "a", {"x": 1, "y": [2]})
    files.write_json(tmp_path / "b", {"y": [2], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a", {"x": float("nan")})
    assert files.read_json(tmp_path / "a") == {"x": 1, "y": [2]}
