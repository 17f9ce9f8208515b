"""The loop from the first push to a revert, in the order in which a team lives it.

The tests follow each other: each begins with the world that the one before has left.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests import events
from tests.rehearsal.world import say

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STAGES = ["ingest", "featurize", "tune", "train", "evaluate"]
MARKER = "<!-- mlops:verdict -->"


@pytest.fixture(scope="module")
def target():
    return "trips.server"


@pytest.fixture(scope="module")
def world(world, mlflow):
    """A team that has configured everything."""
    world.variables |= {
        "DVC_REMOTE_URL": str(world.base / "remote"),
        "DVC_PROPOSALS_URL": str(world.base / "proposals"),
        "MLFLOW_TRACKING_URI": mlflow,
    }
    return world


@pytest.fixture(scope="module")
def seen():
    """What earlier tests saw, for later ones to compare with."""
    return {}


def promote(world):
    """Start the promotion by hand, and merge its pull request, which deploys."""
    commit = world.git("rev-parse", "origin/main")
    promoted = world.happens(events.dispatch(sha=commit), commit)
    assert promoted.results == {"promote": "success"}, promoted.out
    return world.merge("promote/production", "Promote")


def worked(job):
    """The steps that were not left out."""
    return [step.name for step in job.steps if step.outcome != "skipped"]


def open_pulls(world):
    return [pull.branch for pull in world.forge.pulls if pull.state == "open"]


def up_to_date(world):
    world.git("fetch", "--quiet", "origin", "main")
    world.git("switch", "--quiet", "--force-create", "main", "origin/main")


def test_the_first_push_trains_and_proposes_a_release_with_no_champion(world, seen):
    commit = world.git("rev-parse", "HEAD")
    runs = world.happens(events.push(events.NOWHERE, commit), commit)
    assert runs.results == {"build": "success", "propose": "success"}, runs.out
    assert world.executed() == STAGES
    assert "champion none yet: the limits alone decide" in runs.out
    assert open_pulls(world) == ["release/staging"]
    assert [(s.state, s.context) for s in world.forge.statuses] == [("success", "mlops/gate")]
    seen["first"] = re.search(r"accepted: ([0-9a-f]{12})", runs.out)[1]


def test_merging_the_release_deploys_it_to_staging_and_trains_nothing(world, seen):
    runs = world.merge("release/staging", "Release")
    assert runs.results == {"build": "success", "changed": "success", "reconcile": "success"}
    assert runs["reconcile"].environment == "staging"
    assert world.executed() == []
    assert "make train" not in worked(runs["build"])
    assert world.running("staging")[:12] == seen["first"]
    assert open_pulls(world) == []


def test_promoting_deploys_the_same_bytes_to_production(world, seen, registry):
    runs = promote(world)
    assert runs["reconcile"].environment == "production", runs.results
    assert world.pinned("production") == world.pinned("staging")
    assert world.running("production") == world.pinned("production")["digest"]
    version = registry.get_model_version_by_alias("trips-model", "production")
    assert version.tags["mlops.bundle"][:12] == seen["first"]


def test_a_pull_request_with_a_month_of_new_data_is_retrained_judged_and_commented(world, seen):
    number, runs = world.propose("march", {"data.until": "2023-03-31"}, "March has arrived")
    assert runs.results == {"judge": "success", "comment": "success"}, runs.out
    [comment] = world.forge.on(number)
    assert comment.body.startswith(MARKER)
    # Newer data is what is judged, and not how.
    assert "which decide how it is judged" not in comment.body
    seen["march"] = re.search(r"Accepted: bundle `([0-9a-f]{12})`", comment.body)[1]
    assert seen["march"] != seen["first"]
    assert seen["first"] in comment.body
    assert "| `data.until` | 2023-02-28 | 2023-03-31 |" in comment.body
    say(f"the comment:\n{comment.body}")


def test_merging_it_trains_anew_and_the_reproduced_bytes_go_to_production(world, seen):
    runs = world.merge("march", "March has arrived (#1)")
    assert runs.results == {"build": "success", "propose": "success"}, runs.out
    # From reviewed code, in a store that no pull request has written.
    assert world.executed() == STAGES
    assert seen["march"] in world.forge.pulls[-1].title
    assert open_pulls(world) == ["release/staging"]
    world.merge("release/staging", "Release")
    deployed = promote(world)
    assert deployed["reconcile"].result == "success", deployed.out
    assert world.running("staging")[:12] == seen["march"]
    assert world.running("production")[:12] == seen["march"]


def test_git_revert_brings_the_old_bytes_back_and_history_is_in_git_alone(world, seen, registry):
    up_to_date(world)
    world.git("revert", "--no-edit", "HEAD")
    runs = world.push()
    assert runs["reconcile"].environment == "production", runs.results
    assert world.running("production")[:12] == seen["first"]
    version = registry.get_model_version_by_alias("trips-model", "production")
    assert version.tags["mlops.bundle"][:12] == seen["first"]
    up_to_date(world)
    done = subprocess.run(
        [sys.executable, "-c", "from mlops.cli import main; main()", "history", "production"],
        cwd=world.desk, env={**os.environ, "PYTHONPATH": str(world.desk / "src")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    pinned = [line.split()[1] for line in done.stdout.splitlines()[1:]]
    assert pinned == [seen["first"], seen["march"], seen["first"], "-"]
    say(f"\n{done.stdout}")
