"""Whatever breaks in the middle of whatever verb: nothing is lost, doubled or half done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import yaml

from mlops.base.files import folder_digest
from mlops.contract import params
from mlops.gitops import reconcile
from tests import events
from tests.rehearsal.verbs import Bench, killed_after

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(900)]
PREPARE = ("retrain.yml", "build", "mlops release staging --prepare")
RELEASE = ("retrain.yml", "propose", "mlops release staging --prepared")
PUBLISH = ("retrain.yml", "build", "mlops publish")
GATE = ("retrain.yml", "build", "mlops gate")
REPORT = ("retrain.yml", "build", "mlops report")
TRAIN = ("retrain.yml", "build", "make train")
PROMOTE = ("promote.yml", "promote", "mlops promote staging production ${BECAUSE")
RECONCILE = ("deploy.yml", "reconcile", "mlops reconcile")
COMMENT = ("comment.yml", "comment", "mlops comment")
STAGING = {"ENVIRONMENT": "staging"}
# When the power goes, as a share of the time that the verb takes undisturbed.
MOMENTS = (0.55, 0.4, 0.2)


@pytest.fixture(scope="module")
def target():
    """What runs is in the runner's folder, which these tests keep."""
    return "local"


@pytest.fixture(scope="module")
def model():
    return "trips-and-faults"


@pytest.fixture
def undeployed(registry, model):
    """Makes the registry forget staging's alias; what runs is in the runner's folder."""
    return lambda: registry.delete_registered_model_alias(model, "staging")


@pytest.fixture(scope="module")
def durations():
    """How long each verb takes when nothing disturbs it, in seconds."""
    return {}


@pytest.fixture(scope="module")
def trained(world, durations):
    """The runner after the first release, not yet merged."""
    commit = world.git("rev-parse", "HEAD")
    event = world.at_the_forge(events.push(events.NOWHERE, commit), commit)
    runs = world.happens(event, commit)
    assert runs.results == {"build": "success", "propose": "success"}, runs.out
    durations.update({step.name: step.seconds for run in runs.values() for step in run.steps})
    return Bench.keep(world, event, "trained", world.previous)


@pytest.fixture
def handed_over(trained):
    """What the job that writes is given of the job that trained."""
    place = trained.world.base / "handed"
    if not place.exists():
        for name in ("verdict", "reports", "models/bundle"):
            shutil.copytree(trained.kept / name, place / "release" / name)
        shutil.copy(trained.kept / "dvc.lock", place / "release")
    return {"RUNNER_TEMP": str(place)}


@pytest.fixture(scope="module")
def untrained(world, trained):
    """The runner before anything was trained, with no cache and no remote."""
    trained.fresh()
    for name in ("data", "models", "reports", "verdict", "logs", ".dvc/cache"):
        shutil.rmtree(world.runner / name)
    for name in ("dvc.lock", ".dvc/config.local"):
        (world.runner / name).unlink()
    return Bench.keep(world, trained.event, "untrained")


@pytest.fixture(scope="module")
def released(world, trained):
    """The runner when staging pins the bundle and does not run it yet."""
    world.squash("release/staging", "Release")
    commit = world.git("rev-parse", "HEAD")
    trained.fresh()
    for command in (f"git fetch -q origin {commit}", f"git checkout -q -f {commit}"):
        subprocess.run(command.split(), cwd=world.runner, check=True)
    bench = Bench.keep(world, trained.event, "released")
    # Later tests propose again what the first proposal was.
    world.git("push", "--quiet", "--force", "origin", f"{commit}~1:main")
    return bench


@pytest.fixture(scope="module")
def staged(world, released):
    """The runner when staging runs what it pins."""
    released.fresh()
    assert released.verb(*RECONCILE, **STAGING).code == 0
    return Bench.keep(world, released.event, "staged")


def digest(world):
    return folder_digest(world.runner / "models/bundle")


def open_on(world, name):
    return [p for p in world.forge.pulls if p.branch == name and p.state == "open"]


def assert_one_proposal(world, name):
    """The branch has one commit, with the runner's bundle, and one open pull request."""
    world.git("fetch", "--quiet", "origin", name, "main")
    assert world.git("rev-list", "--count", "FETCH_HEAD", "--not", "origin/main") == "1"
    text = world.git("show", f"FETCH_HEAD:environments/{name.split('/')[1]}.yaml")
    assert yaml.safe_load(text)["pin"]["digest"] == digest(world)
    assert len(open_on(world, name)) == 1


