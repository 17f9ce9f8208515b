"""Reconcile: the world becomes what the manifest says, however often it is run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from mlops import deploy
from mlops.base.errors import Refused, UserError
from mlops.deploy import local
from mlops.deploy.local import control
from mlops.deploy.local.home import HOME, Home
from mlops.deploy.target import Endpoint
from mlops.gitops import promotion, reconcile, status
from mlops.registry import versions
from tests.mlops.deploy.processes import ended, stop
from tests.mlops.gitops.conftest import COMMAND

ENDPOINT = Endpoint("staging", "trips", Path())
SHOWN = """\
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlruns/mlflow.db")
version = client.get_model_version_by_alias("trips-model", "staging")
artifacts = client.list_artifacts(version.run_id)
print(version.tags["mlops.git_commit"], *[item.path for item in artifacts])
"""


@pytest.fixture
def pinned(clone):
    """Staging pins the workspace's bundle; nothing runs yet."""
    pin = clone.judged_pin()
    clone.pin("staging", pin)
    return clone, pin


def run(clone):
    with chdir(clone.root):
        return list(reconcile.run(clone.params(), Path(), "staging"))


def differences(clone):
    with chdir(clone.root):
        return reconcile.differences(clone.params(), Path(), "staging")


def running(clone):
    with chdir(clone.root):
        return next(iter(local.current(ENDPOINT).traffic), None)


def alias(clone):
    return versions.by_alias(clone.root, "trips-model", "staging")


def test_an_environment_s_own_registered_model_gets_the_pinned_bytes_once(pinned):
    clone, pin = pinned
    manifest, model = clone.root / "environments/staging.yaml", "staging.models.trips"
    manifest.write_text(f"model: {model}\n{manifest.read_text()}")
    assert f"staging: registered as {model} version 1" in run(clone)
    version = versions.by_alias(clone.root, model, "staging")
    assert version
    assert (version.number, version.digest) == (1, pin.digest)
    assert alias(clone) is None
    assert differences(clone) == []
    assert f"staging: registered as {model} version 1" in run(clone)


def rows(clone):
    with chdir(clone.root):
        return status.status(clone.params(), Path())


def processes_of(clone):
    """The scoring processes' numbers, by digest."""
    report = control.status(Home(clone.root, "staging"))
    return {digest: process.pid for digest, process in report.bundles.items()}


def everything(root):
    return {
        str(path.relative_to(root)): path.stat().st_mtime_ns
        for path in root.rglob("*")
        if path.is_file() and ".git/" not in str(path) and "mlruns" not in str(path)
    }


def test_it_deploys_the_pinned_bytes_points_the_alias_and_then_changes_nothing(pinned):
    clone, pin = pinned
    short = pin.digest[:12]
    before = everything(clone.root)
    assert differences(clone) == [
        f"staging: local runs nothing, pinned is {short}",
        f"staging: registry alias nothing, pinned is {short}",
    ]
    assert [row[:4] for row in rows(clone)[1:]] == [
        ("staging", short, "-", "-"), ("production", "-", "-", "-"),
    ]  # fmt: skip
    assert rows(clone)[1][-1] == "differs: mlops reconcile staging"
    with chdir(clone.root), pytest.raises(Refused, match="local runs nothing"):
        list(reconcile.check(clone.params(), Path(), "staging"))
    assert everything(clone.root) == before

    assert run(clone)[-1] == "staging: as environments/staging.yaml says"
    assert (running(clone), alias(clone).digest) == (pin.digest, pin.digest)
    assert differences(clone) == []
    row = rows(clone)[1]
    assert (*row[:4], row[6]) == ("staging", short, short, "version 1", "")
    assert row[4].endswith("(0 days)")
    assert row[5].startswith("http://127.0.0.1:")
    with chdir(clone.root):
        (line,) = reconcile.check(clone.params(), Path(), "staging")
    assert line.endswith(f"says, answers at {row[5]}")
    assert status.table([status.HEAD, row]).startswith("environment  pinned")

    before = everything(clone.root)
    assert len(run(clone)) == 2
    # The registered model is the pin's, whatever params.yaml calls the next one.
    clone.workspace.change({"model": "another-name"})
    assert differences(clone) == []
    assert {**everything(clone.root), "params.yaml": 0} == {**before, "params.yaml": 0}


