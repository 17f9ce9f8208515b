"""Who is told of alerts: Alertmanager's configuration, and real servers with a webhook."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values

from mlops.base import processes
from tests.conftest import REPOSITORY
from tests.programs import program
from tests.stack.servers import LOCAL, PROMETHEUS, running
from tests.webhooks import received

MAIL = {
    "ALERT_EMAIL_TO": "team@acme.test", "ALERT_EMAIL_FROM": "alerts@acme.test",
    "ALERT_SMTP": "mail.acme.test:587", "ALERT_SMTP_USER": "alerts",
    "ALERT_SMTP_PASSWORD": 'with "quotes": and #',
}  # fmt: skip
# What Alertmanager refuses too, all but the port that there is none of.
NO_SERVERS = (
    "mail.acme.test",
    "mail.acme.test:",
    ":25",
    "mail acme.test:25",
    "mail:port",
    "mail:0",
)
NO_URLS = (
    "acme.test", "ftp://acme.test", "http://", "http://a b", "https://:8080/", "http://a.test:port",
    "http://a.test\n/b", "https://a.test:99999", "https://a.test/%zz", "https://a<b>.test",
)  # fmt: skip
WEBHOOK = {"ALERT_WEBHOOK_URL": "https://hooks.acme.test/a?b=c"}


def refusal(variables: dict[str, str]) -> str:
    """Why alertmanager.py refuses these variables."""
    with pytest.raises(ValueError) as refused:
        runpy.run_path(str(LOCAL / "alertmanager.py"))["configuration"](variables)
    return str(refused.value)


def configured(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """How alertmanager.py ends with these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ALERT_")}
    command = [sys.executable, str(LOCAL / "alertmanager.py")]
    return subprocess.run(
        command, env={**kept, **variables}, capture_output=True, text=True, check=False
    )


def test_what_can_t_be_an_address_is_refused():
    for name in ("ALERT_SMTP", "ALERT_EMAIL_FROM"):
        assert refusal({**MAIL, name: ""}) == f"{name}: not set, expected beside ALERT_EMAIL_TO"
    for smtp in NO_SERVERS:
        reason = f"ALERT_SMTP: found {smtp!r}, expected HOST:PORT"
        assert refusal({**MAIL, "ALERT_SMTP": smtp}) == reason
    reason = "ALERT_WEBHOOK_URL: expected http:// or https://, a host and no spaces"
    for url in NO_URLS:
        assert refusal({"ALERT_WEBHOOK_URL": url}) == reason
    done = configured({"ALERT_WEBHOOK_URL": NO_URLS[0]})
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {reason}\n")


@pytest.mark.parametrize("url", ["", "http://"])
def test_the_stack_replaces_the_configuration_by_a_whole_one_alone(url, tmp_path):
    script = yaml.safe_load((LOCAL / "compose.yaml").read_text())["services"]["prepare"]["command"]
    programs = {
        "chown": "",
        "python": f'case "$1" in *manager.py) exec "{sys.executable}" "$@";; esac',
    }
    for name, lines in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    file = tmp_path / "alertmanager.yml"
    file.write_text("earlier")
    # The script's own path has no space.
    (tmp_path / "mlops").symlink_to(REPOSITORY)
    moved = script[-1].replace("/alerting", str(tmp_path)).replace("/opt", str(tmp_path))
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ALERT_WEBHOOK_URL": url}
    done = subprocess.run([*script[:-1], moved], env=env, capture_output=True, check=False)
    assert (done.returncode == 0) == (url == "")
    assert (file.read_text() == "earlier") == (url != "")


@pytest.mark.parametrize("reader", ["a shell", "Compose"])
def test_a_value_in_single_quotes_is_read_as_it_is(reader, tmp_path):
    url = "https://hooks.acme.test/a?b=c&sig=abc#$HOME`id`"
    made = processes.run([sys.executable, str(LOCAL / "environment.py")])
    values = dotenv_values(stream=StringIO(made))
    assert not [name for name in values if name.startswith("ALERT_")]
    file = tmp_path / "stack.env"
    file.write_text(made.replace("# ALERT_WEBHOOK_URL='https://'", f"ALERT_WEBHOOK_URL='{url}'"))
    if reader == "Compose":
        # What Compose 1.29 reads it with; the documentation of Compose 2 says the same.
        read = dotenv_values(file)
    else:
        listed = processes.run(["bash", "-c", 'set -a; . "$1"; env -0', "bash", str(file)])
        read = dict(line.split("=", 1) for line in listed.split("\0") if line.strip())
    assert {name: read[name] for name in values} == values
    assert read["ALERT_WEBHOOK_URL"] == url


def test_nobody_to_tell_is_said():
    done = configured({})
    assert done.returncode == 0
    assert done.stderr.startswith("alerts reach nobody: ")
    assert json.loads(done.stdout)["receivers"] == [{"name": "team"}]


@pytest.mark.nightly
def test_alertmanager_accepts_its_configuration(tmp_path):
    amtool, file = program("amtool", PROMETHEUS), tmp_path / "alertmanager.yml"
    for variables in (
        {}, {**WEBHOOK, **MAIL}, {"ALERT_WEBHOOK_URL": "HTTP://u:p@Acme_1.test:80/%20?"},
        {"ALERT_WEBHOOK_URL": "https://[::1]:8080/a", **MAIL, "ALERT_SMTP": "[::1]:25"},
    ):  # fmt: skip
        done = configured(variables)
        assert done.returncode == 0, done.stderr
        file.write_text(done.stdout)
        processes.run([amtool, "check-config", str(file)])


@pytest.mark.nightly
@pytest.mark.slow
def test_a_service_that_does_not_answer_pages_somebody(monkeypatch):
    with received() as webhook:
        monkeypatch.setenv("ALERT_WEBHOOK_URL", webhook.url)
        with running("alertmanager") as servers:
            servers.servers["prometheus"] = servers._prometheus()
            _hasten(servers.folder / "prometheus")
            try:
                servers.start("prometheus")
                message = webhook.messages.get(timeout=60)
            finally:
                servers.kill("prometheus")
    [alert] = message["alerts"]
    assert (message["status"], alert["labels"]["alertname"]) == ("firing", "ServiceDown")
    assert alert["labels"]["severity"] == "page"
    assert alert["annotations"]["summary"] == "127.0.0.1:1 does not answer"


def _hasten(folder: Path) -> None:
    """Look every second, at a service where there is none, and wait for no rule."""
    target = {"targets": ["127.0.0.1:1"], "labels": {"job": "scoring"}}
    (folder / "targets.json").write_text(json.dumps([target]))
    settings, rules = folder / "prometheus.yml", folder / "rules.yml"
    settings.write_text(settings.read_text().replace("15s", "1s"))
    rules.write_text(rules.read_text().replace("for: 1m\n", "for: 0s\n"))
