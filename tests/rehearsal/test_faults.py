"""Whatever breaks in the middle of whatever verb: nothing is lost, doubled or half done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mlops.base.files import folder_digest
from mlops.contract import params
from mlops.gitops import reconcile
from tests import events
from tests.forge_server import Fault
from tests.rehearsal.verbs import Bench, Notes, killed_after
from tests.rehearsal.world import say

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
RELEASE = ("retrain.yml", "release", "mlops release staging")
PUBLISH = ("retrain.yml", "release", "mlops publish")
GATE = ("retrain.yml", "release", "mlops gate")
REPORT = ("retrain.yml", "release", "mlops report")
TRAIN = ("retrain.yml", "release", "make train")
PROMOTE = ("promote.yml", "promote", "mlops promote staging production")
RECONCILE = ("deploy.yml", "reconcile", "mlops reconcile")
CHECK = ("drift.yml", "drift", "mlops reconcile staging")
COMMENT = ("comment.yml", "comment", "mlops comment")
# When the power goes, as a share of the time that the verb takes undisturbed.
MOMENT = 0.55


@pytest.fixture(scope="module")
def model():
    return "flights-late-and-broken"


@pytest.fixture
def undeployed(registry, model):
    """Lets the registry forget that staging has anything; what runs is the runner's folder's."""

    def forget():
        registry.delete_registered_model_alias(model, "staging")

    return forget


@pytest.fixture(scope="module")
def notes():
    kept = Notes([])
    yield kept
    say(f"{len(kept.lines)} faults:\n" + "\n".join(kept.lines))


@pytest.fixture(scope="module")
def durations():
    """How long each verb takes when nothing disturbs it, in seconds."""
    return {}


@pytest.fixture(scope="module")
def trained(world, durations):
    """The runner after the first release, not yet merged."""
    commit = world.git("rev-parse", "HEAD")
    event = events.push(events.NOWHERE, commit).with_context(
        sha=commit, api_url=f"{world.forge.url}/api/v3", server_url=world.forge.url
    )
    runs = world.happens(event, commit)
    assert runs.results == {"release": "success"}, runs.out
    durations.update({step.name: step.seconds for step in runs["release"].steps})
    return Bench.keep(world, event, "trained")


@pytest.fixture(scope="module")
def untrained(world, trained):
    """The runner before anything was trained, with no cache and no remote."""
    trained.fresh()
    for name in (
        "data",
        "models",
        "reports",
        "verdict",
        "logs",
        ".dvc/cache",
        "dvc.lock",
    ):
        place = world.runner / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    (world.runner / ".dvc" / "config.local").unlink()
    return Bench.keep(world, trained.event, "untrained")


@pytest.fixture(scope="module")
def released(world, trained):
    """The runner when staging pins the bundle and does not run it yet."""
    world.squash("release/staging", "Release")
    commit = world.git("rev-parse", "HEAD")
    trained.fresh()
    _checkout(world, commit)
    bench = Bench.keep(world, trained.event, "released")
    # What follows proposes again what the first proposal was.
    world.git("push", "--quiet", "--force", "origin", f"{commit}~1:main")
    return bench


@pytest.fixture(scope="module")
def staged(world, released):
    """The runner when staging runs what it pins, and main says so."""
    released.fresh()
    assert released.verb(*RECONCILE, ENVIRONMENT="staging").code == 0
    return Bench.keep(world, released.event, "staged")


def _checkout(world, commit):
    for command in (f"git fetch -q origin {commit}", f"git checkout -q -f {commit}"):
        subprocess.run(command.split(), cwd=world.runner, check=True)


def digest(world, place="models/bundle"):
    return folder_digest(world.runner / place)


def branch(world, name):
    """The commits of a branch on top of main, and its pin."""
    listed = world.git("ls-remote", "origin", f"refs/heads/{name}").split()
    if not listed:
        return 0, None
    world.git("fetch", "--quiet", "origin", name, "main")
    count = int(world.git("rev-list", "--count", "FETCH_HEAD", "--not", "origin/main"))
    environment = name.split("/")[1]
    text = world.git("show", f"{listed[0]}:environments/{environment}.yaml")
    return count, yaml.safe_load(text)["pin"]


def open_on(world, name):
    return [p for p in world.forge.pulls if p.branch == name and p.state == "open"]


def forget(world, name):
    """As if nothing had been proposed."""
    if world.git("ls-remote", "origin", f"refs/heads/{name}"):
        world.git("push", "--quiet", "origin", "--delete", name)
    for pull in open_on(world, name):
        world.forge.close(pull.number, "closed")


def differences(world):
    """What the daily check would find in staging."""
    root = world.runner
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", world.variables["MLFLOW_TRACKING_URI"])
        return reconcile.differences(params.load(root), root, "staging")


def leftovers(world):
    return [
        str(path)
        for folder in ("data", "models", "reports", "verdict", ".run")
        for path in (world.runner / folder).rglob(".*.part*")
    ]


# Kills. Every verb is killed at two moments; the next run of it must end as if nothing had been.


def killed_then_run(bench, verb, notes, undisturbed, prepare=lambda: None, **env):
    for earlier in (1.0, 0.7, 0.4):
        prepare()
        seconds = earlier * MOMENT * undisturbed
        ended = bench.fresh().verb(*verb, watch=killed_after(seconds), **env)
        if ended.code == -9:
            break
    assert ended.code == -9, f"it always ended before: {ended}"
    notes(f"power lost in the middle of `{verb[2]}`", ended)
    again = bench.verb(*verb, **env)
    assert again.code == 0, again.out
    return again


def undisturbed(durations, bench, verb, **env):
    """How long a verb takes when nothing disturbs it."""
    if verb[2] not in durations:
        ended = bench.fresh().verb(*verb, **env)
        assert ended.code == 0, ended.out
        durations[verb[2]] = ended.seconds
    return durations[verb[2]]


def test_power_lost_while_training_costs_only_the_stage_it_hit(
    world, untrained, trained, notes, durations
):
    whole = folder_digest(trained.kept / "models" / "bundle")
    seconds = undisturbed(durations, untrained, TRAIN)
    killed_then_run(untrained, TRAIN, notes, seconds)
    assert digest(world) == whole
    assert leftovers(world) == []


def test_power_lost_while_publishing(world, trained, notes, durations):
    remote = world.base / "remote"

    def empty():
        shutil.rmtree(remote, ignore_errors=True)

    empty()
    seconds = undisturbed(durations, trained, PUBLISH)
    killed_then_run(trained, PUBLISH, notes, seconds, empty)
    shutil.rmtree(world.runner / ".dvc" / "cache")
    shutil.rmtree(world.runner / "models")
    pulled = subprocess.run(
        [".venv/bin/dvc", "pull", "models/bundle"],
        cwd=world.runner, capture_output=True, text=True, check=False,
        # A colleague's machine knows nothing of what this one remembers of the remote.
        env={**os.environ, "DVC_SITE_CACHE_DIR": str(world.base / "colleague")},
    )  # fmt: skip
    assert pulled.returncode == 0, pulled.stderr
    assert digest(world) == folder_digest(trained.kept / "models" / "bundle")


@pytest.mark.parametrize("verb", [GATE, REPORT])
def test_power_lost_while_judging_or_reporting(world, trained, notes, durations, verb):
    seconds = undisturbed(durations, trained, verb)
    killed_then_run(trained, verb, notes, seconds)
    said = json.loads((world.runner / "verdict" / "verdict.json").read_text())
    assert said["accepted"]
    assert leftovers(world) == []


def killed_while_proposing(name, bench, verb, notes, durations):
    """One branch with one commit and one open pull request, whenever the power went."""
    world, prepare = bench.world, partial(forget, bench.world, name)
    prepare()
    seconds = undisturbed(durations, bench, verb)
    killed_then_run(bench, verb, notes, seconds, prepare)
    commits, pin = branch(world, name)
    assert (commits, pin["digest"]) == (1, digest(world))
    assert len(open_on(world, name)) == 1


def test_power_lost_while_releasing_leaves_one_proposal(world, trained, notes, durations):
    killed_while_proposing("release/staging", trained, RELEASE, notes, durations)


def test_power_lost_while_deploying(world, released, notes, durations, undeployed):
    seconds = undisturbed(durations, released, RECONCILE, ENVIRONMENT="staging")
    killed_then_run(released, RECONCILE, notes, seconds, undeployed, ENVIRONMENT="staging")
    assert differences(world) == []
    assert leftovers(world) == []


def test_power_lost_while_promoting_leaves_one_proposal(world, staged, notes, durations):
    _main_is(world, staged)
    killed_while_proposing("promote/production", staged, PROMOTE, notes, durations)


def test_power_lost_while_commenting_leaves_one_comment(world, trained, notes, durations):
    number = world.forge.open("feature").number
    env = _about(world, trained, "feature")
    seconds = undisturbed(durations, trained, COMMENT, **env)
    killed_then_run(trained, COMMENT, notes, seconds, **env)
    assert len(world.forge.on(number)) == 1


def _about(world, bench, branch):
    """What the comment's job knows, and the artifact that it has downloaded."""
    temp = world.base / "artifact"
    place = temp / "judged" / "verdict"
    if not place.exists():
        shutil.copytree(bench.kept / "verdict", place)
    commit = world.git("rev-parse", "HEAD")
    return {
        "HEAD": f"acme:{branch}", "COMMIT": commit, "STATE": "success", "RUNNER_TEMP": str(temp),
    }  # fmt: skip


