"""A remote that says nothing is not waited for; one that refuses has answered."""

import socket
from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.pipeline import remotes, reproduction
from mlops.registry import publish


@pytest.fixture
def silent():
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/store"


def test_one_that_says_nothing_is_a_line(dvc_repository, silent, monkeypatch):
    monkeypatch.setattr(remotes, "ANSWER_SECONDS", 1.0)
    made = dvc_repository(silent)
    with pytest.raises(UserError, match="^DVC remote 'store': no answer within 1 s$"):
        publish.run(made.root_dir)


def test_a_stage_is_made_without_one_that_says_nothing(dvc_repository, silent, monkeypatch, capsys):
    monkeypatch.setattr(remotes, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(reproduction, "_unreachable_remotes", set())
    root = Path(dvc_repository(silent).root_dir)
    monkeypatch.chdir(root)
    state = "fingerprint: {cmd: echo 1 > state, outs: [state], always_changed: true}"
    ingest = "ingest: {cmd: echo made > raw, deps: [state], outs: [raw]}"
    Path("dvc.yaml").write_text(f"stages: {{{state}, {ingest}}}\n")
    reproduction.reproduce("ingest", root)
    assert Path("raw").read_text() == "made\n"
    assert capsys.readouterr().err == "DVC's remote 'store' is not used: no answer within 1 s\n"


def test_one_that_refuses_or_has_no_folder_yet_has_answered(dvc_repository, refusing, tmp_path):
    for url in (refusing, str(tmp_path / "later")):
        remotes.require_answer(dvc_repository(url), "store")
