"""What a forge refuses or loses: waited for where that helps, else one line without the token."""

import logging
import shutil
import socket
import subprocess
import time
from email.utils import formatdate

import pytest

from mlops.base.errors import UserError
from mlops.base.faults import Patience
from mlops.forge import azure_devops, forge, github
from tests.forge_server import Fault, ForgeServer

LISTS = "GET .*(comments|threads)$"
CREATES = "POST .*(comments|threads)$"
NEVER = 1_000


@pytest.fixture
def server():
    with ForgeServer() as running:
        running.open("feature")
        yield running


@pytest.fixture
def slept():
    return []


@pytest.fixture(params=["github", "azure"])
def environment(request, server):
    return getattr(server, request.param)()


def connect(environment, slept, seconds=90.0):
    side = azure_devops if "TF_BUILD" in environment else github
    return side.connect(environment, Patience(seconds, slept.append))


def refusal(run, act=lambda run: run.comment(1, "accepted", "verdict")):
    """The one line that it ends with."""
    with pytest.raises(UserError) as error:
        act(run)
    (line,) = str(error.value).splitlines()
    return line


@pytest.mark.parametrize("match", [LISTS, CREATES, "GET .*(user|connectionData)$"])
@pytest.mark.parametrize("status", [0, 500, 503])
def test_a_forge_in_trouble_is_asked_again_ever_more_slowly(
    server, environment, slept, match, status
):
    server.fail(Fault(match, status=status, times=4))
    connect(environment, slept).comment(1, "accepted", "verdict")
    assert slept == [0.5, 1, 2, 4]
    assert len(server.on(1)) == 1


def test_a_change_is_sent_again_too(server, environment, slept):
    run = connect(environment, slept)
    run.comment(1, "accepted", "verdict")
    server.fail(Fault("PATCH", status=502, times=2, after=True))
    run.comment(1, "refused", "verdict")
    assert [comment.body.splitlines()[-1] for comment in server.on(1)] == ["refused"]
    assert len(slept) == 2


@pytest.mark.parametrize(
    ("status", "headers", "least", "most"),
    [
        (429, {"Retry-After": "7"}, 7, 7),
        (503, {"Retry-After": "7"}, 7, 7),
        (403, {"Retry-After": "7"}, 7, 7),
        (429, {}, 60, 60),
    ],
)
def test_a_forge_that_names_a_time_is_given_it(
    server, environment, slept, status, headers, least, most
):
    server.fail(Fault(CREATES, status=status, headers=headers))
    connect(environment, slept).comment(1, "accepted", "verdict")
    assert least <= slept[0] <= most
    assert len(slept) == 1
    assert len(server.asked(CREATES)) == 2


def test_a_time_may_be_a_date(server, environment, slept):
    date = formatdate(time.time() + 20, usegmt=True)
    server.fail(Fault(LISTS, status=429, headers={"Retry-After": date}))
    connect(environment, slept).comment(1, "accepted", "verdict")
    assert 18 <= slept[0] <= 21


@pytest.mark.parametrize("asked", ["0", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_forge_that_wants_no_wait_is_not_asked_without_end(server, environment, slept, asked):
    server.fail(Fault(LISTS, status=429, headers={"Retry-After": asked}, times=NEVER))
    assert "the rate limit is reached; run it again" in refusal(connect(environment, slept))
    assert 60 < sum(slept) <= 90
    assert len(slept) < 20


@pytest.mark.parametrize("status", [403, 429])
def test_githubs_hourly_limit_is_waited_out_when_it_is_soon_over(server, slept, status):
    reset = str(int(time.time()) + 30)
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    server.fail(Fault(LISTS, status=status, headers=headers))
    connect(server.github(), slept).comment(1, "accepted", "verdict")
    assert 28 <= slept[0] <= 31


def test_githubs_limit_without_a_time_is_a_minute(server, slept):
    said = "You have exceeded a secondary rate limit. Please wait a few minutes."
    server.fail(Fault(CREATES, status=403, content=said))
    connect(server.github(), slept).comment(1, "accepted", "verdict")
    assert slept == [60]


def test_a_limit_that_lasts_longer_than_patience_is_said_at_once(server, slept):
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 2_100)}
    server.fail(Fault(LISTS, status=403, headers=headers))
    assert refusal(connect(server.github(), slept)) == (
        "GitHub: could not comment on pull request 1: the rate limit is reached for 35 min more; "
        "run it again, nothing is done twice"
    )
    assert slept == []


