"""A fresh clone with no variable and no secret, on hosted runners: nothing is lost, ever.

Before every step of the story the forge forgets all of its caches; runners and registries end with
their jobs. What was released lives on the Git branch `bundles`.
"""

from __future__ import annotations

import pytest

from tests import events

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def target():
    return "local"


@pytest.fixture(scope="module")
def bare(world):
    """Nothing is configured."""
    world.variables.clear()
    world.env["RUNNER_ENVIRONMENT"] = "github-hosted"
    return world


@pytest.fixture(autouse=True)
def evicted(bare):
    bare.evict()


def test_the_first_push_keeps_its_bundle_in_git_and_says_what_configuring_would_gain(bare):
    commit = bare.git("rev-parse", "HEAD")
    runs = bare.happens(events.push(events.NOWHERE, commit), commit)
    assert runs.results == {"build": "success", "propose": "success"}, runs.out
    for variable in ("DVC_REMOTE_URL", "DVC_PROPOSALS_URL", "MLFLOW_TRACKING_URI"):
        assert f"::notice title={variable} is not set::" in runs.out
    assert "a release keeps its bundle on the Git branch `bundles`" in runs.out


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


def test_a_second_version_takes_over_beside_the_first_and_a_revert_brings_it_back(bare):
    first = bare.pinned("staging")["digest"]
    runs = bare.merge("release/staging", "Release April")
    assert runs["reconcile"].result == "success", runs.out
    assert f"{first[:12]}, pinned before, runs first" in runs.out
    bare.git("fetch", "--quiet", "origin", "main")
    bare.git("switch", "--quiet", "--force-create", "main", "origin/main")
    bare.git("revert", "--no-edit", "HEAD")
    bare.evict()
    back = bare.push()
    assert back["reconcile"].result == "success", back.out
    assert bare.pinned("staging")["digest"] == first
