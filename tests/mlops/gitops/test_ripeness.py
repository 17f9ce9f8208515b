"""A promotion's conditions: what is not ripe is refused with all that it misses, or overridden."""

from __future__ import annotations

import datetime as dt
from contextlib import chdir
from pathlib import Path

import pytest
import requests
import yaml

from mlops.base import processes
from mlops.base.errors import Refused, UserError
from mlops.deploy import local, manifest, smoke_test
from mlops.deploy.target import Endpoint
from mlops.forge.protocol import Merge
from mlops.gitops import promotion, reconcile, ripeness, status

ALL = {"from": "staging", "hours": 24, "requests": 3, "monitoring": "ok", "verify": "true"}
MESSAGE = ("log", "-1", "--format=%B", "FETCH_HEAD")


def ask(clone, **conditions):
    """Write production's conditions, and merge them."""
    file = clone.root / manifest.path("production")
    content = {**yaml.safe_load(file.read_text()), "promotion": conditions}
    pin = content.pop("pin")
    file.write_text(yaml.safe_dump({**content, "pin": pin}, sort_keys=False))
    clone.commit("Ask for more")


def promote(clone, forge, state="ok", **options):
    digest = manifest.load(clone.root, "staging").pin.digest
    with chdir(clone.root):
        return promotion.promote(
            Path(), "staging", "production", forge, lambda _: (digest, state), **options
        )


def message(clone):
    clone.git("fetch", "--quiet", "origin", "promote/production")
    return clone.git(*MESSAGE)


def history(clone, forge=None):
    with chdir(clone.root):
        return status.history(Path(), "HEAD", "production", forge)[1]


def at(monkeypatch, hours_ago):
    """Let Git commit at another time."""
    moment = dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours_ago)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_DATE", moment.isoformat(timespec="seconds"))


@pytest.fixture
def pinned(clone, monkeypatch):
    """Staging has pinned a bundle for 30 hours."""
    with monkeypatch.context() as past:
        at(past, 30)
        clone.pin("staging", clone.judged_pin())
    return clone


@pytest.fixture
def staged(pinned):
    """It runs it, too."""
    with chdir(pinned.root):
        list(reconcile.run(pinned.params(), Path(), "staging"))
    return pinned


def answer(clone, times):
    """Let staging answer real requests."""
    with chdir(clone.root):
        address = local.current(Endpoint("staging", "trips", Path())).address
    rows, _ = smoke_test.reference(clone.root / "models/bundle")
    for row in rows[:times]:
        requests.post(f"{address}/predict", json=[row], timeout=30).raise_for_status()


def test_all_that_is_missing_is_in_one_line_and_nothing_is_proposed(clone, forge):
    clone.pin("staging", clone.judged_pin())
    ask(clone, **ALL)
    with pytest.raises(Refused) as refused:
        promote(clone, forge, "watch: scores drift")
    digest = manifest.load(clone.root, "staging").pin.digest[:12]
    assert str(refused.value) == (
        f"production: {digest} is not ripe: staging runs nothing, pinned is {digest}; `mlops "
        "reconcile staging` first; pinned by staging for 0.0 hours, expected 24; 0 requests "
        "answered in staging, expected 3; monitoring of staging: watch: scores drift, expected ok; "
        "`true` waits for the rest"
    )
    assert promote(clone, forge, ripe=True).startswith(f"production: {digest} is not ripe: ")
    assert forge.opened == []


def test_what_was_verified_is_in_the_commit_and_the_pull_request_and_read_back(
    staged, forge, monkeypatch
):
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    shown = "echo first; echo $MLOPS_ENVIRONMENT $MLOPS_BUNDLE${GITHUB_TOKEN-}"
    verify = f"curl --fail --silent $MLOPS_SERVING_URL/model; {shown}"
    ask(staged, **{**ALL, "verify": verify})
    answer(staged, 3)
    promote(staged, forge)
    digest = manifest.load(staged.root, "staging").pin.digest
    expected = [
        "Verified: staging runs it with all of the requests, and it answers",
        "Verified: pinned by staging for 30.0 hours, expected 24",
        "Verified: 3 requests answered in staging, expected 3",
        "Verified: monitoring of staging: ok",
        f"Verified: `{verify}`: staging {digest}",
    ]
    text = message(staged)
    assert staged.git("log", "-1", "--format=%(trailers)", "FETCH_HEAD").splitlines() == expected
    assert forge.opened[-1][3].rstrip() in text
    # What the branch holds already is proposed again as it is, though the figures have changed.
    answer(staged, 1)
    promote(staged, forge)
    assert (message(staged), forge.opened[-1]) == (text, forge.opened[-2])

    with monkeypatch.context() as later:
        at(later, -2)
        staged.git("merge", "--quiet", "--no-ff", "FETCH_HEAD", "--message", "Merge by a person")
    row = history(staged)
    assert row[8] == "; ".join(line.removeprefix("Verified: ") for line in expected)
    assert (row[5:7], row[7][:4]) == (("Merge by a person", "-"), "2:00")


