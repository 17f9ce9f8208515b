"""One comment, one pull request, one status, on either forge, over HTTP: whoever else writes."""

import json
import threading
from dataclasses import dataclass

import pytest

from mlops.base.errors import UserError
from mlops.base.faults import Patience
from mlops.forge import azure_devops, forge, github
from tests.forge_server import Fault, ForgeServer
from tests.forge_state import PERSON, ROBOT

MARKER = "<!-- mlops:verdict -->"
CREATES = "POST .*(comments|threads)$"
LISTS = "GET .*(comments|threads)$"
OPENS = "POST .*pull(s|requests)$"


@dataclass(frozen=True)
class Side:
    """One of the two forges that the server speaks for."""

    server: ForgeServer
    name: str

    def run(self, **environment):
        """What a CI run of its own would speak with; it waits without taking time."""
        connect = {"github": github.connect, "azure": azure_devops.connect}[self.name]
        given = getattr(self.server, self.name)(**environment)
        return connect(given, Patience(sleep=lambda _: None))

    def texts(self, pull=1):
        return [comment.body for comment in self.server.on(pull)]


@pytest.fixture(params=["github", "azure"])
def side(request):
    with ForgeServer() as server:
        server.open("feature", title="A feature")
        yield Side(server, request.param)


@pytest.fixture
def hub():
    with ForgeServer() as server:
        yield Side(server, "github")


@pytest.fixture
def azure():
    with ForgeServer() as server:
        yield Side(server, "azure")


def written(body):
    return f"{MARKER}\n\n{body}"


def test_a_comment_is_written_once_and_then_anew(side):
    first = side.run().comment(1, "accepted", "verdict")
    second = side.run().comment(1, "refused", "verdict")
    assert first == second
    assert first.startswith(f"{side.server.url}/acme/")
    assert side.texts() == [written("refused")]


def test_a_comment_that_says_the_same_is_not_touched(side):
    for _ in range(2):
        side.run().comment(1, "accepted", "verdict")
    assert side.server.asked("PATCH") == []


def test_each_key_has_a_comment_of_its_own(side):
    run = side.run()
    run.comment(1, "accepted", "verdict")
    run.comment(1, "none", "drift")
    assert side.texts() == [written("accepted"), "<!-- mlops:drift -->\n\nnone"]


@pytest.mark.parametrize(
    ("author", "text"),
    [
        (PERSON, written("mine")),
        (PERSON, f"What is\n{MARKER}\nfor?"),
        (ROBOT, f"> {MARKER}\n\nquoted"),
        (ROBOT, f"\n{MARKER}\n\nnot the first line"),
        (ROBOT, "<!-- mlops:verdicts -->\n\nanother key"),
    ],
)
def test_what_only_looks_like_the_comment_is_left_alone(side, author, text):
    side.server.write(1, text, author)
    side.run().comment(1, "accepted", "verdict")
    side.run().comment(1, "refused", "verdict")
    assert side.texts() == [text, written("refused")]


def test_a_comment_that_was_deleted_is_written_again(side):
    side.run().comment(1, "accepted", "verdict")
    side.server.comments[0].deleted = True
    side.run().comment(1, "refused", "verdict")
    assert side.texts() == [written("refused")]


def test_a_persons_token_finds_that_persons_comment(hub):
    hub.server.open("feature")
    hub.server.write(1, written("the robot's"), ROBOT)
    for body in ("accepted", "refused"):
        hub.run(token="marias-own").comment(1, body, "verdict")
    assert hub.texts() == [written("the robot's"), written("refused")]


def test_a_comment_is_found_behind_hundreds_of_others(side):
    for number in range(250):
        side.server.write(1, f"Remark {number}")
    for body in ("accepted", "refused"):
        side.run().comment(1, body, "verdict")
    assert side.texts()[250:] == [written("refused")]


def test_of_two_comments_the_older_is_kept_and_it_is_said(side, capsys):
    for body in ("first", "second", "third"):
        side.server.write(1, written(body), ROBOT)
    url = side.run().comment(1, "accepted", "verdict")
    assert side.texts() == [written("accepted")]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith("deleted http") and url in line for line in said)


