"""What judges a branch is told from what is judged, in its own repository and in a larger one."""

from pathlib import Path

import pytest
import yaml

from mlops.deploy import manifest
from mlops.forge import branches, git
from mlops.gitops import comment, judges, pins
from tests.forge_server import ForgeServer

HERE = "models/churn [1]/"
PIN = {
    "model": "churn", "version": 1, "digest": "a" * 64, "evidence": "b" * 64, "run": "r",
    "commit": "c" * 40, "data": "d" * 64, "metrics": {},
    "dvc": {"bundle": "e" * 32 + ".dir", "evidence": "f" * 32 + ".dir"},
}  # fmt: skip
STAGING = {"target": "local", "endpoint": "churn", "signer": {"key": "release.pub"}, "pin": PIN}
PARAMETERS = {"gate": {"rules": ["size", "churn.rule"]}}


def commit(root):
    git.git(root, "add", ":/")
    git.git(root, "commit", "--quiet", "--message", "a change", env=branches.IDENTITY)
    return git.commit(root, "HEAD")


@pytest.fixture
def project(tmp_path):
    """A project in a sub-folder of a larger repository, whose staging pins something."""
    root = tmp_path / HERE
    (root / manifest.FOLDER).mkdir(parents=True)
    git.git(tmp_path, "init", "--quiet")
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMETERS))
    (root / manifest.path("staging")).write_text(yaml.safe_dump(STAGING, sort_keys=False))
    return root, commit(root)


@pytest.mark.parametrize("name", [
    ".github/workflows/ci.yml", ".azure/setup.yml", "azure-pipelines.yml", "CODEOWNERS",
    "docs/CODEOWNERS", f"{HERE}Makefile", f"{HERE}src/mlops/gitops/gate.py",
    f"{HERE}src/churn/rule.py", f"{HERE}src/churn/rule/__init__.py", f"{HERE}release.pub",
])  # fmt: skip
def test_the_forge_s_files_judge_from_the_top_and_the_project_s_from_its_folder(
    project, name, monkeypatch
):
    root, base = project
    staging = root / manifest.path("staging")
    staging.write_text(manifest.with_pin(staging.read_text(), None))
    for beside in ("models/churn/Makefile", "other/.github/x.yml", "src/mlops/x.py"):
        write(git.top(root) / beside)
    commit(root)
    assert judges.changed(root, base) == []
    assert pins.only_pins_changed(root, base)
    write(git.top(root) / name)
    commit(root)
    assert judges.changed(root, base) == [name]
    assert not pins.only_pins_changed(root, base)
    with ForgeServer() as server:
        for variable, value in server.github().items():
            monkeypatch.setenv(variable, value)
        server.open("feature", owner="stranger").files = [("other/Makefile",), (name,)]
        comment.mark(root, "a" * 40, "success", "stranger:feature")
    assert server.statuses[0].text == f"a fork that changes its own judge: {name}"


def write(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("?")


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("tune: {max_evals: 1}\n", "tune: {max_evals: 9}\ndata: {until: a}\n", []),
        ("gate: {margin: 0}\n", "gate: {margin: 1}\nrelease: {}\n", ["gate", "release"]),
        ("monitoring: {rows: 1}\n", "{}", ["monitoring"]),
    ],
)
def test_only_sections_that_decide_are_named_and_what_is_no_yaml_decides(before, after, found):
    assert judges.sections(before, after) == [f"params.yaml: {name}" for name in found]
    assert judges.sections(before, "a: [") == ["params.yaml"]
