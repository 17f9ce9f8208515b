"""A stage that is killed or out of disk leaves every earlier output whole."""

import re
import signal

import pytest

from tests import locks
from tests.conftest import OUTPUTS


@pytest.fixture
def wines(trained, tmp_path):
    return trained("wine").copy(tmp_path / "wine")


@pytest.mark.parametrize(
    ("stage", "number"), [("train", signal.SIGKILL), ("featurize", signal.SIGINT)]
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


# The search writes as training does.
@pytest.mark.parametrize("stage", sorted(set(OUTPUTS) - {"tune"}))
def test_a_full_disk_is_one_line_and_with_space_again_the_stage_ends_well(
    wines, small_disk, command, stage
):
    before = wines.digest(OUTPUTS[stage])
    small_disk(wines.root)
    done = command(wines, stage)
    assert done.code == 2
    (line,) = [line for line in done.err.splitlines() if not line.startswith("not tracked")]
    folder = OUTPUTS[stage].split("/")[0]
    assert re.fullmatch(rf"error: \.?{folder}\S*: No space left on device", line)
    assert wines.digest(OUTPUTS[stage]) == before
    if stage == "featurize":
        (wines.root / "ballast").unlink()
        assert command(wines, stage).code == 0
        assert wines.digest(OUTPUTS[stage]) == before
