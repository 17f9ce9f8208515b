"""The loop from the first push to a revert, in the order in which a team lives it.

The tests follow each other: each begins with the world that the one before has left.
"""

from __future__ import annotations

import re

import pytest

from tests import events
from tests.rehearsal.world import change, say

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STAGES = ["ingest", "featurize", "tune", "train", "evaluate"]
MARKER = "<!-- mlops:verdict -->"


@pytest.fixture(scope="module")
def known():
    """What earlier tests saw, for later ones to compare with."""
    return {}


def release_and_deploy(world, message="Release"):
    """Merge the release, which deploys to staging; promote; merge that, which deploys."""
    runs = world.merge("release/staging", message)
    commit = world.git("rev-parse", "origin/main")
    promoted = world.happens(events.dispatch(sha=commit), commit)
    deployed = world.merge("promote/production", "Promote")
    return runs, promoted, deployed


def worked(job):
    """The steps that were not left out."""
    return [step.name for step in job.steps if step.outcome != "skipped"]


def open_pulls(world):
    return [pull.branch for pull in world.forge.pulls if pull.state == "open"]


def test_the_first_push_trains_and_proposes_a_release_with_no_champion(world, known):
    commit = world.git("rev-parse", "HEAD")
    runs = world.happens(events.push(events.NOWHERE, commit), commit)
    assert runs.results == {"release": "success"}, runs.out
    assert world.executed() == STAGES
    assert "champion none yet: the limits alone decide" in runs.out
    assert open_pulls(world) == ["release/staging"]
    assert [(s.state, s.context) for s in world.forge.statuses] == [("success", "mlops/gate")]
    known["first"] = re.search(r"accepted: ([0-9a-f]{12})", runs.out)[1]


def test_merging_the_release_deploys_it_to_staging_and_trains_nothing(world, known):
    runs = world.merge("release/staging", "Release")
    assert runs.results == {"release": "success", "changed": "success", "reconcile": "success"}
    assert runs["reconcile"].environment == "staging"
    assert world.executed() == []
    assert "make train" not in worked(runs["release"])
    assert world.running("staging")[:12] == known["first"]
    assert open_pulls(world) == []


def test_promoting_deploys_the_same_bytes_to_production(world, known, registry):
    commit = world.git("rev-parse", "origin/main")
    promoted = world.happens(events.dispatch(sha=commit), commit)
    assert promoted.results == {"promote": "success"}, promoted.out
    runs = world.merge("promote/production", "Promote")
    assert runs["reconcile"].environment == "production", runs.results
    assert world.pinned("production") == world.pinned("staging")
    assert world.running("production") == world.pinned("production")["digest"]
    version = registry.get_model_version_by_alias("flights-late", "production")
    assert version.tags["mlops.bundle"][:12] == known["first"]


def test_a_pull_request_with_a_month_of_new_data_is_retrained_judged_and_commented(world, known):
    number, runs = world.propose("march", {"data.until": "2013-03-31"}, "March has arrived")
    assert runs.results == {"judge": "success", "comment": "success"}, runs.out
    known["pull"], known["branch commit"] = number, world.git("rev-parse", "HEAD")
    comments = world.forge.on(number)
    assert len(comments) == 1
    body = comments[0].body
    assert body.startswith(MARKER)
    known["march"] = re.search(r"Accepted: bundle `([0-9a-f]{12})`", body)[1]
    assert known["march"] != known["first"]
    assert known["first"] in body
    assert "| `data.until` | 2013-02-28 | 2013-03-31 |" in body
    say(f"the comment:\n{body}")


def test_pushing_to_it_again_updates_the_comment_and_trains_nothing(world, known):
    world.git("switch", "--quiet", "march")
    world.git("commit", "--quiet", "--allow-empty", "--message", "A word")
    commit = world.git("rev-parse", "HEAD")
    world.git("push", "--quiet", "origin", "march")
    runs = world.judge(known["pull"], "march", commit)
    assert runs.results == {"judge": "success", "comment": "success"}, runs.out
    assert len(world.forge.on(known["pull"])) == 1


