"""Reconcile: the world becomes what the manifest says, however often it is asked to."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import pytest

from mlops.base.errors import Refused, UserError
from mlops.deploy import local
from mlops.deploy.local.home import HOME, Home
from mlops.deploy.target import Endpoint
from mlops.gitops import reconcile, status
from mlops.pipeline import tracking
from mlops.registry import aliases
from tests.mlops.deploy.processes import ended, stop

pytestmark = pytest.mark.slow
ENDPOINT = Endpoint("staging", "flights-late", Path())


@pytest.fixture
def pinned(clone):
    """Staging pins the workspace's bundle; nothing runs yet, and nothing does in the end."""
    made = clone.judged_pin()
    clone.pin("staging", made)
    yield clone, made
    stop(clone.root)


def run(clone, environment="staging"):
    with chdir(clone.root):
        return list(reconcile.run(clone.params(), Path(), environment))


def differences(clone, environment="staging"):
    with chdir(clone.root):
        return reconcile.differences(clone.params(), Path(), environment)


def running(clone):
    with chdir(clone.root):
        return next(iter(local.current(ENDPOINT).traffic), None)


def alias(clone):
    with chdir(clone.root):
        return aliases.alias("wine-model", Path(), "staging")


def everything(root):
    return {
        str(path.relative_to(root)): path.stat().st_mtime_ns
        for path in root.rglob("*")
        if path.is_file() and ".git/" not in str(path) and "mlruns" not in str(path)
    }


def test_it_deploys_the_pinned_bytes_and_points_the_alias_to_them(pinned):
    clone, made = pinned
    lines = run(clone)
    assert running(clone) == made.digest
    assert alias(clone).digest == made.digest
    assert lines[-1] == "staging: as environments/staging.yaml says"


def test_run_again_it_changes_nothing(pinned):
    clone, _ = pinned
    run(clone)
    before = everything(clone.root)
    assert len(run(clone)) == 2
    assert everything(clone.root) == before


def test_check_says_what_differs_and_changes_nothing(pinned):
    clone, made = pinned
    before = everything(clone.root)
    short = made.digest[:12]
    assert differences(clone) == [
        f"staging: local runs nothing, pinned is {short}",
        f"staging: registry alias nothing, pinned is {short}",
    ]
    assert everything(clone.root) == before
    with chdir(clone.root), pytest.raises(Refused, match="local runs nothing"):
        list(reconcile.check(clone.params(), Path(), "staging"))


def test_check_is_content_when_all_is_as_pinned(pinned):
    clone, _ = pinned
    run(clone)
    assert differences(clone) == []


def test_an_alias_that_was_moved_by_hand_is_found_and_moved_back(pinned):
    clone, made = pinned
    run(clone)
    clone.retrain(seed=3)
    with chdir(clone.root):
        client, _ = tracking.connect(clone.params().model, Path())
        client.set_registered_model_alias("wine-model", "staging", "2")
    assert [line.split(" alias")[0] for line in differences(clone)] == ["staging: registry"]
    run(clone)
    assert alias(clone).digest == made.digest
    assert differences(clone) == []


def test_bytes_that_were_changed_in_their_place_are_found_and_replaced(pinned):
    clone, made = pinned
    run(clone)
    model = clone.root / HOME / "staging" / made.digest / "model.onnx"
    model.write_bytes(model.read_bytes() + b"!")
    assert "local runs" in differences(clone)[0]
    run(clone)
    assert running(clone) == made.digest


def test_a_bundle_that_no_store_has_leaves_what_runs(pinned):
    clone, made = pinned
    run(clone)
    clone.pin_what_no_store_has("staging", made)
    with pytest.raises(UserError, match="bundle 111111111111: DVC: "):
        run(clone)
    assert running(clone) == made.digest
    assert list((clone.root / ".run" / "bundles").glob(".*.part-*")) == []


def test_a_bundle_that_fails_its_smoke_test_leaves_what_runs(pinned, tmp_path):
    clone, made = pinned
    run(clone)
    broken = tmp_path / "broken"
    shutil.copytree(clone.root / "models" / "bundle", broken)
    (broken / "model.onnx").write_bytes(b"no model")
    with chdir(clone.root), pytest.raises(UserError, match=r"model\.onnx: found"):
        local.deploy(ENDPOINT, made, broken)
    assert running(clone) == made.digest
    assert [p for p in (clone.root / HOME / "staging").iterdir() if p.name.startswith(".")] == []


