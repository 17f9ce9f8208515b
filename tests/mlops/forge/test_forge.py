"""One comment, one pull request, one status, on either forge, over HTTP: whoever else writes."""

import json
import threading
import time
from dataclasses import dataclass

import pytest

from mlops.base.errors import UserError
from mlops.forge import azure_devops, github
from mlops.forge.protocol import DryRun
from mlops.forge.select import current_forge, current_pull_request
from tests.forge_server import Fault, ForgeServer
from tests.forge_state import PERSON, ROBOT

MARKER = "<!-- mlops:verdict -->"
CREATES = "POST .*(comments|threads)$"
LISTS = "GET .*(comments|threads)$"
OPENS = "POST .*pull(s|requests)$"
RELEASE = "release/staging"


@dataclass(frozen=True)
class Side:
    """One of the two APIs that the server has, and a pull request from `feature` with number 1."""

    server: ForgeServer
    name: str

    def run(self, **environment):
        """The forge as a CI run of its own finds it."""
        return current_forge(getattr(self.server, self.name)(**environment))

    def comment(self, body, **environment):
        return self.run(**environment).comment(1, body, "verdict")

    def texts(self):
        return [comment.body for comment in self.server.on(1)]

    def titles(self):
        return [pull.title for pull in self.server.pulls]


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.fixture
def server():
    with ForgeServer() as server:
        server.open("feature", title="A feature")
        yield server


@pytest.fixture(params=["github", "azure"])
def side(request, server):
    return Side(server, request.param)


@pytest.fixture
def hub(server):
    return Side(server, "github")


@pytest.fixture
def azure(server):
    return Side(server, "azure")


def written(body):
    return f"{MARKER}\n\n{body}"


def test_a_comment_of_each_key_is_created_once_and_then_updated_where_it_differs(side):
    side.run().comment(1, "none", "drift")
    first = side.comment("accepted")
    assert first.startswith(f"{side.server.url}/acme/")
    assert side.comment("accepted") == first
    assert side.server.asked("PATCH") == []
    assert side.comment("refused") == first
    assert side.texts() == ["<!-- mlops:drift -->\n\nnone", written("refused")]


def test_comments_that_only_look_similar_are_not_changed(side):
    similar = {
        written("mine"): PERSON,
        f"What is\n{MARKER}\nfor?": PERSON,
        f"> {MARKER}\n\nquoted": ROBOT,
        f"\n{MARKER}\n\nnot the first line": ROBOT,
        "<!-- mlops:verdicts -->\n\nanother key": ROBOT,
    }
    for text, author in similar.items():
        side.server.write(1, text, author)
    side.comment("accepted")
    side.comment("refused")
    assert side.texts() == [*similar, written("refused")]


def test_a_persons_token_finds_that_persons_comment(hub):
    hub.server.write(1, written("the robot's"), ROBOT)
    for body in ("accepted", "refused"):
        hub.comment(body, token="marias-own")
    assert hub.texts() == [written("the robot's"), written("refused")]


def test_a_comment_is_found_behind_hundreds_of_others_and_after_a_deletion_created_again(side):
    for number in range(250):
        side.server.write(1, f"Remark {number}")
    side.comment("accepted")
    side.comment("refused")
    assert side.texts()[250:] == [written("refused")]
    side.server.comments[250].deleted = True
    side.comment("accepted")
    assert side.texts()[250:] == [written("accepted")]


def test_the_oldest_of_several_comments_is_kept_and_the_deletions_are_logged(side, capsys):
    for body in ("first", "second", "third"):
        side.server.write(1, written(body), ROBOT)
    url = side.comment("accepted")
    assert side.texts() == [written("accepted")]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("deleted http") and url in line for line in lines)


def test_of_another_runs_comment_and_ours_the_older_is_kept_whoever_deletes_the_other(side):
    other = side.server.write
    side.server.fail(Fault(LISTS, meanwhile=lambda: other(1, written("theirs"), ROBOT)))
    side.comment("ours")
    assert side.texts() == [written("ours")]
    assert [comment.deleted for comment in side.server.comments] == [False, True]
    late = other(1, written("late"), ROBOT)
    side.server.fail(Fault("PATCH", meanwhile=lambda: setattr(late, "deleted", True)))
    side.comment("accepted")
    assert side.texts() == [written("accepted")]