def test_merging_it_trains_nothing_and_proposes_the_judged_bytes(world, known):
    runs = world.merge("march", "March has arrived (#1)")
    assert runs.results == {"release": "success"}, runs.out
    assert world.executed() == []
    assert known["march"] in runs.out
    assert open_pulls(world) == ["release/staging"]


def test_the_bytes_judged_on_the_pull_request_are_those_in_production(world, known):
    _, _, deployed = release_and_deploy(world)
    assert deployed["reconcile"].result == "success", deployed.out
    assert world.running("staging")[:12] == known["march"]
    assert world.running("production")[:12] == known["march"]
    known["good commit"] = world.git("rev-parse", "origin/main")


def weaken(world):
    """A model that has learnt next to nothing."""
    path = world.desk / "src" / "flights" / "models.py"
    text = path.read_text().replace('"n_estimators": 1000', '"n_estimators": 1')
    path.write_text(text.replace('"num_leaves": 15', '"num_leaves": 2'))


def test_a_worse_model_is_refused_with_its_reasons_in_the_comment(world, known):
    world.git("switch", "--quiet", "--create", "worse", "origin/main")
    weaken(world)
    commit = world.commit("One tree is enough")
    world.git("push", "--quiet", "origin", "worse")
    known["worse"] = world.forge.open("worse").number
    runs = world.judge(known["worse"], "worse", commit)
    assert runs.results == {"judge": "failure", "comment": "success"}, runs.out
    body = world.forge.on(known["worse"])[0].body
    assert "❌ Refused" in body
    assert "roc_auc against the champion" in body
    say(f"the refusal:\n{body}")


def test_a_refused_model_that_is_merged_all_the_same_is_not_released(world):
    """Nobody has to read the comment: what main refuses goes no further."""
    runs = world.merge("worse", "Merged in spite of it")
    assert runs.results == {"release": "failure"}, runs.out
    assert open_pulls(world) == []


def test_a_bad_release_gets_through_when_people_open_the_gate_on_purpose(world, known):
    world.git("switch", "--quiet", "--create", "open-gate", "origin/main")
    change(world.desk, {"gate.limits": {}, "gate.margin": 1.0, "gate.slice_margin": 1.0})
    commit = world.commit("Anything goes")
    world.git("push", "--quiet", "origin", "open-gate")
    runs = world.judge(world.forge.open("open-gate").number, "open-gate", commit)
    assert runs.results == {"judge": "success", "comment": "success"}, runs.out
    world.merge("open-gate")
    release_and_deploy(world)
    known["bad"] = world.running("production")[:12]
    assert known["bad"] not in (known["first"], known["march"])


def test_git_revert_brings_the_old_bytes_back(world, known, registry):
    world.git("fetch", "--quiet", "origin", "main")
    world.git("switch", "--quiet", "--force-create", "main", "origin/main")
    world.git("revert", "--no-edit", "HEAD")
    runs = world.push()
    assert runs["reconcile"].environment == "production", runs.results
    assert world.running("production")[:12] == known["march"]
    version = registry.get_model_version_by_alias("flights-late", "production")
    assert version.tags["mlops.bundle"][:12] == known["march"]


def test_an_alias_that_somebody_moves_by_hand_is_found_by_the_drift_run(world, registry):
    commit = world.git("rev-parse", "origin/main")
    assert world.happens(events.schedule(commit), commit).results == {"drift": "success"}
    registry.set_registered_model_alias("flights-late", "production", "1")
    runs = world.happens(events.schedule(commit), commit)
    assert runs.results == {"drift": "failure"}
    assert "error: production: registry alias" in runs.out


def test_production_s_history_is_in_git_alone(world, known):
    import subprocess
    import sys

    world.git("fetch", "--quiet", "origin", "main")
    world.git("switch", "--quiet", "--force-create", "main", "origin/main")
    said = subprocess.run(
        [sys.executable, "-c", "from mlops.cli import main; main()", "history", "production"],
        cwd=world.desk, capture_output=True, text=True, check=True,
    )  # fmt: skip
    pinned = [line.split()[1] for line in said.stdout.splitlines()[1:]]
    assert pinned == [known["march"], known["bad"], known["march"], known["first"], "-"]
    say(f"\n{said.stdout}")