def test_a_bundle_that_scores_otherwise_than_when_it_was_made_is_not_deployed(pinned, tmp_path):
    import pandas as pd

    from mlops.contract import bundle

    clone, made = pinned
    run(clone)
    other = tmp_path / "other"
    shutil.copytree(clone.root / "models" / "bundle", other)
    reference = pd.read_parquet(other / "reference.parquet")
    (other / "reference.parquet").unlink()
    reference.assign(prediction_0=reference["prediction_0"] + 0.01).to_parquet(
        other / "reference.parquet"
    )
    card = bundle.as_json(bundle.read_card(clone.root / "models" / "bundle"))
    card.pop("files")
    (other / "bundle.json").unlink()
    bundle.write_card(other, card)
    with chdir(clone.root), pytest.raises(UserError, match="reference rows score 0.01 off"):
        local.deploy(ENDPOINT, made, other)
    assert running(clone) == made.digest


def test_on_a_machine_that_never_saw_the_bundle_it_is_registered_from_what_was_fetched(
    pinned, store
):
    clone, made = pinned
    shutil.rmtree(clone.root / "mlruns")
    shutil.copytree(store, clone.root / "mlruns")
    done = clone.command("reconcile", "staging")
    assert done.returncode == 0, done.stderr
    assert "registry alias points to version 1\n" in done.stdout
    show = (
        "from mlflow import MlflowClient; c = MlflowClient('sqlite:///mlruns/mlflow.db');"
        "v = c.get_model_version_by_alias('wine-model', 'staging');"
        "print(v.tags['mlops.git_commit'], *[i.path for i in c.list_artifacts(v.run_id)])"
    )
    said = clone.python("-c", show).stdout.split()
    assert said[0] == made.commit
    assert {"bundle", "evidence"} <= set(said[1:])
    assert clone.command("reconcile", "staging", "--check").returncode == 0


def test_without_dvcs_cache_the_registry_gives_the_same_bytes(pinned):
    clone, made = pinned
    shutil.rmtree(clone.root / ".dvc" / "cache")
    run(clone)
    assert running(clone) == made.digest


def test_when_nothing_is_pinned_nothing_runs(pinned):
    clone, _ = pinned
    run(clone)
    clone.pin("staging", None)
    assert len(differences(clone)) == 2
    run(clone)
    assert running(clone) is None
    assert differences(clone) == []


def test_status_shows_pinned_running_alias_and_age(pinned):
    clone, made = pinned
    with chdir(clone.root):
        before = status.status(clone.params(), Path())
        list(reconcile.run(clone.params(), Path(), "staging"))
        after = status.status(clone.params(), Path())
    short = made.digest[:12]
    assert [row[:4] for row in before[1:]] == [
        ("staging", short, "-", "-"), ("production", "-", "-", "-"),
    ]  # fmt: skip
    assert before[1][5] == "differs: mlops reconcile staging"
    assert after[1][:4] == ("staging", short, short, "version 1")
    assert after[1][5] == ""
    assert after[1][4].endswith("(0 days)")
    assert status.table(after).splitlines()[0].startswith("environment  pinned")


def test_a_bundle_that_the_runtime_cannot_load_is_said_in_one_line(pinned, tmp_path):
    from mlops.contract import bundle

    clone, made = pinned
    garbage = tmp_path / "garbage"
    shutil.copytree(clone.root / "models" / "bundle", garbage)
    card = bundle.as_json(bundle.read_card(garbage))
    card.pop("files")
    for name in ("model.onnx", "bundle.json"):
        (garbage / name).unlink()
    (garbage / "model.onnx").write_bytes(b"no model")
    bundle.write_card(garbage, card)
    with chdir(clone.root), pytest.raises(UserError, match="does not run here: "):
        local.deploy(ENDPOINT, made, garbage)


def test_the_alias_is_the_pinned_model_s_whatever_params_yaml_calls_the_next(pinned):
    clone, made = pinned
    run(clone)
    clone.workspace.change({"model": "another-name"})
    assert differences(clone) == []
    assert len(run(clone)) == 2
    assert made.model == "wine-model"


def test_check_makes_no_experiment_on_a_server_that_has_none(pinned, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    clone, _ = pinned
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'fresh.db'}")
    differences(clone)
    experiments = MlflowClient(f"sqlite:///{tmp_path / 'fresh.db'}").search_experiments()
    assert [experiment.name for experiment in experiments] == ["Default"]


# A second version, and what becomes of it.