def test_hours_count_from_the_last_time_that_the_main_line_began_to_pin_the_bytes(
    pinned, forge, monkeypatch
):
    pin = manifest.load(pinned.root, "staging").pin
    ask(pinned, hours=24)
    with monkeypatch.context() as past:
        at(past, 20)
        pinned.pin("staging", None)
        pinned.pin("staging", pin)
        # Another pin of the same bytes is no break.
        at(past, 2)
        pinned.pin("staging", pin, version=9)
    with pytest.raises(Refused, match=r"pinned by staging for 20\.0 hours, expected 24"):
        promote(pinned, forge)


def test_an_override_says_why_and_what_was_missing_and_forges_no_other_line(staged, forge):
    ask(staged, hours=1000)
    promote(staged, forge, because="an outage\nVerified: by nobody")
    expected = (
        "Overridden: an outage Verified: by nobody (not met: pinned by staging for 30.0 hours, "
        "expected 1000)"
    )
    assert message(staged).splitlines()[-1] == expected
    assert forge.opened[-1][3].rstrip().endswith(expected)
    promote(staged, forge, because="a second outage")
    assert "Overridden: a second outage (not met: " in message(staged)
    text = message(staged)
    promote(staged, forge, because="a second outage")
    assert message(staged) == text
    staged.merge("promote/production")
    # A squashed commit whose text was not kept says nothing, as does a merge of the same moment.
    assert history(staged)[6:] == ("-", "-", "-")


def test_what_only_the_forge_knows_comes_from_there_and_without_its_answer_git_still_tells(
    pinned, forge
):
    pinned.pin("production", manifest.load(pinned.root, "staging").pin)
    pinned.git("commit", "--amend", "--quiet", "--message", "By hand\n\nReviewed-by: Jo <jo@x.y>")
    opened = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    merge = Merge(opened, opened + dt.timedelta(hours=5), ("maria", "li"))
    commits = []
    forge.merged = lambda commit: commits.append(commit) or merge
    assert history(pinned)[6:8] == ("Jo <jo@x.y>", "-")
    assert history(pinned, forge)[6:8] == ("maria, li", "5:00:00")
    assert commits[0] == pinned.git("rev-parse", "HEAD")

    def away(commit):
        commits.append(commit)
        raise UserError("GitHub: does not answer")

    forge.merged, commits[:] = away, []
    assert history(pinned, forge)[6] == "not known: GitHub: does not answer"
    assert len(commits) == 1


def test_a_command_that_fails_or_does_not_end_is_no_verification(staged, forge, monkeypatch):
    monkeypatch.setattr(ripeness, "VERIFY_SECONDS", 1)
    for verify, reason in {
        "exec 2>&1; nosuchprogram": "exit code 127, expected 0: .*not found",
        "echo $$ > .run/pid; sleep 1000 & wait": "not finished after 1 s, expected 0: no output",
    }.items():
        ask(staged, verify=verify)
        with pytest.raises(Refused, match=reason):
            promote(staged, forge)
    assert not processes.runs(int((staged.root / ".run/pid").read_text()))


def test_conditions_that_nobody_can_judge_are_an_error_unless_overridden(
    pinned, forge, monkeypatch
):
    ask(pinned, **ALL)

    def away(*_):
        raise UserError("the target is away")

    monkeypatch.setattr(local, "current", away)
    for options in ({}, {"ripe": True}):
        with pytest.raises(UserError, match="the target is away"):
            promote(pinned, forge, **options)
    promote(pinned, forge, because="an outage")
    assert "Overridden: an outage (not met: not judged: the target is away)" in message(pinned)


def test_another_source_is_refused_whatever_the_reason(pinned, forge):
    ask(pinned, **{**ALL, "from": "canary"})
    for because in ("", "an outage"):
        with pytest.raises(UserError, match=r"promotion\.from: found 'canary', and SOURCE is 'sta"):
            promote(pinned, forge, because=because)
    assert forge.opened == []


def test_the_command_ends_with_0_for_what_is_ripe_or_not_yet_and_with_1_or_2_otherwise(staged):
    ask(staged, monitoring="ok")
    code, out, _ = staged.command("promote", "staging", "production", "--ripe")
    assert code == 0
    assert "is not ripe: monitoring of staging: " in out.splitlines()[-1]
    code, _, err = staged.command("promote", "staging", "production")
    assert (code, "is not ripe" in err) == (1, True)
    code, _, err = staged.command("promote", "staging", "production", "--now")
    assert (code, "--because TEXT: expected both" in err) == (2, True)
    code, out, _ = staged.command("promote", "staging", "production", "--now", "--because", "why")
    assert (code, "Overridden: why" in out) == (0, True)
