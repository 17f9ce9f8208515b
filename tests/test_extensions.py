"""Extend by name: a project brings its own source, family, metric, gate rule and target.

Its modules are the code blocks of `docs/extend.md`, each in the file that its first line names.
"""

from __future__ import annotations

import json
import re
import sys
from contextlib import chdir
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hyperopt import hp

from mlops.base.errors import UserError
from mlops.contract import extensions, project
from mlops.contract.stages import MADE_BY_DVC
from mlops.deploy import manifest
from mlops.gitops import reconcile
from mlops.training import search
from tests.conftest import REPOSITORY
from tests.mlops.gitops.conftest import MANIFEST, committed

BLOCK = re.compile(r"```python\n# src/churn/(\w+\.py)\n(.*?)```", re.DOTALL)
ROLES = "BASELINE, DAY, FEATURES, KEY, SLICES, TARGET, features"
MODELS = """\
from hyperopt import hp

TASK = "binary"
DEPTH = hp.uniformint("churn.forest.max_depth", 2, 6)
SPACE = {"churn.forest": {"n_estimators": 20, "max_depth": DEPTH}}
FIRST = [{"family": "churn.forest", "max_depth": 4}]
"""
BROKEN = {
    "lacks.py": "\nimport absent\n",
    "fails.py": "x = 1\ny = 1 / 0\n",
    "raises.py": "import json\njson.loads('{')\n",
    "unreadable.py": "def read(:\n",
}
NO_MODULE = "no such module; expected one under src/ or installed"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A `src` folder with the project `churn`, which reads the tables of `trips`."""
    folder = tmp_path_factory.mktemp("churn")
    modules = dict(BLOCK.findall((REPOSITORY / "docs/extend.md").read_text()))
    assert {"lines.py", "forest.py", "lottery.py", "profit.py", "few_rows.py", "folder.py"} <= set(
        modules
    )
    modules |= {
        **BROKEN,
        "__init__.py": "",
        "tables.py": "from trips.tables import TABLES\n",
        "features.py": f"from trips.features import {ROLES}\n",
        "models.py": MODELS,
    }
    (folder / "churn").mkdir(parents=True)
    for name, text in modules.items():
        (folder / "churn" / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "churn"]:
        del sys.modules[name]


def resolve(name):
    place = "params.yaml: data.source", name, "mlops.data.sources", ("read", "fingerprint")
    return extensions.resolve(*place).__name__


def test_a_built_in_name_and_a_module_s_path_are_found_alike(source):
    assert resolve("files") == "mlops.data.sources.files"
    assert resolve("churn.lines") == "churn.lines"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("filse", "found 'filse'; did you mean 'files'?"),
        ("not a name", "found 'not a name'; known: cosmos, delta, files, package, spark, sql"),
        ("mlops.nothing", f"found 'mlops.nothing', {NO_MODULE}"),
        ("nobody.crm", f"found 'nobody.crm', {NO_MODULE}"),
        ("churn.profit", "FILE: read is missing"),
        ("churn.lacks", "churn.lacks: FILE:2: ModuleNotFoundError: No module named 'absent'"),
        ("churn.fails", "churn.fails: FILE:2: ZeroDivisionError: division by zero"),
        ("churn.raises", "churn.raises: FILE:2: JSONDecodeError: "),
        ("churn.unreadable", "churn.unreadable: FILE:1: SyntaxError: "),
    ],
)
def test_a_name_that_gives_no_source_is_one_line_with_file_and_line(source, name, reason):
    with pytest.raises(UserError) as error:
        resolve(name)
    file = source / f"{name.replace('.', '/')}.py"
    expected = f"params.yaml: data.source: {reason.replace('FILE', str(file))}"
    assert str(error.value).startswith(expected)
    assert "\n" not in str(error.value)


def test_a_target_is_checked_in_a_manifest_and_not_in_old_commits(tmp_path):
    (tmp_path / "environments").mkdir()
    text = MANIFEST.replace("target: local", "target: lokal")
    (tmp_path / "environments/staging.yaml").write_text(text)
    with pytest.raises(UserError, match="target: found 'lokal'; did you mean 'local'"):
        manifest.load(tmp_path, "staging")
    assert manifest.parse(text, "an old commit").target == "lokal"


def test_a_searcher_of_the_project_s_own_proposes_and_is_told(source):
    space = {"churn.forest": {"max_depth": hp.uniformint("max_depth", 2, 6), "n_estimators": 20}}

    def tried(seed):
        return search.minimize(
            lambda candidate: {"loss": candidate["max_depth"], **candidate},
            *(space, [], 5, seed),
            parallelism=1,
            name="churn.lottery",
        )

    assert tried(1) == tried(1) != tried(2)
    assert {outcome["family"] for outcome in tried(1)} == {"churn.forest"}


@pytest.fixture
def churn(tracked, source, tmp_path):
    """A repository whose parameters name a module of the project's own everywhere."""
    root = tmp_path / "repository"
    workspace = tracked("trips", root)
    # It imports that project's features, which another test may have loaded for another engine.
    project.forget("trips")
    (root / "src/churn").symlink_to(source / "churn")
    (root / "jsonl").mkdir()
    for file in (root / "csv").glob("*.csv"):
        rows = pd.read_csv(file)
        rows.to_json(root / "jsonl" / f"{file.stem}.jsonl", orient="records", lines=True)
    return workspace.change(
        {
            "project": "churn",
            "data.source": "churn.lines",
            "data.location": "jsonl",
            "tune.families": ["churn.forest"],
            "tune.max_evals": 2,
            "evaluate.metrics": ["churn.profit"],
            "gate.rules": ["limits", "champion", "churn.few_rows"],
            "gate.limits": {"churn.profit": 0.1},
        }
    )


