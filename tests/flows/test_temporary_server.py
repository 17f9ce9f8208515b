"""A flow without a named server has one of its own, which says nothing and ends with the flow."""

import os
import subprocess
import sys

import pytest

from flows import temporary_server
from mlops.base import processes
from mlops.base.errors import UserError
from tests.conftest import REPOSITORY


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_HOME", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def refusal(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "start", lambda *_: pytest.fail("a server was started"))

    def refused():
        with pytest.raises(UserError) as error:
            temporary_server.start_where_needed(tmp_path)
        return str(error.value)

    return refused


def test_a_profile_that_is_not_there_is_one_line(refusal, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_PROFILE", "team")
    file = tmp_path / ".prefect/profiles.toml"
    assert refusal() == f"PREFECT_PROFILE: found 'team', no profile in {file}; unset it"
    file.write_text("[profiles.teams]\n")
    assert refusal().endswith("; did you mean 'teams'?")


def test_a_home_that_cannot_be_made_is_one_line(refusal, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    home = tmp_path / "file/home"
    monkeypatch.setenv("PREFECT_HOME", str(home))
    assert refusal() == f"PREFECT_HOME: {home}: can't be made: Not a directory"


@pytest.mark.parametrize("where", ["the environment", "the active profile", "a named profile"])
def test_a_server_that_is_named_is_used(tmp_path, monkeypatch, where):
    monkeypatch.setattr(processes, "start", lambda *_: pytest.fail("a server was started"))
    (tmp_path / ".prefect").mkdir()
    profile = '[profiles.team]\nPREFECT_API_URL = "http://team.example/api"\n'
    if where == "the environment":
        monkeypatch.setenv("PREFECT_API_URL", "http://team.example/api")
    elif where == "the active profile":
        profile = f'active = "team"\n{profile}'
    else:
        monkeypatch.setenv("PREFECT_PROFILE", "team")
    (tmp_path / ".prefect/profiles.toml").write_text(profile)
    temporary_server.start_where_needed(tmp_path)
    assert temporary_server.address == ""


@pytest.mark.slow
def test_behind_a_proxy_it_starts_and_it_ends_with_a_process_that_is_killed(tmp_path):
    code = (
        "import os, time; from pathlib import Path\n"
        "from flows import temporary_server; from mlops.pipeline import stage\n"
        "stage.guarded(lambda: temporary_server.start_where_needed(Path()))\n"
        "print(os.environ['PREFECT_API_URL'], flush=True); time.sleep(600)"
    )
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY"), "http://127.0.0.1:9")
    started = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.PIPE,
        env={**environment, **proxies, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}"},
    )  # fmt: skip
    assert started.stdout
    health = started.stdout.readline().strip() + "/health"
    assert processes.answers(health)
    started.kill()
    assert started.communicate()[1] == ""
    assert processes.wait(lambda: not processes.answers(health), seconds=60)
    assert (tmp_path / temporary_server.LOG).exists()