def forget(world, name):
    """As if nothing had been proposed."""
    if world.git("ls-remote", "origin", f"refs/heads/{name}"):
        world.git("push", "--quiet", "origin", "--delete", name)
    for pull in open_on(world, name):
        world.forge.close(pull.number, "closed")


def assert_deployed_and_tidy(world):
    """The daily check finds nothing in staging, and no half-written folder is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", world.variables["MLFLOW_TRACKING_URI"])
        root = world.runner
        assert reconcile.differences(params.load_all(root), root, "staging") == []
    assert_tidy(world)


def assert_tidy(world):
    for folder in ("data", "models", "reports", "verdict", ".run"):
        assert not list((world.runner / folder).rglob(".*.part*"))


def about(world, bench, branch):
    """What the comment's job knows, and the artifact that it has downloaded."""
    temp = world.base / "artifact"
    if not temp.exists():
        shutil.copytree(bench.kept / "verdict", temp / "judged/verdict")
    commit = world.git("rev-parse", "HEAD")
    return {
        "HEAD": f"acme:{branch}", "COMMIT": commit, "STATE": "success", "RUNNER_TEMP": str(temp),
    }  # fmt: skip


# Power lost in the middle of each verb: the next run of it must end as if nothing had happened.


@pytest.fixture
def kill_and_repeat(durations) -> Callable[..., None]:
    def act(bench, verb, prepare=lambda: None, **env):
        prepare()
        if verb[2] not in durations:
            ended = bench.fresh().verb(*verb, **env)
            assert ended.code == 0, ended.out
            durations[verb[2]] = ended.seconds
        for moment in MOMENTS:
            prepare()
            watch = killed_after(moment * durations[verb[2]])
            ended = bench.fresh().verb(*verb, watch=watch, **env)
            if ended.code == -9:
                break
        assert ended.code == -9, f"it always ended before: {ended}"
        again = bench.verb(*verb, **env)
        assert again.code == 0, again.out

    return act


def test_power_lost_while_training_costs_only_the_stage_it_hit(
    world, untrained, trained, kill_and_repeat
):
    kill_and_repeat(untrained, TRAIN)
    assert digest(world) == folder_digest(trained.kept / "models/bundle")
    assert_tidy(world)


def test_power_lost_while_publishing(world, trained, kill_and_repeat):
    kill_and_repeat(
        trained, PUBLISH, lambda: shutil.rmtree(world.base / "remote", ignore_errors=True)
    )
    shutil.rmtree(world.runner / ".dvc" / "cache")
    shutil.rmtree(world.runner / "models")
    subprocess.run(
        [".venv/bin/dvc", "pull", "models/bundle"], cwd=world.runner, check=True,
        # A colleague's machine has none of DVC's notes on what is in the remote.
        env={**os.environ, "DVC_SITE_CACHE_DIR": str(world.base / "colleague")},
    )  # fmt: skip
    assert digest(world) == folder_digest(trained.kept / "models/bundle")


@pytest.mark.parametrize("verb", [GATE, REPORT])
def test_power_lost_while_judging_or_reporting(world, trained, kill_and_repeat, verb):
    kill_and_repeat(trained, verb)
    assert json.loads((world.runner / "verdict/verdict.json").read_text())["accepted"]
    assert_tidy(world)


def test_power_lost_while_preparing_a_release(world, trained, kill_and_repeat):
    kill_and_repeat(trained, PREPARE)
    assert_tidy(world)


def test_power_lost_while_releasing_leaves_one_proposal(
    world, trained, kill_and_repeat, handed_over
):
    kill_and_repeat(trained, RELEASE, lambda: forget(world, "release/staging"), **handed_over)
    assert_one_proposal(world, "release/staging")


def test_power_lost_while_deploying(world, released, kill_and_repeat, undeployed):
    kill_and_repeat(released, RECONCILE, undeployed, **STAGING)
    assert_deployed_and_tidy(world)


def test_power_lost_while_promoting_leaves_one_proposal(world, staged, kill_and_repeat):
    # Main pins on the forge what the runner's checkout pins.
    world.git("fetch", "--quiet", str(staged.kept), "HEAD")
    world.git("push", "--quiet", "--force", "origin", "FETCH_HEAD:main")
    again = lambda: forget(world, "promote/production")  # noqa: E731
    kill_and_repeat(staged, PROMOTE, again, BECAUSE="a rehearsal")
    assert_one_proposal(world, "promote/production")


