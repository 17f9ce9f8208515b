"""An environment is what its lock names, or refused in one line."""

import pytest

from mlops.base import uv
from mlops.base.processes import CommandFailed


def test_a_lock_that_cannot_be_installed_is_named_in_one_line(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("idna==3.10\n")
    with pytest.raises(CommandFailed) as failed:
        uv.environment(tmp_path / "environment", lock)
    message = str(failed.value)
    assert message.startswith(f"{lock}: could not be installed: error: In `--require-hashes` mode")
    assert "\n" not in message


def test_an_empty_lock_makes_an_environment_with_a_python(tmp_path):
    (tmp_path / "requirements.lock").touch()
    for _ in range(2):
        programs = uv.environment(tmp_path / "environment", tmp_path / "requirements.lock")
        assert (programs / "python").exists()