def test_runs_that_write_at_the_same_time_leave_one_comment(side):
    together = threading.Barrier(3, timeout=20)
    for _ in range(3):
        side.server.fail(Fault(LISTS, meanwhile=together.wait))
    runs = [threading.Thread(target=side.comment, args=(f"run {n}",)) for n in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(side.server.asked(CREATES)) == 3
    assert len(side.texts()) == 1
    assert not side.server.comments[0].deleted


@pytest.mark.parametrize("status", [0, 502])
def test_what_was_created_although_the_response_was_lost_is_not_created_twice(side, status):
    for match in (CREATES, OPENS):
        side.server.fail(Fault(match, status=status, after=True))
    side.comment("accepted")
    side.run().pull_request(RELEASE, "main", "Release", "text")
    assert [comment.body for comment in side.server.comments] == [written("accepted")]
    assert side.titles() == ["A feature", "Release"]
    assert len(side.server.asked(CREATES)) == len(side.server.asked(OPENS)) == 1


@pytest.mark.parametrize("line", ["word " * 15, "🛫 " * 30])
def test_a_comment_too_long_for_the_forge_is_cut_and_says_so(side, line):
    body = "# Verdict\n" + f"{line}\n" * 5_000
    for _ in range(2):
        side.comment(body)
    (text,) = side.texts()
    assert text.startswith(f"{MARKER}\n\n# Verdict\n{line}\n")
    longest = {"github": "65,536", "azure": "150,000"}[side.name]
    assert text.endswith(f"characters, and the forge takes {longest}.*\n")
    assert len(side.server.asked("PATCH")) == 0


@pytest.mark.parametrize(
    ("body", "end"),
    [("<details>\n\n```\n" + "code\n" * 20_000 + "```\n</details>",
      "code\n```\n\n</details>\n\n*Cut here: 100,"),
     ("x" * 100_000, "xxx\n\n*Cut here: 100,")],
)  # fmt: skip
def test_the_note_of_a_cut_is_not_hidden_by_what_was_cut(hub, body, end):
    hub.comment(body)
    assert end in hub.texts()[0]
    assert 65_000 < len(hub.texts()[0]) <= 65_536


def test_a_pull_request_is_opened_once_updated_and_once_closed_opened_again(side):
    first = side.run().pull_request(RELEASE, "main", "Release a", "a")
    assert side.run().pull_request(RELEASE, "main", "Release b", "b" * 1_000) == first
    assert first.startswith(f"{side.server.url}/acme/")
    assert first.endswith("/2")
    pull = side.server.pull(2)
    assert (pull.title, pull.body, pull.author) == ("Release b", "b" * 1_000, ROBOT)
    for number, state in ((2, "merged"), (3, "closed")):
        side.server.close(number, state)
        assert side.run().pull_request(RELEASE, "main", "Release", "") != first
    assert [pull.state for pull in side.server.pulls] == ["open", "merged", "closed", "open"]


def test_a_pull_request_of_a_fork_or_into_another_branch_is_not_taken_for_it(side):
    side.server.open(RELEASE, owner="stranger")
    side.server.open(RELEASE, base="next")
    side.run().pull_request(RELEASE, "main", "Release", "")
    assert side.titles() == ["A feature", "", "", "Release"]


def test_a_pull_request_that_another_run_opened_meanwhile_is_updated(side):
    def other():
        side.server.open(RELEASE, title="Theirs", author=ROBOT)

    side.server.fail(Fault("GET .*pull", meanwhile=other))
    url = side.run().pull_request(RELEASE, "main", "Ours", "")
    assert side.titles() == ["A feature", "Ours"]
    assert url.endswith("/2")


def test_a_pull_request_that_exists_but_is_not_listed_is_an_error_after_some_retries(side):
    github = (422, f"A pull request already exists for acme:{RELEASE}.")
    azure = (409, "TF401179: An active pull request exists.")
    status, content = github if side.name == "github" else azure
    side.server.fail(Fault(OPENS, status=status, content=content, times=1_000))
    with pytest.raises(UserError, match="it has one, but does not show it; run it again"):
        side.run().pull_request(RELEASE, "main", "Release", "")
    assert len(side.server.asked(OPENS)) == 6


def test_a_text_is_cut_where_a_forge_takes_no_more_and_a_status_needs_no_page(hub, azure):
    azure.run().pull_request(RELEASE, "main", "Release", "line\n" * 1_000)
    assert azure.server.pull(2).body.endswith("and the forge takes 4,000.*\n")
    hub.run().status("c0ffee", "failure", "mlops/gate", "because " * 50)
    (status,) = hub.server.statuses
    assert (status.text, status.url) == (("because " * 50)[:140], None)


@pytest.mark.parametrize(
    ("name", "states", "page"),
    [
        ("github", ["pending", "success", "failure"], "/acme/flights/actions/runs/7"),
        ("azure", ["pending", "succeeded", "failed"], "/_build/results?buildId=7"),
    ],
)
def test_a_status_has_the_forges_own_states_and_the_page_of_the_run(server, name, states, page):
    run = Side(server, name).run(GITHUB_RUN_ID="7", BUILD_BUILDID="7")
    for state in ("pending", "success", "failure"):
        run.status("c0ffee", state, "mlops/gate", "every rule holds")
    assert [status.state for status in server.statuses] == states
    for status in server.statuses:
        assert (status.context, status.text) == ("mlops/gate", "every rule holds")
        assert status.url.endswith(page)


def test_the_number_of_a_branchs_pull_request(side):
    side.server.open("feature", base="next")
    side.server.close(side.server.open("done").number)
    heads = ("acme:feature", "feature", "acme:done", "acme:nothing", None)
    assert [side.run().number(head) for head in heads] == [1, 1, None, None, None]


def test_the_number_of_a_forks_pull_request_is_found_by_its_owner(hub):
    hub.server.open("main", owner="stranger")
    hub.server.open("main", owner="somebody")
    # A head that GitHub can't read finds nothing rather than anything.
    heads = ("somebody:main", "Somebody:main", "acme:main", ":")
    assert [hub.run().number(head) for head in heads] == [3, 3, None, None]


@pytest.mark.parametrize(
    ("environment", "event", "number"),
    [
        ({"GITHUB_REF": "refs/pull/12/merge"}, "", 12),
        ({"GITHUB_REF": "refs/heads/main"}, {"pull_request": {"number": 56}}, 56),
        ({"SYSTEM_PULLREQUEST_PULLREQUESTID": "34"}, "", 34),
        ({"SYSTEM_PULLREQUEST_PULLREQUESTID": "$(System.PullRequest.PullRequestId)"}, [], None),
        ({"GITHUB_EVENT_PATH": "no/such/file"}, "", None),
        ({}, {"ref": "x"}, None),
    ],
)
def test_the_number_of_the_pull_request_of_a_run(side, tmp_path, environment, event, number):
    (tmp_path / "event.json").write_text(json.dumps(event))
    environment = {"GITHUB_EVENT_PATH": str(tmp_path / "event.json"), **environment}
    assert current_pull_request(environment) == number
    assert side.run(**environment).number(None) == number
    assert current_forge(environment).number(None) == number


def test_the_environment_selects_the_forge(server):
    laptop = {"GITHUB_TOKEN": "some", "GITHUB_REPOSITORY": "acme/flights"}
    azure_with_github = {**server.azure(), **laptop, "BUILD_REPOSITORY_PROVIDER": "GitHub"}
    for environment in (server.github(), laptop, azure_with_github):
        assert isinstance(current_forge(environment), github.GitHub)
    assert isinstance(current_forge(server.azure()), azure_devops.AzureDevOps)


@pytest.mark.parametrize(
    ("system", "variable", "advice"),
    [
        ("github", "GITHUB_TOKEN", ": in a workflow, `env: GITHUB_TOKEN: ${{ github.token }}`"),
        ("github", "GITHUB_REPOSITORY", ": OWNER/NAME"),
        ("azure", "SYSTEM_ACCESSTOKEN",
         ": in the step, `env: SYSTEM_ACCESSTOKEN: $(System.AccessToken)`"),
        ("azure", "SYSTEM_TEAMPROJECT", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", ["  ", "$(System.AccessToken)"])
def test_a_missing_variable_is_named_by_a_dry_run(server, system, variable, advice, value, capsys):
    run = current_forge({**getattr(server, system)(), variable: value})
    assert isinstance(run, DryRun)
    assert run.comment(7, "# Accepted\nAll rules hold", "verdict") == "dry run, nothing sent"
    assert server.log == []
    name = {"github": "GitHub", "azure": "Azure DevOps"}[system]
    assert capsys.readouterr().out == (
        f"dry run; {name} needs {variable}{advice}\n"
        "    would send: comment 'verdict' on pull request 7\n"
        "    # Accepted\n    All rules hold\n"
    )


def test_a_dry_run_prints_all_that_it_would_send(capsys):
    run = current_forge({})
    run.pull_request(RELEASE, "main", "Release", "The pin")
    run.status("c0ffee" * 6, "success", "mlops/gate", "accepted")
    output = capsys.readouterr().out
    assert f"would send: pull request {RELEASE} -> main: Release\n    The pin\n" in output
    assert "would send: status mlops/gate of c0ffeec0ffee: success, accepted\n" in output
    assert run.merged("a" * 40) is None


@pytest.mark.parametrize("repository", ["flights", "acme/flights/more", "acme/fli ghts", "../x/y"])
def test_a_malformed_repository_is_named(repository):
    with pytest.raises(UserError, match="GITHUB_REPOSITORY: found .*, expected OWNER/NAME"):
        current_forge({"GITHUB_TOKEN": "some", "GITHUB_REPOSITORY": repository})


# Who approved what was merged.


def test_a_merge_is_known_by_its_commit_with_its_times_and_those_who_approve_it_still(side):
    pull = side.server.close(1, commit="a" * 40)
    side.server.close(side.server.open("other").number, commit="b" * 40)
    pull.reviews += [("maria", "CHANGES_REQUESTED"), ("jo", "APPROVED"), ("li", "COMMENTED")]
    if side.name == "github":
        # There each review counts until the same person's next one; Azure DevOps has one vote each.
        pull.reviews += [("maria", "APPROVED"), ("maria", "COMMENTED"), ("jo", "DISMISSED")]
    else:
        pull.reviews.append(("kim", "SUGGESTIONS"))
    merge = side.run().merged("a" * 40)
    assert merge.approved_by == (("maria",) if side.name == "github" else ("jo", "kim"))
    assert str(merge.merged - merge.opened) == "1 day, 1:30:00"
    assert side.run().merged("c" * 40) is None
