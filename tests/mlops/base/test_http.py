"""What a forge refuses or does not answer: retried where that helps, else one line, no token."""

import logging
import shutil
import socket
import subprocess
import time
from email.utils import formatdate
from typing import Any

import pytest

from mlops.base.errors import UserError
from mlops.forge.select import current_forge
from tests.forge_server import Fault, ForgeServer

LISTS = "GET .*(comments|threads)$"
CREATES = "POST .*(comments|threads)$"
ALWAYS = 1_000
# The time, in seconds since 1970, as long as a test runs.
NOW = 1_800_000_000


@pytest.fixture
def server():
    with ForgeServer() as running:
        running.open("feature")
        yield running


@pytest.fixture(params=["github", "azure"])
def environment(request, server):
    return getattr(server, request.param)()


@pytest.fixture(autouse=True)
def slept(monkeypatch):
    """The seconds of each wait; none of them takes any time."""
    seconds = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    monkeypatch.setattr(time, "time", lambda: NOW)
    return seconds


def comment(forge):
    return forge.comment(1, "accepted", "verdict")


def open_pull_request(forge):
    return forge.pull_request("a", "main", "x", "x")


def set_status(forge):
    return forge.status("c0ffee", "success", "mlops/gate", "x")


def refusal(environment, act=comment):
    """The one line that it ends with."""
    with pytest.raises(UserError) as error:
        act(current_forge(environment))
    (line,) = str(error.value).splitlines()
    return line


@pytest.mark.parametrize("match", [LISTS, CREATES, "GET .*(user|connectionData)$"])
@pytest.mark.parametrize("status", [0, 503])
def test_a_request_is_retried_with_growing_waits(server, environment, slept, match, status):
    server.fail(Fault(match, status=status, times=4))
    comment(current_forge(environment))
    assert slept == [1, 2, 4]
    assert len(server.on(1)) == 1


def test_a_change_is_retried_too(server, environment):
    forge = current_forge(environment)
    comment(forge)
    server.fail(Fault("PATCH", status=502, times=2, after=True))
    forge.comment(1, "refused", "verdict")
    assert [comment.body.splitlines()[-1] for comment in server.on(1)] == ["refused"]


@pytest.mark.parametrize("match", [LISTS, CREATES])
@pytest.mark.parametrize(
    ("status", "after"), [(403, "7"), (429, formatdate(NOW + 7, usegmt=True)), (503, "7")]
)
def test_retry_after_is_respected(server, environment, slept, match, status, after):
    server.fail(Fault(match, status=status, headers={"Retry-After": after}))
    comment(current_forge(environment))
    assert slept == [7]
    assert len(server.asked(CREATES)) == (2 if match == CREATES else 1)


@pytest.mark.parametrize("match", [CREATES, ""])
@pytest.mark.parametrize(
    ("status", "headers", "line"),
    [
        (500, {}, "it answers 500 Internal Server Error"),
        (429, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, "the rate limit is reached"),
    ],
)
def test_retries_end(server, environment, slept, match, status, headers, line):
    server.fail(Fault(match, status=status, headers=headers, times=ALWAYS))
    assert refusal(environment).endswith(f": {line}; run it again, nothing is done twice")
    assert slept == [1, 2, 4, 8]
    assert len([request for request in server.log if request.status == status]) == 6


@pytest.mark.parametrize(
    ("headers", "content", "lasts"),
    [
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOW + 2_100)}, "x",
         " for 35 min more"),
        ({"Retry-After": "2100"}, "x", " for 35 min more"),
        ({}, "You have exceeded a secondary rate limit. Please wait a few minutes.", ""),
    ],
)  # fmt: skip
def test_a_rate_limit_that_lasts_is_an_error_at_once(server, slept, headers, content, lasts):
    server.fail(Fault(LISTS, status=403, headers=headers, content=content, times=ALWAYS))
    assert refusal(server.github()) == (
        f"GitHub: could not comment on pull request 1: the rate limit is reached{lasts}; "
        "run it again, nothing is done twice"
    )
    assert slept == []


def test_a_server_that_does_not_answer_is_named(environment, slept):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    line = refusal({**environment, "GITHUB_API_URL": url, "SYSTEM_COLLECTIONURI": url})
    assert f"{url} does not answer (ConnectionError); run it again" in line
    assert slept == [1, 2, 4, 8]


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1"])
def test_a_malformed_url_is_named_with_its_variable(environment, slept, url):
    line = refusal({**environment, "GITHUB_API_URL": url, "SYSTEM_COLLECTIONURI": url})
    assert "_API_URL: " in line or "_COLLECTIONURI: " in line
    assert line.endswith("not a URL that can be asked")
    assert slept == []