def rollout(clone, **changes):
    """Write another rollout into staging's manifest."""
    import yaml

    content = {"steps": [50], "bake_seconds": 0.5, "requests": 20, **changes}
    file = clone.root / "environments" / "staging.yaml"
    above, below = re.split(r"(?ms)^rollout:.*(?=^pin:)", file.read_text())
    file.write_text(f"{above}{yaml.safe_dump({'rollout': content})}{below}")


EASY = {"errors": 0.0, "latency": 1000.0, "drift": 1000.0}
STRICT = {**EASY, "drift": 1e-9}


@pytest.fixture
def second(pinned):
    """Staging runs one version, and pins another one."""
    clone, first = pinned
    rollout(clone, limits=EASY)
    run(clone)
    clone.retrain(seed=3, **{"tune.families": ["linear"]})
    made = clone.judged_pin()
    assert made.digest != first.digest
    clone.pin("staging", made)
    return clone, first, made


def remark(clone):
    with chdir(clone.root):
        return status.status(clone.params(), Path())[1][5]


def test_a_second_version_takes_over_step_by_step(second):
    clone, first, made = second
    lines = run(clone)
    assert f"staging: {made.digest[:12]} answers 50 % beside {first.digest[:12]}" in lines
    assert f"staging: local runs it, before it {first.digest[:12]}" in lines
    assert differences(clone) == []


def test_one_that_breaches_a_limit_is_undone_and_said_to_be_until_it_passes(second):
    clone, first, made = second
    rollout(clone, limits=STRICT)
    before = alias(clone)
    done = clone.command("reconcile", "staging")
    assert done.returncode == 1
    why = f"{made.digest[:12]} undone at 50 %: scores drift by "
    assert why in done.stderr.splitlines()[-1]
    assert running(clone) == first.digest
    assert alias(clone) == before
    assert why in differences(clone)[0]
    assert remark(clone).startswith(f"differs: mlops reconcile staging; {why}")
    rollout(clone, limits=EASY)
    run(clone)
    assert (running(clone), remark(clone)) == (made.digest, "")


def test_a_reverted_pin_takes_over_at_once_whatever_the_limits(second):
    clone, first, _ = second
    run(clone)
    rollout(clone, limits=STRICT, bake_seconds=3600)
    clone.commit("Stricter")
    clone.pin("staging", first)
    lines = run(clone)
    assert f"staging: {first.digest[:12]} ran here before, and takes over at once" in lines
    assert running(clone) == first.digest
    assert differences(clone) == []


def test_a_rollout_that_is_killed_is_ended_by_the_next_run(second):
    clone, first, made = second
    rollout(clone, limits=EASY, bake_seconds=3600)
    command = [sys.executable, "-c", "from mlops.cli import main; main()", "reconcile", "staging"]
    env = {**os.environ, "PYTHONPATH": str(clone.root / "src")}
    with subprocess.Popen(command, cwd=clone.root, env=env, stdout=subprocess.PIPE) as killed:
        assert any(b"answers 50 %" in line for line in killed.stdout)
        # It is said first, then done.
        while "50 %" not in (split := differences(clone)[0]):
            time.sleep(0.05)
        killed.kill()
    assert f"{first.digest[:12]} 50 %, {made.digest[:12]} 50 %" in split
    assert f"rolling out {made.digest[:12]} beside {first.digest[:12]}" in split
    rollout(clone, limits=EASY)
    run(clone)
    assert differences(clone) == []


def test_of_two_that_reconcile_at_once_one_waits_for_the_other(second):
    clone, first, made = second
    command = [sys.executable, "-c", "from mlops.cli import main; main()", "reconcile", "staging"]
    env = {**os.environ, "PYTHONPATH": str(clone.root / "src")}
    both = [
        subprocess.Popen(command, cwd=clone.root, env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(f"before it {first.digest[:12]}" in text for text in said) == 1
    assert differences(clone) == []
    assert running(clone) == made.digest


def test_processes_that_died_are_found_and_started_again(pinned):
    clone, made = pinned
    run(clone)
    pid = Home(clone.root, "staging").address().pid
    os.kill(pid, signal.SIGKILL)
    ended(pid)
    said = f"staging: local runs {made.digest[:12]}, and does not answer"
    assert differences(clone) == [said]
    assert remark(clone) == "does not answer: mlops reconcile staging"
    assert "staging: local runs it again" in run(clone)
    assert differences(clone) == []


def test_on_a_machine_that_started_nothing_no_process_is_missed(pinned):
    clone, _ = pinned
    run(clone)
    stop(clone.root)
    assert differences(clone) == []
    assert "staging: local runs it again" in run(clone)
    assert Home(clone.root, "staging").supervised()
