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
from tests.rehearsal.world import change, say

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
nightly = pytest.mark.nightly
# The short story, which the nightly run goes on from.
short = pytest.mark.story
STAGES = ["ingest", "featurize", "tune", "train", "evaluate"]
MARKER = "<!-- mlops:verdict -->"


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


@short
def test_the_first_push_trains_and_proposes_a_release_with_no_champion(world, seen):
    commit = world.git("rev-parse", "HEAD")
    runs = world.happens(events.push(events.NOWHERE, commit), commit)
    assert runs.results == {"build": "success", "propose": "success"}, runs.out
    assert world.executed() == STAGES
    assert "champion none yet: the limits alone decide" in runs.out
    assert open_pulls(world) == ["release/staging"]
    assert [(s.state, s.context) for s in world.forge.statuses] == [("success", "mlops/gate")]
    seen["first"] = re.search(r"accepted: ([0-9a-f]{12})", runs.out)[1]


@nightly
def test_the_release_s_own_pull_request_is_judged_with_what_main_has_trained(world, seen):
    """A person has approved its workflows, as the forge asks for what a bot opens."""
    [pull] = world.forge.pulls
    world.git("fetch", "--quiet", "origin", pull.branch)
    runs = world.judge(pull.number, pull.branch, world.git("rev-parse", "FETCH_HEAD"))
    assert runs.results == {"judge": "success", "comment": "success"}, runs.out
    assert world.executed() == []
    assert f"- **pin of staging**: {seen['first']}" in world.forge.on(pull.number)[0].body


@short
def test_merging_the_release_deploys_it_to_staging_and_trains_nothing(world, seen):
    runs = world.merge("release/staging", "Release")
    assert runs.results == {"build": "success", "changed": "success", "reconcile": "success"}
    assert runs["reconcile"].environment == "staging"
    assert world.executed() == []
    assert "make train" not in worked(runs["build"])
    assert world.running("staging")[:12] == seen["first"]
    assert open_pulls(world) == []


@short
def test_promoting_deploys_the_same_bytes_to_production(world, seen, registry):
    runs = promote(world)
    assert runs["reconcile"].environment == "production", runs.results
    assert world.pinned("production") == world.pinned("staging")
    assert world.running("production") == world.pinned("production")["digest"]
    version = registry.get_model_version_by_alias("trips-model", "production")
    assert version.tags["mlops.bundle"][:12] == seen["first"]


@short
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


@short
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


@short
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


def weaken(world):
    """A model that has learnt next to nothing."""
    path = world.desk / "src/trips/models.py"
    text = path.read_text().replace('"n_estimators": 60', '"n_estimators": 1')
    path.write_text(text.replace('"num_leaves": 7', '"num_leaves": 2'))


@nightly
def test_a_worse_model_is_refused_and_merged_all_the_same_it_is_not_released(world, seen):
    world.git("switch", "--quiet", "--create", "worse", "origin/main")
    weaken(world)
    number, runs = world.open("worse", world.commit("One tree is enough"))
    assert runs.results == {"judge": "failure", "comment": "success"}, runs.out
    body = world.forge.on(number)[0].body
    assert "❌ Refused" in body
    assert "roc_auc against the champion" in body
    say(f"the refusal:\n{body}")
    # Nobody has to read the comment: what main refuses goes no further.
    runs = world.merge("worse", "Merged in spite of it")
    assert runs.results == {"build": "failure"}, runs.out
    assert open_pulls(world) == []


@nightly
def test_a_bad_release_passes_when_people_open_the_gate_and_a_revert_undoes_it(world, seen):
    world.git("switch", "--quiet", "--create", "open-gate", "origin/main")
    change(world.desk, {"gate.limits": {}, "gate.margin": 1.0, "gate.slice_margin": 1.0})
    _, runs = world.open("open-gate", world.commit("Anything goes"))
    assert runs.results == {"judge": "success", "comment": "success"}, runs.out
    world.merge("open-gate")
    world.merge("release/staging", "Release")
    promote(world)
    assert world.running("production")[:12] not in (seen["first"], seen["march"])
    up_to_date(world)
    world.git("revert", "--no-edit", "HEAD")
    world.push()
    assert world.running("production")[:12] == seen["first"]


@nightly
def test_an_alias_that_somebody_moves_by_hand_is_found_by_the_drift_run(world, registry):
    commit = world.git("rev-parse", "origin/main")
    watched = {"drift": "success", "drift 1": "success", "promote": "success"}
    runs = world.happens(events.schedule(commit), commit)
    assert runs.results == watched, runs.out
    registry.set_registered_model_alias("trips-model", "production", "2")
    runs = world.happens(events.schedule(commit), commit)
    assert runs.results == watched | {"drift 1": "failure"}
    assert "error: production: registry alias" in runs.out


@nightly
def test_a_pin_that_was_forged_is_refused(world):
    up_to_date(world)
    world.git("switch", "--quiet", "--create", "forged")
    manifest, digest = world.desk / "environments/staging.yaml", world.pinned("staging")["digest"]
    manifest.write_text(manifest.read_text().replace(digest, "0" * 64))
    _, runs = world.open("forged", world.commit("An innocent line"))
    assert runs.results == {"judge": "failure", "comment": "success"}, runs.out
    assert world.forge.statuses[-1].state == "failure"
    [line] = [line for line in runs["judge"].out.splitlines() if line.startswith("error: ")]
    assert "pin of staging: found" in line


@nightly
def test_a_fork_that_changes_what_judges_it_gets_no_mark_and_the_base_s_verdict(world):
    up_to_date(world)
    world.git("switch", "--quiet", "--create", "typo")
    changed = [".github/workflows/retrain.yml", "src/mlops/gitops/rules/size.py", "params.yaml"]
    workflow, rule, _ = (world.desk / name for name in changed)
    workflow.write_text(workflow.read_text().replace("run: mlops gate", "run: mlops gate || true"))
    rule.write_text(
        "from mlops.gitops.verdict import Rule\n\n\ndef judge(case):\n"
        "    return [Rule(name='size', found='any', limit='none', passed=True)]\n"
    )
    change(world.desk, {"gate.limits": {"roc_auc": 0.999}})
    number, runs = world.open("typo", world.commit("A typo"), owner="stranger")
    # The gate refuses, and the job that the fork has changed passes all the same.
    assert runs.results == {"judge": "success", "comment": "success"}, runs.out
    assert world.forge.statuses[-1].state == "failure"
    assert "fork that changes its own judge" in world.forge.statuses[-1].text
    body = world.forge.on(number)[0].body
    # Main's code says so, whatever the branch's has written.
    names = "`.github/workflows/retrain.yml`, `src/mlops/gitops/rules/size.py`, `params.yaml: gate`"
    assert f"This pull request changes {names}, which decide how it is judged" in body
    assert re.search("The gate of the base: (accepted|refused): ", body)