def test_power_lost_while_commenting_leaves_one_comment(world, trained, kill_and_repeat):
    number = world.forge.open("feature").number
    kill_and_repeat(trained, COMMENT, **about(world, trained, "feature"))
    assert len(world.forge.on(number)) == 1


# The stores or Git are away, or have been tampered with.


@pytest.mark.parametrize(
    ("verb", "place", "line"),
    [
        (RELEASE, "origin.git", "error: git "),
        (PUBLISH, "remote", "error: DVC remote 'releases'"),
        (PREPARE, None, "error: MLFLOW_TRACKING_URI: http://127.0.0.1:9 does not answer"),
    ],
)
def test_what_is_away_stops_a_verb_with_a_line_and_the_next_run_completes(
    world, trained, handed_over, verb, place, line
):
    forget(world, "release/staging")
    trained.fresh()
    if place:
        (world.base / place).rename(world.base / "away")
        (world.base / place).write_text("no folder")
    away = {} if place else {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    ended = trained.verb(*verb, **handed_over, **away)
    if place:
        (world.base / place).unlink()
        (world.base / "away").rename(world.base / place)
    assert ended.code == 2
    assert ended.last.startswith(line)
    assert open_on(world, "release/staging") == []
    assert trained.verb(*verb, **handed_over).code == 0


@contextmanager
def tampered_with(world, *folders):
    """Every copy of the model in these folders is changed by one byte, and then as it was."""
    whole = (world.runner / "models/bundle/model.onnx").read_bytes()
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    copies = [path for path in files if path.read_bytes() == whole]
    assert len(copies) >= len(folders)
    for path in copies:
        path.chmod(0o644)
        path.write_bytes(whole[:-1] + b"!")
    yield
    for path in copies:
        path.write_bytes(whole)


def test_a_model_tampered_with_in_one_store_comes_from_the_other_and_in_both_from_none(
    world, released, mlflow, registry, model
):
    artifacts = mlflow / "artifacts" / registry.get_experiment_by_name(model).experiment_id
    shutil.rmtree(world.base / "remote", ignore_errors=True)
    released.fresh()
    with tampered_with(world, world.runner / ".dvc", artifacts):
        ended = released.verb(*RECONCILE, **STAGING)
    assert ended.code == 2
    assert "expected" in ended.last
    assert not (world.runner / ".run/local/staging/state.json").exists()
    released.fresh()
    with tampered_with(world, world.runner / ".dvc"):
        ended = released.verb(*RECONCILE, **STAGING)
    assert ended.code == 0, ended.out
    assert_deployed_and_tidy(world)


def test_a_disk_that_is_full_leaves_what_runs(world, staged):
    """No file may grow beyond a few blocks: the bundle can't be written whole."""
    staged.fresh()
    shutil.rmtree(world.runner / ".run/bundles")
    home = world.runner / ".run/local/staging"
    before = (home / "state.json").read_text()
    next(home.rglob("model.onnx")).write_bytes(b"changed, so that it must be deployed again")
    limit = world.base / "limit.sh"
    limit.write_text("trap '' XFSZ\nulimit -f 8\n")
    ended = staged.verb(*RECONCILE, **STAGING, BASH_ENV=str(limit))
    assert ended.code != 0
    assert (home / "state.json").read_text() == before
    assert staged.verb(*RECONCILE, **STAGING).code == 0
    assert_tidy(world)


# Races.


def assert_both_succeed(bench, verb, **env):
    bench.fresh()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(bench.verb, *verb, **env) for _ in range(2)]
    ended = [one.result() for one in both]
    assert [one.code for one in ended] == [0, 0], [one.out for one in ended]


def test_two_releases_at_once_end_in_one_proposal(world, trained, handed_over):
    forget(world, "release/staging")
    assert_both_succeed(trained, RELEASE, **handed_over)
    assert_one_proposal(world, "release/staging")


def test_two_deployments_at_once_end_as_pinned(world, released, undeployed):
    undeployed()
    assert_both_succeed(released, RECONCILE, **STAGING)
    assert_deployed_and_tidy(world)
