"""Release, promote, roll back: one commit on one branch, one pull request, nothing else touched."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.deploy import manifest
from mlops.forge import git
from mlops.gitops import promotion, reconcile, status


@pytest.fixture
def accepted(clone):
    assert clone.judge().accepted
    return clone


def release(clone, forge):
    with chdir(clone.root):
        return promotion.release(Path(), "staging", forge)


def promote(clone, forge):
    with chdir(clone.root):
        return promotion.promote(Path(), "staging", "production", forge)


def rollback(clone, forge, to=None):
    with chdir(clone.root):
        return promotion.rollback(Path(), "production", to, forge)


def reconciled(clone, environment):
    with chdir(clone.root):
        return list(reconcile.run(clone.params(), Path(), environment))


def at(clone, branch, environment):
    clone.git("fetch", "--quiet", "origin", branch)
    text = git.show(clone.root, "FETCH_HEAD", manifest.path(environment))
    return manifest.parse(text, branch).pin


def test_a_release_is_one_commit_with_the_pin_and_the_lock_and_touches_nothing_here(
    accepted, forge
):
    before = accepted.git("status", "--porcelain"), accepted.git("rev-parse", "HEAD")
    said = release(accepted, forge)
    assert (accepted.git("status", "--porcelain"), accepted.git("rev-parse", "HEAD")) == before
    proposed = at(accepted, "release/staging", "staging")
    assert proposed.digest == accepted.workspace.digest("models/bundle")
    assert proposed.commit == before[1]
    changed = accepted.git("diff", "--name-only", "HEAD", "FETCH_HEAD").split()
    assert set(changed) <= {"dvc.lock", "environments/staging.yaml"}
    assert said.endswith("forge/release/staging")


def test_its_message_says_what_moves_from_what_to_what_and_why(accepted, forge):
    release(accepted, forge)
    _, base, title, body = forge.opened[0]
    digest = accepted.workspace.digest("models/bundle")
    assert base == "main"
    assert title == f"Release to staging: wine-model {digest[:12]}, the first"
    assert "Accepted:" in body
    assert digest in body
    at(accepted, "release/staging", "staging")
    assert accepted.git("log", "-1", "--format=%s", "FETCH_HEAD") == title


def test_the_release_commit_has_its_status_set(accepted, forge):
    release(accepted, forge)
    at(accepted, "release/staging", "staging")
    commit = accepted.git("rev-parse", "FETCH_HEAD")
    assert [(c, s, x) for c, s, x, _ in forge.states] == [(commit, "success", "mlops/gate")]


def test_a_release_said_twice_is_one_commit(accepted, forge):
    release(accepted, forge)
    first = accepted.git("ls-remote", "origin", "release/staging")
    release(accepted, forge)
    assert accepted.git("ls-remote", "origin", "release/staging") == first


def test_what_is_pinned_already_is_not_released_again(accepted, forge):
    release(accepted, forge)
    accepted.merge("release/staging")
    assert release(accepted, forge).endswith("already; nothing to release")
    assert len(forge.opened) == 1


def test_without_a_verdict_nothing_is_released(clone, forge):
    with pytest.raises(UserError, match=r"verdict\.json: not found; `mlops gate` writes it"):
        release(clone, forge)


def test_a_refused_bundle_is_not_released(clone, forge):
    clone.workspace.change({"gate.limits": {"accuracy": 1.1}})
    clone.commit("Ask too much")
    assert not clone.judge().accepted
    with pytest.raises(UserError, match="refused: .*accuracy"):
        release(clone, forge)
    assert forge.opened == []


def test_a_verdict_on_other_bytes_releases_nothing(accepted, forge):
    accepted.retrain(seed=3)
    with pytest.raises(UserError, match="speaks of .*, here is .*`mlops gate`"):
        release(accepted, forge)


def test_a_verdict_against_another_champion_releases_nothing(accepted, forge):
    made = accepted.judged_pin()
    accepted.pin("production", made)
    with pytest.raises(UserError, match="another champion now"):
        release(accepted, forge)


def test_uncommitted_changes_are_not_released(accepted, forge):
    (accepted.root / "params.yaml").open("a").write("# edited\n")
    with pytest.raises(UserError, match=r"params\.yaml: differs from the commit"):
        release(accepted, forge)


def test_an_unregistered_bundle_is_not_released(accepted, forge):
    from mlops.pipeline import tracking

    with chdir(accepted.root):
        client, _ = tracking.connect(accepted.params().model, Path())
        client.delete_registered_model("wine-model")
    with pytest.raises(UserError, match="not registered"):
        release(accepted, forge)


def test_of_two_releases_that_race_the_later_commit_stays(accepted, forge, tmp_path):
    """Both looked before either pushed."""
    late = accepted.copy(tmp_path / "late")
    late.git("remote", "set-url", "origin", str(accepted.remote))
    late.commit("A later commit")
    assert late.judge().accepted
    release(late, forge)
    assert "holds a later one" in release(accepted, forge)
    assert at(accepted, "release/staging", "staging").commit == late.git("rev-parse", "HEAD")


def test_an_older_proposal_is_replaced_by_a_later_one(accepted, forge):
    release(accepted, forge)
    later = accepted.commit("A later commit")
    accepted.judge()
    release(accepted, forge)
    assert at(accepted, "release/staging", "staging").commit == later


def test_without_a_remote_the_branch_is_made_here(accepted, forge):
    accepted.git("remote", "remove", "origin")
    assert "no remote to push it to" in release(accepted, forge)
    assert accepted.git("rev-parse", "release/staging")
    assert forge.opened == []


def test_a_push_that_is_not_allowed_is_said_and_opens_nothing(accepted, forge):
    hook = accepted.remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'protected branch' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(UserError, match="git push"):
        release(accepted, forge)
    assert forge.opened == []


@pytest.fixture
def staged(accepted, forge):
    """Staging runs a bundle."""
    release(accepted, forge)
    accepted.merge("release/staging")
    reconciled(accepted, "staging")
    return accepted


@pytest.mark.slow
def test_promote_copies_the_pin(staged, forge):
    promote(staged, forge)
    assert at(staged, "promote/production", "production") == at(staged, "main", "staging")


def test_promote_refuses_what_staging_does_not_run(accepted, forge):
    release(accepted, forge)
    accepted.merge("release/staging")
    with pytest.raises(
        UserError, match="staging: runs nothing, pinned is .* `mlops reconcile staging`"
    ):
        promote(accepted, forge)


def test_promote_refuses_when_staging_pins_nothing(accepted, forge):
    with pytest.raises(UserError, match="pins nothing; there is nothing to promote"):
        promote(accepted, forge)


@pytest.mark.slow
def test_promote_said_twice_after_the_merge_does_nothing(staged, forge):
    promote(staged, forge)
    staged.merge("promote/production")
    assert "already; nothing to promote" in promote(staged, forge)


@pytest.fixture
def twice(staged, forge):
    """Production has run two bundles, one after the other."""
    promote(staged, forge)
    first = staged.merge("promote/production")
    staged.retrain(seed=3)
    assert staged.judge().accepted
    release(staged, forge)
    staged.merge("release/staging")
    reconciled(staged, "staging")
    promote(staged, forge)
    staged.merge("promote/production")
    return staged, first


@pytest.mark.slow
def test_rollback_proposes_the_pin_before(twice, forge):
    clone, first = twice
    rollback(clone, forge)
    before = manifest.parse(git.show(clone.root, first, manifest.path("production")), "").pin
    assert at(clone, "rollback/production", "production") == before
    assert forge.opened[-1][2].startswith("Rollback production: wine-model ")


@pytest.mark.slow
def test_rollback_to_a_commit_proposes_its_pin(twice, forge):
    clone, first = twice
    rollback(clone, forge, to=first)
    assert f"As it was at {first}" in forge.opened[-1][3]


@pytest.mark.slow
def test_rollback_without_any_earlier_pin_is_refused(staged, forge):
    with pytest.raises(UserError, match="has pinned nothing else before"):
        rollback(staged, forge)


@pytest.mark.slow
def test_rollback_to_a_commit_that_is_not_there_is_refused(twice, forge):
    clone, _ = twice
    with pytest.raises(UserError, match="nowhere: no such commit here"):
        rollback(clone, forge, to="nowhere")


@pytest.mark.slow
def test_history_shows_what_was_pinned_when_from_git_alone(twice):
    clone, _ = twice
    with chdir(clone.root):
        rows = status.history(Path(), "HEAD", "production")
    assert rows[0] == ("since", "pinned", "model", "commit", "by", "why")
    assert [row[1] for row in rows[1:]] == [
        clone.workspace.digest("models/bundle")[:12], rows[2][1], "-",
    ]  # fmt: skip
    assert len(rows) == 4


@pytest.mark.slow
def test_changed_names_the_environments_that_a_push_changed(twice):
    clone, first = twice
    with chdir(clone.root):
        assert status.changed(Path(), "HEAD") == []
        assert status.changed(Path(), first) == ["staging", "production"]
        assert status.changed(Path(), "0" * 40) == ["staging", "production"]


def unreleased(clone, since):
    with chdir(clone.root):
        return promotion.unreleased(Path(), "staging", since)


@pytest.fixture
def released(accepted, forge):
    """Main after the merge of a release, and what it was before."""
    before = accepted.git("rev-parse", "HEAD")
    release(accepted, forge)
    accepted.merge("release/staging")
    return accepted, before


def test_a_merged_release_leaves_nothing_unreleased_and_a_promotion_neither(released):
    clone, before = released
    assert not unreleased(clone, before)
    merged = clone.git("rev-parse", "HEAD")
    clone.pin("production", manifest.load(clone.root, "staging").pin)
    assert not unreleased(clone, merged)


def test_what_no_release_has_been_made_of_is_unreleased(accepted):
    assert unreleased(accepted, "HEAD")


def test_a_change_of_anything_else_is_unreleased_until_it_is_released(released):
    clone, _ = released
    merged = clone.git("rev-parse", "HEAD")
    (clone.root / "README.md").write_text("Another word.\n")
    changed = clone.commit("A word")
    assert unreleased(clone, merged)
    clone.pin("production", manifest.load(clone.root, "staging").pin)
    assert unreleased(clone, changed)


def test_undoing_a_change_asks_again_whatever_still_waits_to_be_released(released):
    """What staging pins is made once more, and an open proposal of the change is overtaken."""
    clone, _ = released
    (clone.root / "README.md").write_text("Another word.\n")
    changed = clone.commit("A word")
    clone.git("revert", "--no-edit", "HEAD")
    assert unreleased(clone, changed)


def test_a_lock_that_speaks_of_other_bytes_is_unreleased(released):
    clone, before = released
    lock = clone.root / "dvc.lock"
    pinned = manifest.load(clone.root, "staging").pin
    lock.write_text(lock.read_text().replace(pinned.dvc.bundle, "0" * 32 + ".dir"))
    assert unreleased(clone, before)


def test_after_a_commit_that_nobody_knows_anything_may_be_unreleased(released):
    clone, _ = released
    assert unreleased(clone, "0" * 40)


@pytest.mark.slow
def test_rollback_to_a_commit_that_never_was_on_main_is_refused(twice, forge):
    clone, _ = twice
    clone.git("switch", "--quiet", "--create", "aside")
    file = clone.root / manifest.path("production")
    file.write_text(file.read_text() + "\n")
    clone.git("commit", "--quiet", "--all", "--message", "Never merged")
    aside = clone.git("rev-parse", "HEAD")
    with pytest.raises(UserError, match="not a commit of the main line"):
        rollback(clone, forge, to=aside)


@pytest.mark.slow
def test_a_manifest_that_once_was_broken_stops_neither_rollback_nor_history(twice, forge):
    clone, first = twice
    file = clone.root / manifest.path("production")
    whole = file.read_text()
    file.write_text(whole.replace("target:", "traget:"))
    clone.commit("Break it")
    file.write_text(whole)
    clone.commit("Mend it")
    rollback(clone, forge)
    before = manifest.parse(git.show(clone.root, first, manifest.path("production")), "").pin
    assert at(clone, "rollback/production", "production") == before
    with chdir(clone.root):
        assert status.history(Path(), "HEAD", "production")[2][1] == "-"


def test_names_in_dvc_s_lock_that_are_not_this_bundle_s_are_not_released(accepted, forge):
    lock = accepted.root / "dvc.lock"
    text = lock.read_text()
    name = accepted.judged_pin().dvc.bundle
    lock.write_text(text.replace(name, "0" * 32 + ".dir"))
    accepted.commit("A lock of other bytes")
    accepted.judge()
    with pytest.raises(UserError, match=r"dvc\.lock: speaks of another .*train"):
        release(accepted, forge)


@pytest.mark.slow
def test_a_proposal_that_main_has_overtaken_is_marked_as_failed(staged, forge):
    """What it proposed was reverted: main makes again what staging pins."""
    old = git.write(staged.root, "HEAD", {manifest.path("staging"): b"an older proposal\n"}, "Old")
    git.push(staged.root, old, "release/staging", expected="")
    assert "nothing to release" in release(staged, forge)
    assert [(c, s) for c, s, _, _ in forge.states][-1] == (old, "failure")