@pytest.mark.parametrize("match", [LISTS, CREATES, ""])
def test_patience_ends_after_so_many_seconds_in_all(server, environment, slept, match):
    server.fail(Fault(match, status=500, times=NEVER))
    line = refusal(connect(environment, slept, seconds=30.0))
    assert "it answers 500 Internal Server Error; run it again" in line
    assert 20 < sum(slept) <= 30


def test_patience_is_the_same_one_for_every_request_of_a_run(server, environment, slept):
    run = connect(environment, slept, seconds=10.0)
    server.fail(Fault("", status=500, times=NEVER))
    for _ in range(3):
        refusal(run)
    assert sum(slept) <= 10


def test_waiting_takes_time():
    start = time.monotonic()
    with ForgeServer() as server:
        server.open("feature")
        server.fail(Fault(LISTS, status=500))
        forge.here(server.github()).comment(1, "accepted", "verdict")
    assert 0.5 <= time.monotonic() - start < 5


def test_a_forge_that_is_not_there_is_named(environment, slept):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    moved = {**environment, "GITHUB_API_URL": url, "SYSTEM_COLLECTIONURI": url}
    line = refusal(connect(moved, slept, seconds=5.0))
    assert f"{url} does not answer (ConnectionError); run it again" in line
    assert 2 < sum(slept) <= 5


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1", "http://"])
def test_a_forge_that_cannot_be_asked_is_named_with_its_variable(environment, slept, url):
    wrong = {**environment, "GITHUB_API_URL": url, "SYSTEM_COLLECTIONURI": url}
    line = refusal(connect(wrong, slept))
    assert "_API_URL: " in line or "_COLLECTIONURI: " in line
    assert line.endswith("not a URL that can be asked")
    assert slept == []


def test_a_server_that_is_no_forge_is_named_with_its_variable(server, environment, slept):
    server.fail(Fault("", status=200, content="<html>Welcome</html>"))
    assert " answers, but not as " in refusal(connect(environment, slept))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_a_certificate_that_is_not_trusted_is_not_waited_for(server, slept, tmp_path):
    made = {"-keyout": tmp_path / "key", "-out": tmp_path / "certificate", "-subj": "/CN=forge"}
    options = [str(part) for pair in made.items() for part in pair]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *options],
        check=True,
        capture_output=True,
    )
    server.encrypt(tmp_path / "certificate", tmp_path / "key")
    url = server.url.replace("http:", "https:")
    line = refusal(connect(server.github(GITHUB_API_URL=url), slept))
    assert line.startswith(f"GITHUB_API_URL: {url}: its certificate is not trusted; ")
    assert slept == []


def test_a_line_that_breaks_while_it_is_made_secret_is_waited_for(server, slept):
    url = server.url.replace("http:", "https:")
    line = refusal(connect(server.github(GITHUB_API_URL=url), slept, seconds=3.0))
    assert f"{url} does not answer (SSLError); run it again" in line
    assert slept == [0.5, 1]


@pytest.mark.parametrize(
    ("act", "permission"),
    [
        (lambda run: run.comment(1, "x", "verdict"), "pull-requests: write"),
        (lambda run: run.pull_request("a", "main", "x", "x"), "pull-requests: write"),
        (lambda run: run.status("c0ffee", "success", "mlops/gate", "x"), "statuses: write"),
    ],
)
def test_github_names_the_permission_that_is_missing(server, slept, act, permission):
    server.permissions.clear()
    line = refusal(connect(server.github(), slept), act)
    assert line.startswith("GitHub: may not ")
    assert "(Resource not accessible by integration)" in line
    assert line.endswith(f"the token needs `permissions: {permission}`")
    assert slept == []


