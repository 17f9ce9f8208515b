"""A fresh clone with no variable and no secret, on hosted runners: nothing is lost, ever.

Before most steps of the story the forge forgets all of its caches; runners and registries end with
their jobs. What was released lives on the Git branch `bundles`. Attacks on the gate come with it.
"""

from __future__ import annotations

import re

import pytest

from tests import events
from tests.settings import change

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def unconfigured(world):
    """Nothing is configured."""
    world.env["RUNNER_ENVIRONMENT"] = "github-hosted"
    return world


@pytest.fixture
def bare(unconfigured):
    """The same, with every cache evicted."""
    unconfigured.evict()
    return unconfigured


def test_the_first_push_keeps_its_bundle_in_git_and_says_what_configuring_would_gain(bare):
    commit = bare.git("rev-parse", "HEAD")
    runs = bare.happens(events.push(events.NOWHERE, commit), commit)
    assert runs.results == {"build": "success", "propose": "success"}, runs.out
    for variable in ("DVC_REMOTE_URL", "DVC_PROPOSALS_URL", "MLFLOW_TRACKING_URI"):
        assert f"::notice title={variable} is not set::" in runs.out
    assert "a release keeps its bundle on the Git branch `bundles`" in runs.out


def test_the_release_s_own_pull_request_is_judged_with_what_main_has_trained(unconfigured):
    """A person has approved its workflows, as the forge asks for what a bot opens."""
    [pull] = unconfigured.forge.pulls
    unconfigured.git("fetch", "--quiet", "origin", pull.branch)
    commit = unconfigured.git("rev-parse", "FETCH_HEAD")
    runs = unconfigured.judge(pull.number, pull.branch, commit)
    assert runs.results == {"judge": "success", "comment": "success"}, runs.out
    assert unconfigured.executed() == []
    assert "- **pin of staging**: " in unconfigured.forge.on(pull.number)[0].body


def test_the_merge_rehearses_its_deployment_and_claims_no_more(bare):
    runs = bare.merge("release/staging", "Release")
    assert runs.results == {"build": "success", "changed": "success", "reconcile": "success"}
    assert "rehearsed on this runner, and ended: nothing runs after this job" in runs.out
    assert not (bare.runner / ".run/local/staging/state.json").exists()


def test_the_daily_check_is_red_for_what_runs_nowhere_and_green_for_nothing(bare):
    commit = bare.git("rev-parse", "origin/main")
    runs = bare.happens(events.schedule(commit), commit)
    # Production pins nothing yet; to promote by itself what nobody has seen run is refused.
    assert runs.results | {"promote": ""} == {
        "drift": "failure", "drift 1": "success", "promote": "",
    }, runs.out  # fmt: skip


def test_a_promotion_needs_a_reason_which_its_pull_request_shows(bare):
    commit = bare.git("rev-parse", "origin/main")
    refused = bare.happens(events.dispatch(sha=commit), commit)
    assert refused.results == {"promote": "failure"}, refused.out
    because = "nothing runs before there is a server"
    asked = bare.happens(events.dispatch(sha=commit, because=because), commit)
    assert asked.results == {"promote": "success"}, asked.out
    assert because in bare.forge.pulls[-1].body
    runs = bare.merge("promote/production", "Promote")
    assert runs["reconcile"].result == "success", runs.out


def test_a_fork_s_pull_request_is_judged_without_a_token_against_the_champion_in_git(bare):
    champion, before = bare.pinned("production")["digest"], len(bare.forge.log)
    april = {"data.until": "2023-04-30"}
    number, runs = bare.propose("april", april, "April", owner="stranger")
    assert runs.results == {"judge": "success", "comment": "success"}, runs.out
    assert f"champion {champion[:12]}" in runs.out
    assert "mlops publish" not in [step.name for step in runs["judge"].steps if step.seconds]
    assert len(bare.forge.on(number)) == 1
    writes = [one for one in bare.forge.log[before:] if one.method != "GET"]
    judged = bare.git("rev-parse", "origin/april")
    assert {one.path.rpartition("/")[2] for one in writes} == {"comments", judged}
    released = bare.merge("april")
    assert released.results == {"build": "success", "propose": "success"}, released.out


def test_a_worse_model_is_refused(unconfigured):
    unconfigured.git("switch", "--quiet", "--create", "worse", "origin/main")
    path = unconfigured.desk / "src/trips/models.py"
    text = path.read_text().replace('"n_estimators": 60', '"n_estimators": 1')
    path.write_text(text.replace('"num_leaves": 7', '"num_leaves": 2'))
    number, runs = unconfigured.open("worse", unconfigured.commit("One tree is enough"))
    assert runs.results == {"judge": "failure", "comment": "success"}, runs.out
    assert unconfigured.forge.statuses[-1].state == "failure"
    body = unconfigured.forge.on(number)[0].body
    assert "❌ Refused" in body
    assert "roc_auc against the champion" in body


def test_a_fork_that_changes_what_judges_it_gets_no_mark_and_the_base_s_verdict(unconfigured):
    unconfigured.git("switch", "--quiet", "--create", "typo", "origin/main")
    changed = [".github/workflows/retrain.yml", "src/mlops/gitops/rules/size.py"]
    workflow, rule = (unconfigured.desk / name for name in changed)
    workflow.write_text(workflow.read_text().replace("run: mlops gate", "run: mlops gate || true"))
    rule.write_text(
        "from mlops.gitops.verdict import Rule\n\n\ndef judge(case):\n"
        "    return [Rule(name='size', found='any', limit='none', passed=True)]\n"
    )
    change(unconfigured.desk, {"gate.limits": {"roc_auc": 0.999}})
    commit = unconfigured.commit("A typo")
    number, runs = unconfigured.open("typo", commit, owner="stranger")
    # The gate refuses, and the job that the fork has changed passes all the same.
    assert runs.results == {"judge": "success", "comment": "success"}, runs.out
    assert unconfigured.forge.statuses[-1].state == "failure"
    assert "fork that changes its own judge" in unconfigured.forge.statuses[-1].text
    body = unconfigured.forge.on(number)[0].body
    # Main's code says so, whatever the branch's has written.
    names = ", ".join(f"`{name}`" for name in (*changed, "params.yaml: gate"))
    assert f"This pull request changes {names}, which decide how it is judged" in body
    assert re.search("The gate of the base: (accepted|refused): ", body)


def test_a_second_version_takes_over_beside_the_first_and_a_revert_brings_it_back(unconfigured):
    """The cache of main's jobs has the newest bundle alone; the one before is in Git."""
    first = unconfigured.pinned("staging")["digest"]
    runs = unconfigured.merge("release/staging", "Release April")
    assert runs["reconcile"].result == "success", runs.out
    assert f"{first[:12]}, pinned before, runs first" in runs.out
    unconfigured.git("fetch", "--quiet", "origin", "main")
    unconfigured.git("switch", "--quiet", "--force-create", "main", "origin/main")
    unconfigured.git("revert", "--no-edit", "HEAD")
    back = unconfigured.push()
    assert back["reconcile"].result == "success", back.out
    assert unconfigured.pinned("staging")["digest"] == first
