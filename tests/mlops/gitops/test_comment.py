"""The pull request's one comment, and what it says of files that decide about the verdict."""

from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.gitops import comment
from tests.forge_server import ForgeServer


@pytest.fixture
def server(monkeypatch):
    """A forge to speak to, which the environment names."""
    with ForgeServer() as forge:
        for name, value in forge.github().items():
            monkeypatch.setenv(name, value)
        yield forge


@pytest.fixture
def verdict(tmp_path):
    file = tmp_path / "report.md"
    file.write_text("Accepted.")
    return file


def test_the_comment_is_posted_once_and_then_updated(verdict, server):
    number = server.open("feature").number
    for _ in range(2):
        comment.post(verdict, "acme:feature")
    comment.mark("a" * 40, "success")
    assert [item.body.splitlines()[-1] for item in server.on(number)] == ["Accepted."]
    assert [(s.state, s.context) for s in server.statuses] == [("success", "mlops/gate")]
    with pytest.raises(UserError, match="pull request: none open for acme:nothing"):
        comment.post(verdict, "acme:nothing")
    with pytest.raises(UserError, match="nowhere.md: not found; `mlops report` writes it"):
        comment.post(Path("nowhere.md"), None)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ([("src/flights/features.py",), ("docs/design.md",)], []),
        ([("README.md",), (".github/workflows/retrain.yml",)], [".github/workflows/retrain.yml"]),
        ([("x/gate.py", "src/mlops/gitops/gate.py")], ["src/mlops/gitops/gate.py"]),
        ([("params.yaml",), ("environments/production.yaml",)],
         ["params.yaml", "environments/production.yaml"]),
        ([(f"src/mlops/{n}.py",) for n in range(130)], ["src/mlops/0.py", "and 110 more"]),
    ],
)  # fmt: skip
def test_what_decides_about_the_verdict_is_named_whatever_the_branch_wrote(
    verdict, server, files, named
):
    pull = server.open("feature")
    pull.files = files
    comment.post(verdict, "acme:feature")
    [posted] = server.on(pull.number)
    assert ("files that decide how it is judged" in posted.body) is bool(named)
    assert all(name in posted.body for name in named)
    assert posted.body.endswith("Accepted.")


def test_a_status_is_of_a_whole_commit_id(server):
    with pytest.raises(UserError, match="COMMIT: found 'main', expected 40 hexadecimal digits"):
        comment.mark("main", "success")
    assert server.statuses == []


def test_a_fork_that_changes_its_own_judge_is_never_marked_as_accepted(server):
    theirs, good = server.open("theirs", owner="stranger"), server.open("good", owner="stranger")
    theirs.files, good.files = [("src/mlops/gitops/gate.py",)], [("params.yaml",)]
    comment.mark("a" * 40, "success", "stranger:theirs")
    comment.mark("b" * 40, "success", "stranger:good")
    comment.mark("c" * 40, "failure", "stranger:good")
    assert [status.state for status in server.statuses] == ["failure", "success", "failure"]
    assert server.statuses[0].text == "a fork that changes its own judge: src/mlops/gitops/gate.py"