def test_a_server_that_is_no_forge_is_named_with_its_variable(server, environment):
    server.fail(Fault("", status=200, content="<html>Welcome</html>"))
    assert " answers, but not as " in refusal(environment)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_an_untrusted_certificate_is_an_error_at_once(server, slept, tmp_path):
    files = {"-keyout": tmp_path / "key", "-out": tmp_path / "certificate", "-subj": "/CN=forge"}
    options = [str(part) for pair in files.items() for part in pair]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *options]
    subprocess.run(command, check=True, capture_output=True)
    server.encrypt(tmp_path / "certificate", tmp_path / "key")
    url = server.url.replace("http:", "https:")
    line = refusal(server.github(GITHUB_API_URL=url))
    assert line.startswith(f"GITHUB_API_URL: {url}: its certificate is not trusted; ")
    assert slept == []


GITHUB_PERMISSION = "(Resource not accessible by integration); the token needs `permissions: {}`"
AZURE_PERMISSION = (
    "(TF401027: You need the Git '{}' permission to perform this action.); "
    "give the build service '{}' under Project settings, Repositories, Security"
)
PULL_REQUESTS = AZURE_PERMISSION.format("PullRequestContribute", "Contribute to pull requests")
STATUSES = AZURE_PERMISSION.format("GenericContribute", "Contribute")


@pytest.mark.parametrize(
    ("act", "github", "azure"),
    [
        (comment, "pull-requests: write", PULL_REQUESTS),
        (open_pull_request, "pull-requests: write", PULL_REQUESTS),
        (set_status, "statuses: write", STATUSES),
    ],
)
def test_a_missing_permission_is_named(server, slept, act, github, azure):
    server.permissions.clear()
    line = refusal(server.github(), act)
    assert line.startswith("GitHub: may not ")
    assert line.endswith(GITHUB_PERMISSION.format(github))
    line = refusal(server.azure(), act)
    assert line.startswith("Azure DevOps: may not ")
    assert line.endswith(azure)
    assert slept == []


def test_an_unknown_token_is_named_by_its_variable(server):
    line = refusal(server.github(token="nobodys"))
    assert line.startswith("GITHUB_TOKEN: ")
    assert "does not accept it" in line
    line += refusal(server.azure(token="nobodys"))
    assert "SYSTEM_ACCESSTOKEN: Azure DevOps does not accept it; in the step, " in line
    assert "nobodys" not in line


@pytest.mark.parametrize("status", [203, 302])
def test_azures_page_to_sign_in_is_a_token_that_it_does_not_accept(server, status):
    server.fail(Fault("", status=status, content="<html>Sign in</html>"))
    line = refusal(server.azure())
    assert line.startswith("SYSTEM_ACCESSTOKEN: Azure DevOps does not accept it; in the step, ")


@pytest.mark.parametrize(
    ("attributes", "act", "line"),
    [
        ({}, lambda forge: forge.comment(99, "x", "verdict"),
         "could not comment on pull request 99 in "),
        ({"moved": True}, lambda forge: forge.number("acme:feature"),
         "GITHUB_REPOSITORY: found acme/flights, which has another name now"),
        ({"may_open": False}, open_pull_request,
         "tick 'Allow GitHub Actions to create and approve pull requests'"),
        ({}, lambda forge: forge.pull_request("main", "main", "x", "x"),
         "GitHub: could not open a pull request from main into main: "
         "Validation Failed: No commits between main and main"),
    ],
)  # fmt: skip
def test_what_github_refuses_is_explained_and_nothing_is_sent_elsewhere(
    server, attributes, act, line
):
    vars(server).update(attributes)
    assert line in refusal(server.github(), act)
    assert server.asked("elsewhere") == []


def test_the_token_is_shown_nowhere(server, environment, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    token, encoded = "marias-own", "Om1hcmlhcy1vd24="
    own = {**environment, "GITHUB_TOKEN": token, "SYSTEM_ACCESSTOKEN": token}
    forge: Any = current_forge(own)
    comment(forge)
    server.fail(Fault(LISTS, status=418, content=f"Who is {token}, or {encoded}?"))
    line = refusal(own)
    assert "Who is ***, or ***?" in line
    assert len(caplog.records) > 3
    parts = [forge, forge.client, *vars(forge.client).values()]
    shown = [line, *map(repr, parts), caplog.text, *capsys.readouterr()]
    assert not any(token in text or encoded in text for text in shown)
    assert {request.who for request in server.log} == {"maria"}


@pytest.mark.parametrize("token", ["two\nlines", "smart”quote"])
def test_a_malformed_token_is_refused_without_showing_it(environment, token):
    line = refusal({**environment, "GITHUB_TOKEN": token, "SYSTEM_ACCESSTOKEN": token})
    assert line.endswith("found spaces or odd characters, expected a token")


def test_a_line_break_after_the_token_is_ignored(server):
    assert current_forge(server.github(token="the-robots-own\n")).number("acme:feature") == 1


def test_passwords_in_netrc_are_not_used_instead(server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login maria password marias-own\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    current_forge(server.github()).number("acme:feature")
    assert {request.who for request in server.log} == {"github-actions[bot]"}