def test_what_was_moved_or_changed_by_hand_is_found_and_mended(pinned):
    clone, pin = pinned
    run(clone)
    client = MlflowClient(f"sqlite:///{clone.root / 'mlruns/mlflow.db'}")
    client.set_registered_model_alias("trips-model", "staging", "2")
    assert [line.split(" alias")[0] for line in differences(clone)] == ["staging: registry"]
    model = clone.root / HOME / "staging" / pin.digest / "model.onnx"
    model.write_bytes(model.read_bytes() + b"!")
    assert "local runs" in differences(clone)[0]
    run(clone)
    assert (running(clone), alias(clone).digest) == (pin.digest, pin.digest)
    assert differences(clone) == []
    clone.pin_what_no_store_has("staging", pin)
    with pytest.raises(UserError, match="bundle 111111111111: DVC's cache: "):
        run(clone)
    assert running(clone) == pin.digest
    assert list((clone.root / ".run/bundles").glob(".*.part-*")) == []


def test_another_place_of_features_is_found_and_reaches_what_runs(pinned):
    clone, pin = pinned
    run(clone)
    before = processes_of(clone)
    file = clone.root / "environments/staging.yaml"
    file.write_text(f"serving: {{stale_after: 6}}\n{file.read_text()}")
    assert differences(clone) == [
        "staging: local: serving: runs with --store embedded --features "
        ".run/features/staging.sqlite --stale-after 48, expected --store embedded --features "
        ".run/features/staging.sqlite --stale-after 6"
    ]
    assert rows(clone)[1][-1] == "differs: mlops reconcile staging"
    assert "staging: local runs it again, as the manifest says now" in run(clone)
    assert (running(clone), differences(clone)) == (pin.digest, [])
    after = processes_of(clone)
    assert before[pin.digest] != after[pin.digest]
    words = Path(f"/proc/{after[pin.digest]}/cmdline").read_text().split("\0")
    assert words[words.index("--stale-after") + 1] == "6"
    run(clone)
    assert processes_of(clone) == after


def test_on_a_machine_that_never_saw_the_bundle_it_is_registered_from_what_was_fetched(
    pinned, store
):
    clone, pin = pinned
    shutil.rmtree(clone.root / "mlruns")
    shutil.copytree(store, clone.root / "mlruns")
    code, out, err = clone.command("reconcile", "staging")
    assert code == 0, err
    assert "registry alias points to version 1\n" in out
    # In a process of its own: MLflow keeps its connection to the store that was deleted.
    done = subprocess.run(
        [sys.executable, "-c", SHOWN], cwd=clone.root, capture_output=True, text=True, check=True
    )
    commit, *artifacts = done.stdout.split()
    assert commit == pin.commit
    assert {"bundle", "evidence"} <= set(artifacts)
    assert clone.command("reconcile", "staging", "--check")[0] == 0


def test_without_dvcs_cache_the_registry_gives_the_bytes_and_without_a_pin_nothing_runs(pinned):
    clone, pin = pinned
    shutil.rmtree(clone.root / ".dvc" / "cache")
    clone.pin("staging", pin, version=41)
    (line,) = [line for line in run(clone) if "registry alias" in line]
    assert "points to version 1 (registered here; the pin says version 41)" in line
    assert running(clone) == pin.digest
    clone.pin("staging", None)
    assert len(differences(clone)) == 2
    run(clone)
    assert running(clone) is None
    assert differences(clone) == []
    assert rows(clone)[1][1:6] == ("-", "-", "-", "-", "-")


