"""All that a project declares is checked before anything runs."""

from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.contract import project
from mlops.forge.branches import IDENTITY
from mlops.forge.git import git
from mlops.gitops import check


@pytest.fixture
def wines(repository, tmp_path, monkeypatch):
    """A project of its own, which the tests may change."""
    workspace = repository("wine", tmp_path / "wines")
    package = workspace.root / "src/wine"
    texts = {path.name: path.read_text() for path in package.glob("*.py")}
    package.unlink()
    package = workspace.root / "src/cellar"
    package.mkdir()
    for name, text in texts.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(str(workspace.root / "src"))
    monkeypatch.chdir(workspace.root)
    yield workspace.change({"project": "cellar"})
    project.forget("cellar")


def edit(workspace, name, old, new):
    path = workspace.root / "src/cellar" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def complaint():
    with pytest.raises(UserError) as error:
        check.declarations(Path())
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"gate.limits": {"rmse": 3.0}},
         "params.yaml: gate.limits: found 'rmse', which is no metric of this task; a multiclass "
         "has roc_auc, log_loss, brier, calibration_error, accuracy, precision, recall, f1"),
        ({"gate.limits": {"roc_auc": 70.0}},
         "params.yaml: gate.limits.roc_auc: found 70, expected 0 to 1"),
        ({"gate.limits": {"cellar.profit": 3.0}},
         "params.yaml: gate.limits: found 'cellar.profit', no such module; expected one under "
         "src/ or installed"),
        ({"tune.searcher": "optona"},
         "params.yaml: tune.searcher: found 'optona'; did you mean 'optuna'?"),
        ({"train.workers": 2},
         "params.yaml: train.workers: found 2, but lightgbm of tune.families can't be fitted on "
         "several; expected 1, or xgboost alone or modules with fit_on_spark"),
        ({"tune.families": ["linear", "lihtgbm"]},
         "params.yaml: tune.families: found 'lihtgbm'; did you mean 'lightgbm'?"),
        ({"gate.rules": ["limit"]},
         "params.yaml: gate.rules: found 'limit'; did you mean 'limits'?"),
    ],
)  # fmt: skip
def test_a_name_that_does_not_fit_the_task_or_the_space_is_refused(wines, changes, line):
    wines.change(changes)
    assert complaint() == line


def test_what_was_found_valid_is_checked_again_when_a_file_of_it_changes(wines, monkeypatch):
    assert check.declarations(Path()).project == "cellar"
    looked = []
    monkeypatch.setattr(check, "_check_project", lambda settings: looked.append(settings))
    check.declarations(Path())
    assert not looked
    edit(wines, "features.py", '"alcohol": "percent"', '"alcohol": "volume percent"')
    check.declarations(Path())
    assert len(looked) == 1


def test_a_fault_in_any_file_is_found_before_the_first_stage(wines):
    edit(wines, "models.py", '"linear.C"', '"lightgbm.num_leaves"')
    assert complaint() == (
        "models.py: SPACE: linear.C: found the label 'lightgbm.num_leaves' a second time, "
        "expected 'linear.C'"
    )
    edit(wines, "features.py", 'BASELINE = "alcohol"', 'BASELINE = "alcohl"')
    assert complaint() == (
        f"{wines.root}/src/cellar/features.py: BASELINE: found 'alcohl', expected one of FEATURES"
        "; did you mean 'alcohol'?"
    )
    edit(wines, "features.py", "SLICES", "1 / 0; SLICES")
    assert complaint().startswith(f"{wines.root}/src/cellar/features.py:11: ZeroDivisionError: ")


@pytest.mark.nightly
@pytest.mark.slow
def test_several_days_are_compared_where_outcomes_are_declared(repository, tmp_path):
    workspace = repository("trips", tmp_path / "trips")
    rows, compared = check._train(workspace.root, workspace.params())
    assert compared == f"features of {check.DAYS} days are those as of the day, bit by bit"
    assert rows > 0


RETRAIN, AZURE = ".github/workflows/retrain.yml", "azure-pipelines.yml"


@pytest.mark.parametrize(
    ("file", "text", "place"),
    [
        (RETRAIN, "on: {pull_request: {branches: [main]}}", "on.pull_request.branches"),
        (RETRAIN, "on: {pull_request: , push: {branches: main}}", "on.push.branches"),
        (AZURE, "trigger: {branches: {include: [main]}}", "trigger.branches.include"),
        (AZURE, "schedules: [{cron: 1 * * * *, branches: {include: [main]}}]",
         "schedules.0.branches.include"),
        (AZURE, "variables: [{name: mainBranch, value: main}]", "variables.0.value"),
    ],
)  # fmt: skip
def test_a_ci_that_has_another_main_branch_than_the_remote_is_refused(wines, file, text, place):
    git(wines.root, "init", "--bare", "--initial-branch=trunk", "remote")
    git(wines.root, "init", "--initial-branch=trunk")
    git(wines.root, "remote", "add", "origin", str(wines.root / "remote"))
    git(wines.root, "commit", "--allow-empty", "--message=First", env=IDENTITY)
    git(wines.root, "push", "origin", "trunk")
    (wines.root / file).parent.mkdir(parents=True, exist_ok=True)
    (wines.root / file).write_text(text)
    with pytest.raises(UserError) as error:
        next(check.run(Path()))
    assert str(error.value) == (
        f"{file}: {place}: found main, expected trunk, the main branch of the remote"
    )
    (wines.root / file).write_text(text.replace("main]", "mine, trunk]").replace("main}", "trunk}"))
    assert next(check.run(Path())) == "params.yaml: valid"
    (wines.root / file).write_text("on: [")
    with pytest.raises(UserError, match=rf"^{file}: while parsing .* line 1"):
        next(check.run(Path()))