def _main_is(world, bench):
    """Main pins on the forge what the runner's checkout pins."""
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=bench.kept, capture_output=True, text=True, check=True
    ).stdout.strip()
    world.git("fetch", "--quiet", str(bench.kept), head)
    world.git("push", "--quiet", "--force", "origin", f"{head}:main")


# The forge misbehaves.


STUMBLES = {
    "the forge answers 502 twice": Fault("POST .*/pulls", status=502, times=2),
    "the forge says 429": Fault("POST .*/pulls", status=429, headers={"Retry-After": "1"}),
    "the answer is lost after a pull request was opened": Fault("POST .*/pulls", after=True),
    "the connection drops on a status": Fault("POST .*/statuses", status=0, times=2),
}


def test_a_forge_that_stumbles_ends_with_one_pull_request(world, trained, notes):
    """Two runs: in the first it stumbles time and again, in the second an answer is lost."""
    first, second = list(STUMBLES.items())[:2], list(STUMBLES.items())[2:]
    for faults in (first, second):
        forget(world, "release/staging")
        for _, fault in faults:
            world.forge.fail(fault)
        ended = trained.fresh().verb(*RELEASE)
        for name, _ in faults:
            notes(name, ended)
        assert ended.code == 0, ended.out
        assert len(open_on(world, "release/staging")) == 1
        assert not world.forge.to_fail