def test_another_runs_comment_between_look_and_creation_is_the_one_kept(side, capsys):
    other = side.server.write
    side.server.fail(Fault(LISTS, meanwhile=lambda: other(1, written("theirs"), ROBOT)))
    side.run().comment(1, "ours", "verdict")
    assert side.texts() == [written("ours")]
    assert [comment.deleted for comment in side.server.comments] == [False, True]


def test_a_second_comment_that_the_other_run_deleted_first_is_no_error(side, capsys):
    for body in ("first", "second"):
        side.server.write(1, written(body), ROBOT)
    late = side.server.comments[1]
    side.server.fail(Fault("PATCH", meanwhile=lambda: setattr(late, "deleted", True)))
    side.run().comment(1, "accepted", "verdict")
    assert side.texts() == [written("accepted")]


def test_runs_that_write_at_the_same_time_leave_one_comment(side):
    together = threading.Barrier(3, timeout=20)
    for _ in range(3):
        side.server.fail(Fault(LISTS, meanwhile=together.wait))
    runs = [
        threading.Thread(target=side.run().comment, args=(1, f"run {number}", "verdict"))
        for number in range(3)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(side.server.asked(CREATES)) == 3
    assert len(side.texts()) == 1
    assert not side.server.comments[0].deleted


@pytest.mark.parametrize("fault", [{"status": 0}, {"status": 502}, {"status": 500}])
def test_a_comment_whose_answer_was_lost_is_not_written_twice(side, fault):
    side.server.fail(Fault(CREATES, after=True, **fault))
    side.run().comment(1, "accepted", "verdict")
    assert [comment.body for comment in side.server.comments] == [written("accepted")]
    assert len(side.server.asked(CREATES)) == 1


@pytest.mark.parametrize("fault", [{"status": 0}, {"status": 503, "times": 3}])
def test_a_comment_that_was_not_written_is_sent_again(side, fault):
    side.server.fail(Fault(CREATES, **fault))
    side.run().comment(1, "accepted", "verdict")
    assert side.texts() == [written("accepted")]


@pytest.mark.parametrize("line", ["word " * 15, "🛫 " * 30])
def test_a_comment_too_long_for_the_forge_is_cut_and_says_so(side, line):
    body = "# Verdict\n" + f"{line}\n" * 5_000
    side.run().comment(1, body, "verdict")
    side.run().comment(1, body, "verdict")
    (text,) = side.texts()
    assert text.startswith(f"{MARKER}\n\n# Verdict\n{line}\n")
    longest = {"github": "65,536", "azure": "150,000"}[side.name]
    assert text.endswith(f"characters, and the forge takes {longest}.*\n")
    assert len(side.server.asked("PATCH")) == 0


def test_what_is_open_where_a_comment_is_cut_does_not_hide_the_line_that_says_so(hub):
    hub.server.open("feature")
    hub.run().comment(1, "<details>\n\n```\n" + "code\n" * 20_000 + "```\n</details>", "verdict")
    assert "code\n```\n\n</details>\n\n*Cut here: 100," in hub.texts()[0]


def test_a_comment_of_one_long_line_is_cut_within_it(hub):
    hub.server.open("feature")
    hub.run().comment(1, "x" * 100_000, "verdict")
    assert 65_000 < len(hub.texts()[0]) <= 65_536


def test_azure_devops_counts_an_emoji_as_two(azure):
    azure.server.open("feature")
    azure.run().comment(1, "🛫" * 100_000, "verdict")
    assert azure.texts()[0].endswith("takes 150,000.*\n")


def test_a_pull_request_is_opened_once_and_then_updated(side):
    first = side.run().pull_request("release/staging", "main", "Release a", "a")
    second = side.run().pull_request("release/staging", "main", "Release b", "b" * 1_000)
    assert first == second
    assert first.startswith(f"{side.server.url}/acme/")
    assert first.endswith("/2")
    pull = side.server.pull(2)
    assert (pull.title, pull.body, pull.author) == ("Release b", "b" * 1_000, ROBOT)
    assert len(side.server.pulls) == 2


@pytest.mark.parametrize("state", ["merged", "closed"])
def test_after_a_pull_request_was_closed_a_new_one_is_opened(side, state):
    first = side.run().pull_request("release/staging", "main", "Release", "")
    side.server.close(2, state)
    assert side.run().pull_request("release/staging", "main", "Release", "") != first
    assert [pull.state for pull in side.server.pulls] == ["open", state, "open"]


def test_a_pull_request_of_a_fork_or_into_another_branch_is_not_taken_for_it(side):
    side.server.open("release/staging", owner="stranger")
    side.server.open("release/staging", base="next")
    side.run().pull_request("release/staging", "main", "Release", "")
    assert [pull.title for pull in side.server.pulls] == ["A feature", "", "", "Release"]


def test_a_pull_request_that_another_run_opened_meanwhile_is_updated(side):
    def other():
        side.server.open("release/staging", title="Theirs", author=ROBOT)

    side.server.fail(Fault("GET .*pull", meanwhile=other))
    url = side.run().pull_request("release/staging", "main", "Ours", "")
    assert [pull.title for pull in side.server.pulls] == ["A feature", "Ours"]
    assert url.endswith("/2")


@pytest.mark.parametrize("status", [0, 502])
def test_a_pull_request_whose_answer_was_lost_is_not_opened_twice(side, status):
    side.server.fail(Fault(OPENS, status=status, after=True))
    side.run().pull_request("release/staging", "main", "Release", "text")
    assert [pull.title for pull in side.server.pulls] == ["A feature", "Release"]
    assert len(side.server.asked(OPENS)) == 1


def test_a_pull_request_that_is_there_but_not_shown_is_no_endless_search(side):
    taken = {"github": (422, "A pull request already exists for acme:release/staging.")}
    status, said = taken.get(side.name, (409, "TF401179: An active pull request exists."))
    side.server.fail(Fault(OPENS, status=status, content=said, times=1_000))
    with pytest.raises(UserError, match="it has one, but does not show it; run it again"):
        side.run().pull_request("release/staging", "main", "Release", "")
    assert len(side.server.asked(OPENS)) < 20


def test_a_pull_requests_text_is_cut_where_azure_devops_takes_no_more(azure):
    azure.run().pull_request("release/staging", "main", "Release", "line\n" * 1_000)
    assert azure.server.pull(1).body.endswith("and the forge takes 4,000.*\n")


def test_a_status_is_set_in_the_forges_own_words_with_the_page_of_the_run(side):
    run = side.run(GITHUB_RUN_ID="7", BUILD_BUILDID="7")
    for state in ("pending", "success", "failure"):
        run.status("c0ffee", state, "mlops/gate", "every rule holds")
    states = [item.state for item in side.server.statuses]
    page = {"github": "/acme/flights/actions/runs/7", "azure": "/_build/results?buildId=7"}
    own = {"github": "success failure", "azure": "succeeded failed"}
    assert states == ["pending", *own[side.name].split()]
    for item in side.server.statuses:
        assert (item.context, item.text) == ("mlops/gate", "every rule holds")
        assert item.url.endswith(page[side.name])


def test_a_status_may_be_long_and_need_no_page(hub):
    hub.run().status("c0ffee", "failure", "mlops/gate", "because " * 50)
    (status,) = hub.server.statuses
    assert status.text == ("because " * 50)[:140]
    assert status.url is None


def test_the_number_of_a_branchs_pull_request(side):
    side.server.open("feature", base="next")
    side.server.close(side.server.open("done").number)
    run = side.run()
    assert run.number("acme:feature") == 1
    assert run.number("feature") == 1
    assert run.number("acme:done") is None
    assert run.number("acme:nothing") is None
    assert run.number(None) is None


def test_the_number_of_a_forks_pull_request_is_found_by_its_owner(hub):
    hub.server.open("main", owner="stranger")
    hub.server.open("main", owner="somebody")
    assert hub.run().number("somebody:main") == 2
    assert hub.run().number("Somebody:main") == 2
    assert hub.run().number("acme:main") is None


def test_a_head_that_github_cannot_read_finds_nothing_rather_than_anything(hub):
    hub.server.open("feature")
    assert hub.run().number(":") is None


@pytest.mark.parametrize(
    ("environment", "number"),
    [
        ({"GITHUB_REF": "refs/pull/12/merge"}, 12),
        ({"GITHUB_REF": "refs/heads/main"}, None),
        ({"SYSTEM_PULLREQUEST_PULLREQUESTID": "34"}, 34),
        ({"SYSTEM_PULLREQUEST_PULLREQUESTID": "$(System.PullRequest.PullRequestId)"}, None),
        ({"GITHUB_EVENT_PATH": "no/such/file"}, None),
        ({}, None),
    ],
)
def test_the_number_of_the_pull_request_that_a_run_is_for(side, environment, number):
    assert side.run(**environment).number(None) == number
    assert forge.DryRun("", forge.this_pull_request(environment)).number(None) == number


@pytest.mark.parametrize(
    ("event", "number"),
    [({"pull_request": {"number": 56}}, 56), ({"ref": "x"}, None), ([], None), ("", None)],
)
def test_the_number_is_read_from_the_event_that_set_off_the_run(tmp_path, event, number):
    (tmp_path / "event.json").write_text(json.dumps(event))
    environment = {"GITHUB_EVENT_PATH": str(tmp_path / "event.json"), "GITHUB_REF": "refs/heads/x"}
    assert forge.this_pull_request(environment) == number


def test_a_run_knows_its_forge_by_its_environment():
    with ForgeServer() as server:
        assert isinstance(forge.here(server.github()), github.GitHub)
        assert isinstance(forge.here(server.azure()), azure_devops.AzureDevOps)
        # A laptop with a token; Azure Pipelines on a repository of GitHub's.
        laptop = {"GITHUB_TOKEN": "some", "GITHUB_REPOSITORY": "acme/flights"}
        assert isinstance(forge.here(laptop), github.GitHub)
        mixed = {**server.azure(), **laptop, "BUILD_REPOSITORY_PROVIDER": "GitHub"}
        assert isinstance(forge.here(mixed), github.GitHub)


@pytest.mark.parametrize(
    ("system", "variable", "advice"),
    [
        ("github", "GITHUB_TOKEN", ": in a workflow, `env: GITHUB_TOKEN: ${{ github.token }}`"),
        ("github", "GITHUB_REPOSITORY", ": OWNER/NAME"),
        (
            "azure",
            "SYSTEM_ACCESSTOKEN",
            ": in the step, `env: SYSTEM_ACCESSTOKEN: $(System.AccessToken)`",
        ),
        ("azure", "SYSTEM_TEAMPROJECT", ""),
        ("azure", "BUILD_REPOSITORY_NAME", ""),
        ("azure", "SYSTEM_COLLECTIONURI", ""),
    ],
)
@pytest.mark.parametrize("value", ["", "  ", "$(System.AccessToken)"])
def test_without_a_variable_it_is_a_dry_run_that_names_it(system, variable, advice, value, capsys):
    with ForgeServer() as server:
        run = forge.here({**getattr(server, system)(), variable: value})
        assert run.comment(7, "# Accepted\nAll rules hold", "verdict") == "dry run, nothing sent"
        assert server.log == []
    name = {"github": "GitHub", "azure": "Azure DevOps"}[system]
    assert capsys.readouterr().out == (
        f"dry run; {name} needs {variable}{advice}\n"
        "    would send: comment 'verdict' on pull request 7\n"
        "    # Accepted\n    All rules hold\n"
    )


def test_a_dry_run_prints_all_that_it_would_send(capsys):
    run = forge.here({})
    run.pull_request("release/staging", "main", "Release", "The pin")
    run.status("c0ffee" * 6, "success", "mlops/gate", "accepted")
    said = capsys.readouterr().out
    assert "would send: pull request release/staging -> main: Release\n    The pin\n" in said
    assert "would send: status mlops/gate of c0ffeec0ffee: success, accepted\n" in said


@pytest.mark.parametrize("repository", ["flights", "acme/flights/more", "acme/fli ghts", "../x/y"])
def test_a_repository_that_is_no_repository_is_named(repository):
    with pytest.raises(UserError, match="GITHUB_REPOSITORY: found .*, expected OWNER/NAME"):
        forge.here({"GITHUB_TOKEN": "some", "GITHUB_REPOSITORY": repository})
