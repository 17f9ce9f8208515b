"""The worker that is kept running, and ends when it is told to."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from mlops.base import processes
from tests.conftest import REPOSITORY

CODE = """
from flows import worker
worker.COMMAND, worker.RESTART_SECONDS = ("-c", {code!r}), 0.1
worker.run()
"""


@pytest.fixture
def started(tmp_path):
    """Start the keeper of a worker that does what the code says, in a folder of its own."""
    made = []

    def start(code):
        process = subprocess.Popen(
            [sys.executable, "-c", CODE.format(code=code)], cwd=tmp_path,
            env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}"},
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        made.append(process)
        return process

    yield start
    for process in made:
        process.kill()


def test_a_worker_that_gives_up_is_started_again(started, tmp_path):
    started("open('begun', 'a').write('x'); raise SystemExit(1)")
    begun = tmp_path / "begun"
    assert processes.wait(lambda: begun.exists() and len(begun.read_text()) > 2)


def test_told_to_end_it_ends_its_worker_first(started):
    keeper = started("import time; time.sleep(600)")
    assert processes.wait(lambda: bool(psutil.Process(keeper.pid).children()))
    (worker,) = psutil.Process(keeper.pid).children()
    keeper.terminate()
    assert keeper.wait(120) == 0
    assert not worker.is_running()
