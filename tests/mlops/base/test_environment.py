"""Variables of the environment, and the addresses in them."""

import os

import pytest

from mlops.base import environment

WORD = "word"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "localhost,127.0.0.1,::1"),
        ("intern.example, 10.0.0.0/8", "intern.example, 10.0.0.0/8,localhost,127.0.0.1,::1"),
        ("localhost,127.0.0.1,::1", "localhost,127.0.0.1,::1"),
        ("*", "*"),
    ],
)
@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
def test_no_proxy_stands_before_this_machines_own_servers(monkeypatch, variable, before, after):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv(variable, before)
    environment.reach_loopback()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == after


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"https://me:{WORD}@b@host/x", "https://host/x"),
        (f"postgresql://me:{WORD}@host:5432/db", "postgresql://host:5432/db"),
        ("one http://me@a.b and two https://a.b/@c", "one http://a.b and two https://a.b/@c"),
        ("git@host:team/a.git", "git@host:team/a.git"),
    ],
)
def test_credentials_are_taken_out_of_urls_alone(text, hidden):
    assert environment.without_credentials(text) == hidden


@pytest.mark.parametrize(
    ("variables", "hosted"),
    [
        ({}, False),
        ({"RUNNER_ENVIRONMENT": "github-hosted"}, True),
        ({"RUNNER_ENVIRONMENT": "self-hosted"}, False),
        ({"AGENT_ISSELFHOSTED": "0"}, True),
        ({"AGENT_ISSELFHOSTED": "1"}, False),
    ],
)
def test_a_forges_own_machine_is_told_from_others(variables, hosted):
    assert environment.on_hosted_runner(variables) is hosted
