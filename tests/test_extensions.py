"""Extend by name: a project brings its own source, family, metric, gate rule and target."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mlops.base.errors import UserError
from mlops.contract import extensions
from mlops.deploy import manifest
from mlops.gitops import reconcile
from tests.conftest import PROJECTS
from tests.mlops.gitops.conftest import MANIFEST, committed

SOURCE = ("params.yaml: data.source", "mlops.data.sources", ("read",))


def resolve(name):
    setting, builtin, attributes = SOURCE
    return extensions.resolve(setting, name, builtin, attributes)


def test_a_built_in_name_and_a_module_s_path_are_found_alike():
    assert resolve("files").__name__ == "mlops.data.sources.files"
    assert resolve("extended.lines").__name__ == "extended.lines"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("filse", "params.yaml: data.source: found 'filse'; did you mean 'files'?"),
        ("database", "params.yaml: data.source: found 'database'; known: files, package"),
        ("not a name", "params.yaml: data.source: found 'not a name'; known: files, package"),
        ("extended.nothing", "params.yaml: data.source: found 'extended.nothing', no such module; "
         "expected one under src/ or installed"),
        ("nobody.crm", "params.yaml: data.source: found 'nobody.crm', no such module; "
         "expected one under src/ or installed"),
        ("extended.profit",
         f"params.yaml: data.source: {PROJECTS / 'extended/profit.py'}: read is missing"),
    ],
)  # fmt: skip
def test_a_name_that_leads_nowhere_is_one_line(name, line):
    with pytest.raises(UserError) as error:
        resolve(name)
    assert str(error.value) == line


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("\nimport absent_library\n", 2, "ModuleNotFoundError: No module named 'absent_library'"),
        ("x = 1\ny = 1 / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError: "),
        ("def read(:\n", 1, "SyntaxError: "),
    ],
)
def test_an_error_in_a_user_s_module_keeps_its_file_and_line(
    tmp_path, monkeypatch, text, place, reason
):
    name = f"broken_{abs(hash(text))}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "crm.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as error:
        resolve(f"{name}.crm")
    file = tmp_path / name / "crm.py"
    expected = f"params.yaml: data.source: {name}.crm: {file}:{place}: {reason}"
    assert str(error.value).startswith(expected)
    assert "\n" not in str(error.value)


def test_a_target_is_checked_in_a_manifest_and_not_in_old_commits(tmp_path):
    (tmp_path / "environments").mkdir()
    text = MANIFEST.replace("target: local", "target: lokal")
    (tmp_path / "environments/staging.yaml").write_text(text)
    with pytest.raises(UserError, match="target: found 'lokal'; did you mean 'local'"):
        manifest.load(tmp_path, "staging")
    assert manifest.parse(text, "an old commit").target == "lokal"


@pytest.fixture(scope="module")
def extended(tracked, tmp_path_factory):
    """A repository of the project `extended`, trained with its own parts."""
    root = tmp_path_factory.mktemp("extended") / "repository"
    workspace = tracked("trips", root)
    (root / "src/extended").symlink_to(PROJECTS / "extended")
    (root / "jsonl").mkdir()
    for file in (root / "csv").glob("*.csv"):
        rows = pd.read_csv(file)
        rows.to_json(root / "jsonl" / f"{file.stem}.jsonl", orient="records", lines=True)
    workspace.change(
        {
            "project": "extended",
            "model": "extended-model",
            "data.source": "extended.lines",
            "data.location": "jsonl",
            "tune.families": ["extended.forest"],
            "tune.max_evals": 2,
            "evaluate.metrics": ["extended.profit"],
            "gate.rules": ["limits", "champion", "extended.few_rows"],
            "gate.limits": {"extended.profit": 0.1},
        }
    )
    return workspace


@pytest.mark.slow
def test_a_project_s_own_parts_train_are_judged_and_reconciled(extended):
    root = extended.root
    # What decides an output is a dependency: the command says which line is missing.
    done = extended.command("ingest")
    assert done.code == 2
    assert "src/extended/lines.py: ingest loads it, but dvc.yaml does not name it" in done.err
    assert "add the line '- src/${project}/lines.py' to stages.ingest.deps" in done.err
    pipeline = yaml.safe_load((root / "dvc.yaml").read_text())
    for stage in pipeline["stages"].values():
        stage["deps"] += ["src/extended", "src/trips"]
        stage["deps"] = [dep for dep in stage["deps"] if not dep.startswith("src/${project}")]
    (root / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    done = extended.command("ingest")
    assert done.code == 0, done.err

    extended.run("featurize", "tune", "train", "evaluate", "register")
    assert json.loads((root / "models/bundle/bundle.json").read_text())["family"] == (
        "extended.forest"
    )
    metrics = json.loads((root / "reports/metrics.json").read_text())
    interval = metrics["holdout"]["extended.profit"]
    assert interval["low"] < interval["value"] < interval["high"]
    assert all("extended.profit" in scores for scores in metrics["baselines"].values())
    assert "Extended.profit" in (root / "reports/report.html").read_text()

    text = MANIFEST.replace("target: local", "target: extended.folder")
    clone = committed(extended, root.parent / "remote.git", text)
    pin = clone.judged_pin()
    verdict = clone.judge()
    assert [rule.name for rule in verdict.rules] == ["extended.profit", "champion", "few rows"]
    clone.pin("staging", pin)
    with chdir(root):
        lines = list(reconcile.run(clone.params(), Path(), "staging"))
        assert "staging: extended.folder runs it" in lines
        assert reconcile.differences(clone.params(), Path(), "staging") == []
    assert clone.workspace.digest("served/trips") == pin.digest

    extended.change({"gate.limits": {"extended.profit": 1e6, "extended.few_rows": 1}})
    line = clone.judge().line
    assert "gate.limits: " in line
    assert "few_rows.py: score is missing" in line