def test_a_disk_that_is_full_leaves_what_runs(pinned):
    """No file may grow beyond a few blocks: the bundle can't be written whole."""
    clone, _ = pinned
    run(clone)
    shutil.rmtree(clone.root / ".run/bundles")
    home = clone.root / HOME / "staging"
    before = (home / "state.json").read_text()
    next(home.rglob("model.onnx")).write_bytes(b"changed, so that it must be deployed again")
    limited = "trap '' XFSZ; ulimit -f 8; exec \"$@\""
    done = subprocess.run(
        ["bash", "-c", limited, "-", *COMMAND, "reconcile", "staging"], cwd=clone.root,
        env={**os.environ, "PYTHONPATH": str(clone.root / "src")}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert (home / "state.json").read_text() == before
    run(clone)
    assert differences(clone) == []


def test_check_makes_no_experiment_on_a_server_that_has_none(pinned, tmp_path, monkeypatch):
    clone, _ = pinned
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'fresh.db'}")
    differences(clone)
    experiments = MlflowClient(f"sqlite:///{tmp_path / 'fresh.db'}").search_experiments()
    assert [experiment.name for experiment in experiments] == ["Default"]


def test_processes_that_died_are_found_and_started_again(pinned):
    clone, pin = pinned
    run(clone)
    pid = Home(clone.root, "staging").address().pid
    os.kill(pid, signal.SIGKILL)
    ended(pid)
    difference = f"staging: local runs {pin.digest[:12]}, and does not answer"
    assert differences(clone) == [difference]
    assert rows(clone)[1][-1] == "does not answer: mlops reconcile staging"
    assert "staging: local runs it again" in run(clone)
    assert differences(clone) == []
    # What another machine runs is not known to answer.
    stop(clone.root)
    unseen = "is not seen to answer from here"
    assert differences(clone) == [f"staging: local runs {pin.digest[:12]}, and {unseen}"]
    assert rows(clone)[1][-1] == f"{unseen}: mlops reconcile staging"
    assert "staging: local runs it again" in run(clone)
    assert Home(clone.root, "staging").supervised()


# A second version, and what becomes of it.


EASY = {"errors": 0.0, "latency": 1000.0, "drift": 1000.0}
STRICT = {**EASY, "drift": 1e-9}


def rollout(clone, **changes):
    """Write another rollout into staging's manifest."""
    file = clone.root / "environments/staging.yaml"
    content = yaml.safe_load(file.read_text())
    pin = content.pop("pin")
    content["rollout"] = {"steps": [50], "bake_seconds": 0.5, "requests": 20, **changes}
    file.write_text(yaml.safe_dump({**content, "pin": pin}, sort_keys=False))


@pytest.fixture
def second(pinned):
    """Staging runs one version, and pins another one."""
    clone, first = pinned
    rollout(clone, limits=EASY)
    run(clone)
    pin = clone.challenge().judged_pin()
    assert pin.digest != first.digest
    clone.pin("staging", pin)
    return clone, first, pin


def test_a_second_version_takes_over_step_by_step_and_the_first_one_back_at_once(second):
    clone, first, pin = second
    lines = run(clone)
    assert f"staging: {pin.digest[:12]} answers 50 % beside {first.digest[:12]}" in lines
    assert f"staging: local runs it, before it {first.digest[:12]}" in lines
    assert differences(clone) == []
    rollout(clone, limits=STRICT, bake_seconds=3600)
    clone.commit("Stricter")
    clone.pin("staging", first)
    lines = run(clone)
    assert f"staging: {first.digest[:12]} ran here before, and takes over at once" in lines
    assert running(clone) == first.digest
    assert differences(clone) == []


def test_one_that_breaches_a_limit_is_undone_and_reported_until_it_passes(second):
    clone, first, pin = second
    # Enough reference rows for ten bins, which two families of models never fill alike.
    rollout(clone, limits=STRICT, requests=200)
    before = alias(clone)
    code, _, err = clone.command("reconcile", "staging")
    assert code == 1
    why = f"{pin.digest[:12]} undone at 50 %: scores drift by "
    assert why in err.splitlines()[-1]
    assert (running(clone), alias(clone)) == (first.digest, before)
    assert why in differences(clone)[0]
    assert rows(clone)[1][-1].startswith(f"differs: mlops reconcile staging; {why}")
    rollout(clone, limits=EASY)
    run(clone)
    assert (running(clone), rows(clone)[1][-1]) == (pin.digest, "")