def test_a_permission_that_is_missing_is_named_and_the_next_run_completes(world, trained, notes):
    forget(world, "release/staging")
    trained.fresh()
    for permission in ("pull-requests", "statuses"):
        world.forge.permissions.discard(permission)
        ended = trained.verb(*RELEASE)
        world.forge.permissions.add(permission)
        notes(f"the token may not write {permission}", ended)
        assert ended.code == 2
        assert f"permissions: {permission}: write" in ended.last
    assert trained.verb(*RELEASE).code == 0
    assert len(open_on(world, "release/staging")) == 1


def test_a_protected_branch_is_said_and_opens_nothing(world, trained, notes):
    forget(world, "release/staging")
    hook = world.origin / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'protected' >&2\nexit 1\n")
    hook.chmod(0o755)
    ended = trained.fresh().verb(*RELEASE)
    hook.unlink()
    notes("the branch is protected against the bot", ended)
    assert ended.code == 2
    assert ended.last.startswith("error: git push")
    assert open_on(world, "release/staging") == []


def test_a_git_server_that_is_away_is_said_and_the_next_run_completes(world, trained, notes):
    forget(world, "release/staging")
    away = world.origin.with_name("away.git")
    world.origin.rename(away)
    ended = trained.fresh().verb(*RELEASE)
    away.rename(world.origin)
    notes("the Git server is away", ended)
    assert ended.code == 2
    assert ended.last.startswith("error: git ")
    assert trained.verb(*RELEASE).code == 0