@pytest.mark.parametrize(
    ("act", "right", "permission"),
    [
        (lambda run: run.comment(1, "x", "verdict"), "PullRequestContribute", " to pull requests"),
        (
            lambda run: run.pull_request("a", "main", "x", "x"),
            "PullRequestContribute",
            " to pull requests",
        ),
        (
            lambda run: run.status("c0ffee", "success", "mlops/gate", "x"),
            "GenericContribute",
            "",
        ),
    ],
)
def test_azure_devops_names_the_permission_that_is_missing(server, slept, act, right, permission):
    server.permissions.clear()
    line = refusal(connect(server.azure(), slept), act)
    assert line.startswith("Azure DevOps: may not ")
    assert f"(TF401027: You need the Git '{right}' permission to perform this action.)" in line
    assert f"give the build service 'Contribute{permission}' under Project settings" in line


def test_a_workflow_that_may_not_open_pull_requests_is_told_where_to_allow_it(server, slept):
    server.may_open = False
    line = refusal(
        connect(server.github(), slept), lambda run: run.pull_request("a", "main", "x", "x")
    )
    assert "tick 'Allow GitHub Actions to create and approve pull requests'" in line


@pytest.mark.parametrize("system", ["github", "azure"])
def test_a_token_that_is_nobodys_is_named_by_its_variable(server, slept, system):
    line = refusal(connect(getattr(server, system)(token="nobodys"), slept))
    variable = {"github": "GITHUB_TOKEN", "azure": "SYSTEM_ACCESSTOKEN"}[system]
    assert line.startswith(f"{variable}: ")
    assert "does not accept it" in line
    assert "nobodys" not in line


@pytest.mark.parametrize("status", [203, 302])
def test_azures_page_to_sign_in_is_a_token_that_it_does_not_accept(server, slept, status):
    server.fail(Fault("", status=status, content="<html>Sign in</html>"))
    line = refusal(connect(server.azure(), slept))
    assert line.startswith("SYSTEM_ACCESSTOKEN: Azure DevOps does not accept it; in the step, ")


def test_a_pull_request_that_is_not_there_is_named(server, environment, slept):
    line = refusal(connect(environment, slept), lambda run: run.comment(99, "x", "verdict"))
    assert "could not comment on pull request 99 in " in line
    assert "_REPOSITORY" in line


def test_a_repository_that_was_renamed_is_named_and_nothing_is_sent_elsewhere(server, slept):
    server.moved = True
    line = refusal(connect(server.github(), slept), lambda run: run.number("acme:feature"))
    assert line == "GITHUB_REPOSITORY: found acme/flights, which has another name now"
    assert server.asked("elsewhere") == []


def test_what_is_wrong_with_a_request_is_said_in_the_forges_words(server, slept):
    line = refusal(
        connect(server.github(), slept), lambda run: run.pull_request("main", "main", "x", "x")
    )
    assert line == (
        "GitHub: could not open a pull request from main into main: "
        "Validation Failed: No commits between main and main"
    )


def test_the_token_is_shown_nowhere(server, environment, slept, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    token = "marias-own"
    packed = "Om1hcmlhcy1vd24="
    own = {**environment, "GITHUB_TOKEN": token, "SYSTEM_ACCESSTOKEN": token}
    run = connect(own, slept)
    run.comment(1, "accepted", "verdict")
    server.fail(Fault(LISTS, status=418, content=f"Who is {token}, or {packed}?"))
    line = refusal(run)
    assert "Who is ***, or ***?" in line
    assert len(caplog.records) > 3
    parts = [run, run.client, *vars(run.client).values()]
    shown = [line, *map(repr, parts), caplog.text, *capsys.readouterr()]
    assert not any(token in text or packed in text for text in shown)
    assert {request.who for request in server.log} == {"maria"}


@pytest.mark.parametrize("token", ["two words", "two\nlines", "smart”quote", "ctrl\x07"])
def test_what_cannot_be_a_token_is_refused_without_showing_it(environment, slept, token):
    odd = {**environment, "GITHUB_TOKEN": token, "SYSTEM_ACCESSTOKEN": token}
    with pytest.raises(UserError) as error:
        connect(odd, slept)
    assert str(error.value).endswith("found spaces or odd characters, expected a token")


def test_a_line_break_after_the_token_is_forgiven(server, slept):
    run = connect(server.github(token="the-robots-own\n"), slept)
    assert run.number("acme:feature") == 1


def test_the_machines_own_passwords_are_not_used_instead(server, slept, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login maria password marias-own\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    connect(server.github(), slept).number("acme:feature")
    assert {request.who for request in server.log} == {"github-actions[bot]"}