def test_why_another_version_does_not_run_is_said_until_the_pin_is_put_back(second, monkeypatch):
    clone, first, pin = second

    def refused(*_):
        raise UserError("this machine: its reference rows score 1 off")

    with monkeypatch.context() as patched:
        patched.setattr(local, "deploy", refused)
        with pytest.raises(UserError):
            run(clone)
    why = f"{pin.digest[:12]} not deployed: this machine: its reference rows score 1 off"
    assert rows(clone)[1][-1] == f"differs: mlops reconcile staging; {why}"
    clone.pin("staging", first)
    assert rows(clone)[1][-1] == ""
    run(clone)
    with chdir(clone.root):
        assert local.current(ENDPOINT).note == ""


def test_a_rollout_that_fails_half_way_keeps_the_note_of_what_ran_before(second, monkeypatch):
    clone, first, pin = second
    with monkeypatch.context() as patched:
        patched.setattr(local, "health", lambda *_: (_ for _ in ()).throw(UserError("away")))
        with pytest.raises(UserError, match="away"):
            run(clone)
    with chdir(clone.root):
        note = local.current(ENDPOINT).note
    assert note == f"rolling out {pin.digest[:12]} beside {first.digest[:12]}"


def test_a_version_that_refuses_what_clients_send_waits_for_a_reason_in_the_manifest(pinned):
    clone, pin = pinned
    run(clone)
    second = clone.pin_with_card(pin, "staging", labels=["early", "late"]).name
    change = f"staging: clients of bundle {pin.digest[:12]}: classes: early, late, was 0, 1"
    with pytest.raises(Refused) as refused:
        run(clone)
    assert str(refused.value) == (
        f"{change}; declare them OPTIONAL or RETIRED, or say `breaking: REASON` in "
        "environments/staging.yaml"
    )
    assert running(clone) == pin.digest
    file = clone.root / "environments/staging.yaml"
    file.write_text(file.read_text().replace("pin:", "breaking: no client reads classes\npin:"))
    assert change in run(clone)
    assert running(clone) == second


# On a machine that is gone when the job ends, and with what is not set or does not answer.


@pytest.fixture
def hosted(monkeypatch):
    monkeypatch.setenv("RUNNER_ENVIRONMENT", "github-hosted")


def test_on_a_hosted_runner_a_rollout_is_rehearsed_and_nothing_is_said_to_run(
    pinned, hosted, forge
):
    clone, first = pinned
    rollout(clone, limits=EASY)
    second = clone.challenge().judged_pin()
    clone.pin("staging", second)
    one, other = first.digest[:12], second.digest[:12]
    before = alias(clone)
    lines = [line.removeprefix("staging: ") for line in run(clone)]
    assert f"rehearsal: {one}, pinned before, runs first" in lines
    assert f"rehearsal: {other} answers 50 % beside {one}" in lines
    assert any(line.startswith(f"rehearsal: {other} passed: ") for line in lines)
    assert lines[-1] == (
        "rehearsed on this runner, and ended: nothing runs after this job, no alias was moved"
    )
    assert alias(clone) == before
    assert not Home(clone.root, "staging").supervised()
    assert not (clone.root / HOME / "staging").exists()

    cure = "a hosted runner keeps no process; name another `target:` in environments/staging.yaml"
    with chdir(clone.root):
        with pytest.raises(Refused) as refused:
            list(reconcile.check(clone.params(), Path(), "staging"))
        assert str(refused.value) == f"staging: local runs nothing, pinned is {other} ({cure})"
        row = rows(clone)[1]
        assert (row[2:4], row[6]) == (("-", "-"), f"differs: mlops reconcile staging; {cure}")
        with pytest.raises(Refused, match="staging runs nothing, pinned is .* keeps no process"):
            promotion.promote(Path(), "staging", "production", forge, lambda _: ("", ""))
        promotion.promote(Path(), "staging", "production", forge, lambda _: ("", ""), "we know")
    assert "Overridden: we know (not met: staging runs nothing" in forge.opened[-1][3]

    rollout(clone, limits=STRICT, requests=200)
    with pytest.raises(Refused, match="undone at 50 %"):
        run(clone)
    assert not (clone.root / HOME / "staging").exists()
    clone.pin("staging", None)
    assert run(clone) == ["staging: pins nothing, and nothing runs"]
    assert differences(clone) == []


