"""The pull request's one comment, and what it says of files that decide about the verdict."""

from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.forge import git
from mlops.gitops import comment
from tests.forge_server import ForgeServer

PARAMETERS = b"gate: {margin: 0.1}\n"


@pytest.fixture
def server(monkeypatch):
    """A forge to speak to, which the environment names."""
    with ForgeServer() as forge:
        for name, value in forge.github().items():
            monkeypatch.setenv(name, value)
        yield forge


@pytest.fixture
def root(tmp_path):
    """A project, and a verdict on a branch of it."""
    git.git(tmp_path, "init", "--quiet")
    (tmp_path / "params.yaml").write_bytes(PARAMETERS)
    (tmp_path / "report.md").write_text("Accepted.")
    return tmp_path


def test_the_comment_is_posted_once_and_then_updated(root, server):
    number = server.open("feature").number
    for _ in range(2):
        comment.post(root, root / "report.md", "acme:feature")
    comment.mark(root, "a" * 40, "success")
    assert [item.body.splitlines()[-1] for item in server.on(number)] == ["Accepted."]
    assert [(s.state, s.context) for s in server.statuses] == [("success", "mlops/gate")]
    with pytest.raises(UserError, match="pull request: none open for acme:nothing"):
        comment.post(root, root / "report.md", "acme:nothing")
    with pytest.raises(UserError, match="nowhere.md: not found; `mlops report` writes it"):
        comment.post(root, Path("nowhere.md"), None)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ([("src/flights/features.py",), ("docs/design.md",)], []),
        ([("README.md",), (".github/workflows/retrain.yml",)], [".github/workflows/retrain.yml"]),
        ([("x/gate.py", "src/mlops/gitops/gate.py")], ["src/mlops/gitops/gate.py"]),
        ([("params.yaml",), ("environments/production.yaml",)],
         ["params.yaml: gate", "environments/production.yaml"]),
        ([("other.yaml", "params.yaml")], ["`params.yaml`"]),
        ([(f"src/mlops/{n}.py",) for n in range(130)], ["src/mlops/0.py", "and 110 more"]),
    ],
)  # fmt: skip
def test_what_decides_about_the_verdict_is_named_whatever_the_branch_wrote(
    root, server, files, named
):
    pull = server.open("feature")
    pull.files, server.contents = files, {"params.yaml": PARAMETERS.replace(b"0.1", b"0.9")}
    comment.post(root, root / "report.md", "acme:feature")
    [posted] = server.on(pull.number)
    assert ("which decide how it is judged" in posted.body) is bool(named)
    assert all(name in posted.body for name in named)
    assert posted.body.endswith("Accepted.")


def test_a_comment_of_another_key_stands_beside_the_verdict_and_is_no_verdict(root, server):
    pull = server.open("feature")
    pull.files = [(".github/workflows/retrain.yml",)]
    (root / "platform.md").write_text("Nothing would change.")
    for _ in range(2):
        comment.post(root, root / "platform.md", "acme:feature", "platform")
    comment.post(root, root / "report.md", "acme:feature")
    bodies = [item.body for item in server.on(pull.number)]
    assert [body.splitlines()[-1] for body in bodies] == ["Nothing would change.", "Accepted."]
    assert "which decide how it is judged" not in bodies[0]


def test_a_status_is_of_a_whole_commit_id(root, server):
    with pytest.raises(UserError, match="COMMIT: found 'main', expected 40 hexadecimal digits"):
        comment.mark(root, "main", "success")
    assert server.statuses == []


def test_a_fork_that_changes_its_own_judge_is_never_marked_as_accepted(root, server):
    theirs, good = server.open("theirs", owner="stranger"), server.open("good", owner="stranger")
    theirs.files, good.files = [("src/mlops/gitops/gate.py",)], [("params.yaml",)]
    server.contents = {"params.yaml": PARAMETERS + b"tune: {max_evals: 9}\n"}
    comment.mark(root, "a" * 40, "success", "stranger:theirs")
    comment.mark(root, "b" * 40, "success", "stranger:good")
    comment.mark(root, "c" * 40, "failure", "stranger:good")
    assert [status.state for status in server.statuses] == ["failure", "success", "failure"]
    server.contents = {"params.yaml": PARAMETERS.replace(b"0.1", b"0.9")}
    comment.mark(root, "d" * 40, "success", "stranger:good")
    assert server.statuses[3].text == "a fork that changes its own judge: params.yaml: gate"
    assert server.statuses[0].text == "a fork that changes its own judge: src/mlops/gitops/gate.py"
