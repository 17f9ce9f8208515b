"""A fresh clone with no variable and no secret: the loop runs on the forge's caches alone."""

from __future__ import annotations

import pytest

from tests import events

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def bare(world, trained_before):
    """Nothing is configured; what another world has trained need not be trained again."""
    world.variables.clear()
    world.remember(trained_before)
    return world


def test_the_first_push_releases_and_says_what_configuring_would_gain(bare):
    commit = bare.git("rev-parse", "HEAD")
    runs = bare.happens(events.push(events.NOWHERE, commit), commit)
    assert runs.results == {"release": "success"}, runs.out
    for variable in ("DVC_REMOTE_URL", "MLFLOW_TRACKING_URI", "AZURE_CLIENT_ID"):
        assert f"::notice title={variable} is not set::" in runs.out
    assert "no DVC remote is configured: what was trained stays" in runs.out


def test_the_merge_deploys_from_what_the_forge_has_cached(bare):
    runs = bare.merge("release/staging", "Release")
    assert runs.results == {"release": "success", "changed": "success", "reconcile": "success"}
    assert bare.running("staging") == bare.pinned("staging")["digest"]


def test_a_fork_s_pull_request_is_judged_without_any_token_and_commented(bare):
    bare.git("fetch", "--quiet", "origin", "main")
    bare.git("switch", "--quiet", "--create", "theirs", "origin/main")
    commit = bare.commit("A word from outside")
    bare.git("push", "--quiet", "origin", "theirs")
    number = bare.forge.open("theirs", owner="stranger").number
    before = len(bare.forge.log)
    event = events.pull_request(number, "theirs", owner="stranger", sha=commit)
    judged = bare.happens(event, commit)
    assert judged.results == {"judge": "success"}, judged.out
    assert len(bare.forge.log) == before
    assert "mlops publish" not in [step.name for step in judged["judge"].steps if step.seconds]
    done = bare.happens(events.completed("retrain", event, "success", commit), commit)
    assert done.results == {"comment": "success"}, done.out
    assert len(bare.forge.on(number)) == 1
