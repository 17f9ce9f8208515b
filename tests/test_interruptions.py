"""A stage that is killed or out of disk leaves every earlier output whole."""

import os
import signal
from contextlib import suppress

import pytest

from tests import locks
from tests.conftest import OUTPUTS


@pytest.fixture
def wines(trained, tmp_path):
    return trained("wine").copy(tmp_path / "wine")


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        pytest.param(stage, signal.SIGKILL, marks=pytest.mark.nightly if stage != "train" else ())
        for stage in OUTPUTS
    ]
    + [("ingest", signal.SIGTERM), ("featurize", signal.SIGINT)],
)
def test_a_kill_in_the_middle_of_a_stage_leaves_its_output_and_the_next_run_ends_well(
    wines, stage, number
):
    output = wines.root / OUTPUTS[stage]
    before = wines.digest(OUTPUTS[stage])
    with locks.held(output.parent):
        process = wines.start(stage)
        locks.wait_until(lambda: locks.waits(process.pid), process)
        process.send_signal(number)
        process.communicate(timeout=300)
    assert process.returncode != 0
    assert wines.digest(OUTPUTS[stage]) == before
    wines.run(stage)
    assert wines.digest(OUTPUTS[stage]) == before
    assert not list(output.parent.glob(f".{output.name}*"))


@pytest.fixture
def small_disk(wines, tmp_path):
    """The workspace on a disk of its own that is full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or os.system(f"mount -t tmpfs -o size=24m tmpfs {disk} 2>/dev/null"):
        pytest.skip("only root may mount a disk")
    try:
        workspace = wines.copy(disk)
        with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(b"0" * 4096)
        yield workspace
    finally:
        os.system(f"umount --lazy {disk}")


@pytest.mark.parametrize("stage", OUTPUTS)
def test_a_full_disk_is_one_line_and_with_space_again_the_stage_ends_well(
    small_disk, command, stage
):
    before = small_disk.digest(OUTPUTS[stage])
    done = command(small_disk, stage)
    assert done.code == 2
    assert [line for line in done.err.splitlines() if not line.startswith("not tracked")] == [
        "error: writing: No space left on device"
    ]
    assert small_disk.digest(OUTPUTS[stage]) == before
    if stage == "featurize":
        (small_disk.root / "ballast").unlink()
        assert command(small_disk, stage).code == 0
        assert small_disk.digest(OUTPUTS[stage]) == before