def name_own_modules(root):
    """Name in dvc.yaml what the stages load, the other project's files too."""
    pipeline = yaml.safe_load((root / "dvc.yaml").read_text())
    for stage in (pipeline["stages"][name] for name in MADE_BY_DVC):
        others = [path for path in stage["deps"] if not path.startswith("src/${project}")]
        stage["deps"] = [*others, "src/${project}", "src/trips"]
    (root / "dvc.yaml").write_text(yaml.safe_dump(pipeline))


@pytest.mark.slow
def test_a_project_s_own_parts_are_trained_judged_and_deployed(churn):
    root = churn.root
    name_own_modules(root)
    done = churn.command("ingest")
    assert done.code == 0, done.err

    churn.run("featurize", "tune", "train", "evaluate", "register")
    card = json.loads((root / "models/bundle/bundle.json").read_text())
    assert card["family"] == "churn.forest"
    metrics = json.loads((root / "reports/metrics.json").read_text())
    interval = metrics["holdout"]["churn.profit"]
    assert interval["low"] < interval["value"] < interval["high"]
    assert all("churn.profit" in scores for scores in metrics["baselines"].values())
    assert "Churn.profit" in (root / "reports/report.html").read_text()

    text = MANIFEST.replace("target: local", "target: churn.folder")
    clone = committed(churn, root.parent / "remote.git", text)
    pin = clone.judged_pin()
    names = [rule.name for rule in clone.judge().rules]
    assert names == ["churn.profit", "champion", "few rows"]
    clone.pin("staging", pin)
    with chdir(root):
        assert "staging: churn.folder runs it" in list(
            reconcile.run(clone.params(), Path(), "staging")
        )
        assert reconcile.differences(clone.params(), Path(), "staging") == []
    assert churn.digest("served/trips") == pin.digest

    churn.change({"gate.limits": {"churn.few_rows": 1}})
    line = clone.judge().line
    assert line.startswith("refused")
    assert "gate.limits: " in line
    assert "few_rows.py: score is missing" in line