def test_a_rehearsal_says_when_what_was_pinned_before_is_lost_and_ends_when_it_fails(
    pinned, hosted, monkeypatch
):
    clone, pin = pinned
    clone.pin_what_no_store_has("staging", pin)
    clone.pin("staging", pin)
    lines = run(clone)
    assert lines[1].startswith("staging: rehearsal: not compared with 111111111111, pinned before:")
    assert "staging: rehearsal: local runs it" in lines
    monkeypatch.setattr(reconcile, "_deploy", lambda *_: iter([1 / 0]))
    with pytest.raises(ZeroDivisionError):
        run(clone)
    assert not (clone.root / HOME / "staging").exists()


def test_a_registry_that_ends_with_the_job_is_neither_written_nor_compared(
    pinned, hosted, monkeypatch
):
    clone, pin = pinned
    # As for a target elsewhere.
    monkeypatch.setattr(deploy, "ends_with_job", lambda _: False)
    line = "staging: no registry alias: without MLFLOW_TRACKING_URI it ends with this job"
    assert line in run(clone)
    assert alias(clone) is None
    assert running(clone) == pin.digest
    with chdir(clone.root):
        (line,) = reconcile.check(clone.params(), Path(), "staging")
    assert line.endswith("; no registry outlives this job")
    assert rows(clone)[1][6] == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{clone.root / 'mlruns/mlflow.db'}")
    assert differences(clone) == [f"staging: registry alias nothing, pinned is {pin.digest[:12]}"]


def test_what_a_target_or_a_registry_does_not_say_is_not_as_pinned(pinned, monkeypatch):
    clone, _ = pinned
    run(clone)

    def away(*_):
        raise UserError("does not answer here")

    for module, name in ((versions, "by_alias"), (local, "current")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, away)
            with chdir(clone.root), pytest.raises(UserError, match="does not answer here"):
                list(reconcile.check(clone.params(), Path(), "staging"))
            staging, production = rows(clone)[1:]
            for row in (staging, production):
                assert "no answer" in row
                assert row[6].startswith("does not answer here")
            assert "differs: mlops reconcile staging" in staging[6]
    assert rows(clone)[1][6] == ""


def test_variables_that_a_target_needs_are_asked_for_before_anything_runs(pinned, monkeypatch):
    clone, _ = pinned
    monkeypatch.setenv("MLOPS_BUNDLE_STORE", " ")
    monkeypatch.delenv("MLOPS_SERVING_IMAGE", raising=False)
    file = clone.root / "environments/staging.yaml"
    file.write_text(file.read_text().replace("target: local", "target: kubernetes"))
    with pytest.raises(UserError) as error:
        run(clone)
    assert str(error.value) == (
        "environments/staging.yaml: target: kubernetes needs MLOPS_BUNDLE_STORE, "
        "MLOPS_SERVING_IMAGE, found nothing; see 'What a deployment needs' in docs/gitops.md"
    )
    assert not (clone.root / ".run/bundles").exists()


@pytest.mark.nightly
def test_a_rollout_that_is_killed_is_ended_by_the_next_run(second):
    clone, first, pin = second
    rollout(clone, limits=EASY, bake_seconds=3600)
    killed = clone.start("reconcile", "staging")
    assert any("answers 50 %" in line for line in killed.stdout)
    # The line comes first, then the shares.
    while "50 %" not in (split := differences(clone)[0]):
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    assert all(f"{digest[:12]} 50 %" in split for digest in (first.digest, pin.digest))
    assert f"rolling out {pin.digest[:12]} beside {first.digest[:12]}" in split
    rollout(clone, limits=EASY)
    run(clone)
    assert differences(clone) == []


@pytest.mark.nightly
def test_of_two_that_reconcile_at_once_one_waits_for_the_other(second):
    clone, first, pin = second
    both = [clone.start("reconcile", "staging") for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(f"before it {first.digest[:12]}" in text for text in outputs) == 1
    assert differences(clone) == []
    assert running(clone) == pin.digest