# The stores are away, or have been tampered with.


def test_a_tracking_server_that_is_away_releases_nothing(world, trained, notes):
    forget(world, "release/staging")
    ended = trained.fresh().verb(*RELEASE, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    notes("the tracking server is away", ended)
    assert ended.code == 2
    assert ended.last.startswith("error: MLFLOW_TRACKING_URI: http://127.0.0.1:9 does not answer")
    assert open_on(world, "release/staging") == []


def test_a_remote_that_is_away_stops_publishing_with_a_line(world, trained, notes):
    trained.fresh()
    remote = world.base / "remote"
    remote.rename(remote.with_name("remote-away"))
    remote.write_text("no folder")
    ended = trained.verb(*PUBLISH)
    remote.unlink()
    remote.with_name("remote-away").rename(remote)
    notes("DVC's remote is away", ended)
    assert ended.code == 2
    assert ended.last.startswith("error: DVC remote 'remote'")
    assert trained.verb(*PUBLISH).code == 0


@contextmanager
def tampered_with(world, *folders):
    """Every copy of the model in these folders is changed by one byte, and then as it was."""
    wanted = (world.runner / "models" / "bundle" / "model.onnx").read_bytes()
    found = [path for folder in folders for path in folder.rglob("*")]
    copies = [path for path in found if path.is_file() and path.read_bytes() == wanted]
    assert len(copies) >= len(folders)
    for path in copies:
        path.chmod(0o644)
        path.write_bytes(wanted[:-1] + b"!")
    yield
    for path in copies:
        path.write_bytes(wanted)


@pytest.fixture
def artifacts(mlflow, registry, model):
    """Where the tracking server keeps this model's files."""
    return mlflow / "artifacts" / registry.get_experiment_by_name(model).experiment_id


def test_a_model_tampered_with_in_every_store_is_not_deployed(world, released, notes, artifacts):
    released.fresh()
    shutil.rmtree(world.base / "remote", ignore_errors=True)
    with tampered_with(world, world.runner / ".dvc", artifacts):
        ended = released.verb(*RECONCILE, ENVIRONMENT="staging")
    notes("the model was tampered with in cache and registry", ended)
    assert ended.code == 2
    assert "expected" in ended.last
    assert not (world.runner / ".run" / "local" / "staging" / "state.json").exists()


def test_a_model_tampered_with_in_one_store_comes_from_the_other(world, released, notes):
    released.fresh()
    shutil.rmtree(world.base / "remote", ignore_errors=True)
    with tampered_with(world, world.runner / ".dvc"):
        ended = released.verb(*RECONCILE, ENVIRONMENT="staging")
    notes("the model was tampered with in DVC's cache", ended)
    assert ended.code == 0, ended.out
    assert differences(world) == []


def test_running_bytes_that_are_changed_are_found_and_replaced(world, staged, notes):
    staged.fresh()
    model = next((world.runner / ".run" / "local" / "staging").rglob("model.onnx"))
    model.write_bytes(model.read_bytes() + b"!")
    ended = staged.verb(*CHECK)
    notes("the running model was changed in its place", ended)
    assert ended.code == 1
    assert "staging: local runs" in ended.last
    assert staged.verb(*RECONCILE, ENVIRONMENT="staging").code == 0
    assert differences(world) == []


def test_a_holdout_that_is_changed_before_the_gate_is_refused(world, trained, notes):
    trained.fresh()
    path = world.runner / "data" / "features" / "holdout.parquet"
    rows = pd.read_parquet(path)
    path.unlink()
    rows.head(1000).to_parquet(path, index=False)
    ended = trained.verb(*GATE)
    notes("the holdout was changed", ended)
    assert ended.code == 1
    assert "holdout.parquet: found digest" in ended.last


def test_a_model_that_is_changed_after_the_gate_is_not_released(world, trained, notes):
    trained.fresh()
    forget(world, "release/staging")
    model = world.runner / "models" / "bundle" / "model.onnx"
    text = model.read_bytes()
    model.unlink()
    model.write_bytes(text + b"!")
    ended = trained.verb(*RELEASE)
    notes("the model was changed after the gate", ended)
    assert ended.code == 2
    assert open_on(world, "release/staging") == []


def test_a_verdict_that_is_cut_short_releases_nothing(world, trained, notes):
    trained.fresh()
    path = world.runner / "verdict" / "verdict.json"
    path.write_text(path.read_text()[:100])
    ended = trained.verb(*RELEASE)
    notes("the verdict was cut short", ended)
    assert ended.code == 2
    assert "verdict.json" in ended.last


def test_a_manifest_that_is_broken_deploys_nothing_and_says_where(world, staged, notes):
    staged.fresh()
    path = world.runner / "environments" / "staging.yaml"
    path.write_text(path.read_text().replace("target:", "traget:"))
    ended = staged.verb(*RECONCILE, ENVIRONMENT="staging")
    notes("the manifest is misspelt", ended)
    assert ended.code == 2
    assert "environments/staging.yaml: traget: unknown key; did you mean 'target'?" in ended.last


def test_a_disk_that_is_full_leaves_what_runs(world, staged, notes):
    """No file may grow beyond a block: the bundle can't be written whole."""
    staged.fresh()
    shutil.rmtree(world.runner / ".run" / "bundles")
    home = world.runner / ".run" / "local" / "staging"
    before = (home / "state.json").read_text()
    model = next(home.rglob("model.onnx"))
    model.write_bytes(b"changed, so that it must be deployed again")
    limit = Path(world.base) / "limit.sh"
    limit.write_text("trap '' XFSZ\nulimit -f 8\n")
    ended = staged.verb(*RECONCILE, ENVIRONMENT="staging", BASH_ENV=str(limit))
    notes("the disk is full", ended)
    assert ended.code != 0
    assert (home / "state.json").read_text() == before
    assert staged.verb(*RECONCILE, ENVIRONMENT="staging").code == 0
    assert leftovers(world) == []


# Races.


def _together(*calls):
    ended = [None] * len(calls)

    def run(number):
        ended[number] = calls[number]()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


def test_two_releases_at_once_end_in_one_proposal(world, trained, notes):
    forget(world, "release/staging")
    trained.fresh()
    both = _together(*[lambda: trained.verb(*RELEASE)] * 2)
    for ended in both:
        notes("two releases at once", ended)
    assert [ended.code for ended in both] == [0, 0], [ended.out for ended in both]
    commits, pin = branch(world, "release/staging")
    assert (commits, pin["digest"]) == (1, digest(world))
    assert len(open_on(world, "release/staging")) == 1


def test_two_comments_at_once_end_as_one(world, trained, notes):
    number = world.forge.open("racing").number
    env = _about(world, trained, "racing")
    trained.fresh()
    both = _together(*[lambda: trained.verb(*COMMENT, **env)] * 2)
    for ended in both:
        notes("two comments at once", ended)
    assert [ended.code for ended in both] == [0, 0], [ended.out for ended in both]
    assert len(world.forge.on(number)) == 1


def test_two_deployments_at_once_end_as_pinned(world, released, notes, undeployed):
    undeployed()
    released.fresh()
    both = _together(*[lambda: released.verb(*RECONCILE, ENVIRONMENT="staging")] * 2)
    for ended in both:
        notes("two deployments at once", ended)
    assert [ended.code for ended in both] == [0, 0], [ended.out for ended in both]
    assert differences(world) == []
    assert leftovers(world) == []


def test_at_least_twenty_five_faults_were_injected(notes):
    assert len(notes.lines) >= 25
