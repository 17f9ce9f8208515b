"""Release, promote, roll back: one commit on one branch, one pull request, nothing else touched."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest

from mlops.base.errors import Refused, UserError
from mlops.deploy import manifest
from mlops.forge import branches
from mlops.gitops import pins, promotion, reconcile, status
from mlops.gitops import release as releasing
from mlops.gitops.pins import pin_at


@pytest.fixture
def accepted(clone):
    assert clone.judge().accepted
    return clone


def release(clone, forge):
    with chdir(clone.root):
        return releasing.release(Path(), "staging", forge)


def promote(clone, forge):
    with chdir(clone.root):
        return promotion.promote(Path(), "staging", "production", forge, lambda _: ("", "?"))


def rollback(clone, forge, to=None):
    with chdir(clone.root):
        return promotion.rollback(Path(), "production", to, forge)


def unreleased(clone, since):
    with chdir(clone.root):
        return releasing.unreleased(Path(), "staging", since)


def proposed(clone, branch):
    """The pin on a branch of the remote, which names its environment."""
    clone.git("fetch", "--quiet", "origin", branch)
    return pin_at(clone.root, "FETCH_HEAD", branch.split("/")[1])


def test_a_release_is_one_commit_and_touches_nothing_here_however_often(accepted, forge):
    before = accepted.git("status", "--porcelain"), accepted.git("rev-parse", "HEAD")
    line = release(accepted, forge)
    assert (accepted.git("status", "--porcelain"), accepted.git("rev-parse", "HEAD")) == before
    pin = proposed(accepted, "release/staging")
    assert (pin.digest, pin.commit) == (accepted.workspace.digest("models/bundle"), before[1])
    changed = accepted.git("diff", "--name-only", "HEAD", "FETCH_HEAD").split()
    assert set(changed) <= {"dvc.lock", "environments/staging.yaml"}
    assert line.endswith("forge/release/staging")
    [(_, base, title, body)] = forge.opened
    assert base == "main"
    assert title == f"Release to staging: trips-model {pin.digest[:12]}, the first"
    assert "Accepted:" in body
    assert pin.digest in body
    assert accepted.git("log", "-1", "--format=%s", "FETCH_HEAD") == title
    first = accepted.git("rev-parse", "FETCH_HEAD")
    assert forge.states == [(first, "success", "mlops/gate")]

    release(accepted, forge)
    assert accepted.git("ls-remote", "origin", "release/staging").startswith(first)
    accepted.merge("release/staging")
    assert release(accepted, forge).endswith("already; nothing to release")
    assert len(forge.opened) == 2


def ask_too_much(clone):
    clone.workspace.change({"gate.limits": {"log_loss": 0.0}})
    clone.commit("Ask too much")
    assert not clone.judge().accepted


def unregister(clone):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{clone.root / 'mlruns/mlflow.db'}")
    client.delete_registered_model("trips-model")


def lock_other_bytes(clone):
    lock = clone.root / "dvc.lock"
    lock.write_text(lock.read_text().replace(clone.judged_pin().dvc.bundle, "0" * 32 + ".dir"))
    clone.commit("A lock of other bytes")
    clone.judge()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda clone: (clone.root / "verdict/verdict.json").unlink(),
         r"verdict\.json: not found; `mlops gate` writes it"),
        (lambda clone: (clone.root / "verdict/verdict.json").write_text('{"acc'),
         r"verdict\.json: not JSON"),
        (ask_too_much, "refused: .*log_loss"),
        (lambda clone: clone.challenge(), "is on .*, found .* here; `mlops gate`"),
        (lambda clone: clone.pin("production", clone.judged_pin()), "another champion now"),
        (lambda clone: (clone.root / "params.yaml").open("a").write("# edited\n"),
         r"params\.yaml: differs from the commit"),
        (unregister, "not registered"),
        (lock_other_bytes, r"dvc\.lock: is of another .*train"),
    ],
)  # fmt: skip
def test_nothing_is_released_but_accepted_registered_committed_bytes(
    accepted, forge, spoil, reason
):
    spoil(accepted)
    with pytest.raises(UserError, match=reason):
        release(accepted, forge)
    assert forge.opened == []


def test_of_two_releases_that_race_the_later_commit_stays(accepted, forge, tmp_path):
    """Both looked before either pushed; afterwards the earlier one is replaced by a later one."""
    late = accepted.copy(tmp_path / "late")
    late.git("remote", "set-url", "origin", str(accepted.remote))
    late.commit("A later commit")
    assert late.judge().accepted
    release(late, forge)
    assert "holds a later one" in release(accepted, forge)
    assert proposed(accepted, "release/staging").commit == late.git("rev-parse", "HEAD")
    latest = late.commit("A still later commit")
    late.judge()
    release(late, forge)
    assert proposed(late, "release/staging").commit == latest


def test_a_push_that_is_not_allowed_is_an_error_and_without_a_remote_the_branch_is_here(
    accepted, forge
):
    hook = accepted.remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'protected branch' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(UserError, match="git push"):
        release(accepted, forge)
    accepted.git("remote", "remove", "origin")
    assert "no remote to push it to" in release(accepted, forge)
    assert accepted.git("rev-parse", "release/staging")
    assert forge.opened == []


# Promotions and rollbacks.


@pytest.fixture
def released(accepted, forge):
    """Main after the merge of a release, and what it was before."""
    before = accepted.git("rev-parse", "HEAD")
    release(accepted, forge)
    accepted.merge("release/staging")
    return accepted, before


def test_a_promotion_copies_the_pin_of_what_runs_and_once_merged_does_nothing(released, forge):
    clone, _ = released
    with pytest.raises(Refused, match="staging runs nothing, pinned is .* `mlops reconcile"):
        promote(clone, forge)
    with chdir(clone.root):
        list(reconcile.run(clone.params(), Path(), "staging"))
    promote(clone, forge)
    assert proposed(clone, "promote/production") == pin_at(clone.root, "HEAD", "staging")
    clone.merge("promote/production")
    assert "already; nothing to promote" in promote(clone, forge)


@pytest.fixture
def twice(clone):
    """Production has pinned two bundles, one after the other; the commit of the first."""
    first = clone.pin("production", clone.judged_pin())
    clone.challenge()
    clone.pin("production", clone.judged_pin())
    return clone, first


def test_a_rollback_proposes_the_pin_before_or_that_of_a_commit(twice, forge):
    clone, first = twice
    file = clone.root / manifest.path("production")
    whole = file.read_text()
    # A manifest that once was broken stops neither rollback nor history.
    for text, message in ((whole.replace("target:", "traget:"), "Break it"), (whole, "Mend it")):
        file.write_text(text)
        clone.commit(message)
    rollback(clone, forge)
    assert proposed(clone, "rollback/production") == pin_at(clone.root, first, "production")
    assert forge.opened[-1][2].startswith("Rollback production: trips-model ")
    rollback(clone, forge, to=first)
    assert f"As it was at {first[:12]}" in forge.opened[-1][3]
    with chdir(clone.root):
        assert status.history(Path(), "HEAD", "production")[2][1] == "-"


def test_a_rollback_or_promotion_that_has_nowhere_to_go_is_refused(twice, forge):
    clone, first = twice
    clone.git("switch", "--quiet", "--create", "aside")
    clone.git("commit", "--quiet", "--allow-empty", "--message", "Never merged")
    for to, reason in {
        "nowhere": "nowhere: no such commit here",
        f"{first}^": "pinned nothing at",
        clone.git("rev-parse", "HEAD"): "not a commit of the main line",
    }.items():
        with pytest.raises(UserError, match=reason):
            rollback(clone, forge, to=to)
    clone.git("push", "--quiet", "--force", "origin", f"{first}:main")
    with pytest.raises(UserError, match="has pinned nothing else before"):
        rollback(clone, forge)
    with pytest.raises(UserError, match="pins nothing; there is nothing to promote"):
        promote(clone, forge)
    assert forge.opened == []


def test_history_and_changed_are_read_from_git_alone(twice):
    clone, first = twice
    digests = [pin_at(clone.root, commit, "production").digest[:12] for commit in ("HEAD", first)]
    with chdir(clone.root):
        rows = status.history(Path(), "HEAD", "production")
        assert rows[0][:6] == ("since", "pinned", "model", "commit", "by", "why")
        with pytest.raises(UserError, match=r"stagging\.yaml: not found; did you mean 'staging'\?"):
            status.history(Path(), "HEAD", "stagging")
        assert [row[1] for row in rows[1:]] == [*digests, "-"]
        assert pins.moved(Path(), "HEAD") == []
        assert pins.moved(Path(), first) == ["production"]
        assert pins.moved(Path(), "0" * 40) == ["staging", "production"]


# What main may make that an environment does not pin.


def test_a_merged_release_leaves_nothing_unreleased_and_a_promotion_neither(released):
    clone, before = released
    assert not unreleased(clone, before)
    merged = clone.git("rev-parse", "HEAD")
    clone.pin("production", manifest.load(clone.root, "staging").pin)
    assert not unreleased(clone, merged)
    assert unreleased(clone, "0" * 40)
    lock, pin = clone.root / "dvc.lock", manifest.load(clone.root, "staging").pin
    whole = lock.read_text()
    lock.write_text(whole.replace(pin.dvc.bundle, "0" * 32 + ".dir"))
    assert unreleased(clone, before)
    lock.write_text(whole)
    clone.pin("staging", None)
    assert unreleased(clone, "HEAD")


def test_a_change_of_anything_else_is_unreleased_until_it_is_released_or_undone(released):
    """Undone, what staging pins is made once more, and an open proposal of it is overtaken."""
    clone, _ = released
    merged = clone.git("rev-parse", "HEAD")
    (clone.root / "README.md").write_text("Another word.\n")
    changed = clone.commit("A word")
    assert unreleased(clone, merged)
    clone.pin("production", manifest.load(clone.root, "staging").pin)
    assert unreleased(clone, changed)
    clone.git("revert", "--no-edit", "HEAD~1")
    assert unreleased(clone, changed)


def test_a_proposal_that_main_has_overtaken_is_marked_as_failed(released, forge):
    clone, _ = released
    old = branches.write(
        clone.root, "HEAD", {manifest.path("staging"): b"an older proposal\n"}, "Old"
    )
    branches.push(clone.root, old, "release/staging", expected="")
    assert "nothing to release" in release(clone, forge)
    assert forge.states[-1][:2] == (old, "failure")
