"""Commands that fail in one line; background processes that are stopped with all they started."""

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.base.processes import CommandFailed

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def python(code):
    return [sys.executable, "-c", code]


def test_a_command_gives_what_it_printed_and_reads_nothing():
    assert processes.run(python("import sys; print(repr(sys.stdin.read()))")) == "''\n"
    assert processes.run(["cat"], input="a line") == "a line"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('a\\nerror: b')", "work: b"),
        ("print('a'); print('b'); raise SystemExit(1)", "work: b"),
        ("import sys; sys.exit('ERROR: a\\n  Caused by: b\\nmake: *** [Makefile:9: c] Error 2')",
         "work: a Caused by: b"),
        ("raise SystemExit(1)", "work: see the lines above"),
    ],
)  # fmt: skip
def test_a_command_that_fails_is_one_line_with_its_own_error(code, message):
    with pytest.raises(CommandFailed) as failure:
        processes.run(python(code), "work")
    assert (str(failure.value), failure.value.code) == (message, 1)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["no-such-program"], "no-such-program: not found on the PATH"),
        (["sleep", "600"], r"sleep 600: not finished after 0\.1 s"),
    ],
)
def test_a_command_that_is_missing_or_takes_too_long_is_named(command, line):
    with pytest.raises(UserError, match=line):
        processes.run(command, timeout=0.1)


@pytest.fixture
def family(tmp_path):
    """A background process with a child of its own: both numbers."""
    log = tmp_path / "logs" / "log"
    pid = processes.start(python(FAMILY), log, tmp_path)
    assert processes.wait(lambda: log.read_text().endswith("\n"))
    yield pid, int(log.read_text())
    processes.stop([pid])


def test_a_group_is_known_by_its_folder_and_stopped_without_its_first(family, tmp_path):
    assert all(map(processes.runs, family))
    os.kill(family[0], signal.SIGKILL)
    assert processes.wait(lambda: not processes.runs(family[0]))
    ((pid, group, command),) = processes.working_in(tmp_path)
    assert ((group, pid), command[1]) == (family, "-c")
    assert processes.working_in(tmp_path / "logs") == []
    processes.stop(family[:1])
    assert processes.wait(lambda: not any(map(processes.runs, family)))


def test_only_children_that_run_the_command_are_stopped():
    named, other = (
        subprocess.Popen(python(f"import time; '{word}'; time.sleep(600)"))
        for word in ("featurize", "ingest")
    )
    processes.stop_children("featurize")
    assert (processes.runs(named.pid), processes.runs(other.pid)) == (False, True)
    other.kill()
    other.wait()


def test_a_zombie_process_does_not_run():
    child = subprocess.Popen(["true"])
    assert processes.wait(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert not processes.runs(child.pid)
    child.wait()


def test_a_wait_ends_with_its_process_or_its_time():
    assert not processes.wait(lambda: False, alive=lambda: False)
    assert not processes.wait(lambda: False, seconds=0)


def test_a_preferred_port_is_given_when_it_is_free():
    port = processes.free_port()
    assert processes.free_port(port) == port
    with socket.socket() as other:
        other.bind((processes.HOST, port))
        assert processes.free_port(port) != port


def test_without_a_loopback_interface_nothing_waits_for_a_server():
    apart = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a network of its own")
    program = "from mlops.base.processes import free_port; free_port()"
    done = subprocess.run(
        [*apart, sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    line = "127.0.0.1: no port to connect to on the loopback interface: "
    assert line in done.stderr.splitlines()[-1]


def test_on_a_terminal_errors_and_progress_are_shown_as_they_come():
    """The command sees the terminal itself, as a bar of progress needs to."""
    ours, theirs = os.openpty()
    program = (
        "import sys; from mlops.base import processes\n"
        "inner = 'import sys; sys.stderr.write(str(sys.stderr.isatty()))'\n"
        "processes.run([sys.executable, '-c', inner], capture_output=False)"
    )
    subprocess.run([sys.executable, "-c", program], stderr=theirs, check=True)
    os.close(theirs)
    assert os.read(ours, 100) == b"True"
    os.close(ours)
