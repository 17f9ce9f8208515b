"""Who is told of alerts: Alertmanager's configuration, and real servers with a webhook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlops.base import processes
from tests.programs import program
from tests.stack.servers import LOCAL, PROMETHEUS, running
from tests.webhooks import received

MAIL = {
    "ALERT_EMAIL_TO": "team@acme.test", "ALERT_EMAIL_FROM": "alerts@acme.test",
    "ALERT_SMTP": "mail.acme.test:587", "ALERT_SMTP_USER": "alerts",
    "ALERT_SMTP_PASSWORD": 'with "quotes": and #',
}  # fmt: skip
WEBHOOK = {"ALERT_WEBHOOK_URL": "https://hooks.acme.test/a?b=c"}


def configured(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """How alertmanager.py ends with these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ALERT_")}
    command = [sys.executable, str(LOCAL / "alertmanager.py")]
    return subprocess.run(
        command, env={**kept, **variables}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("variables", "line"), [
    ({**MAIL, "ALERT_SMTP": ""}, "error: ALERT_SMTP: not set, expected beside ALERT_EMAIL_TO\n"),
    ({**MAIL, "ALERT_EMAIL_FROM": ""},
     "error: ALERT_EMAIL_FROM: not set, expected beside ALERT_EMAIL_TO\n"),
    ({"ALERT_WEBHOOK_URL": "acme.test"},
     "error: ALERT_WEBHOOK_URL: found 'acme.test', expected http:// or https://\n"),
])  # fmt: skip
def test_what_can_t_be_an_address_is_refused(variables, line):
    done = configured(variables)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


def test_nobody_to_tell_is_said():
    done = configured({})
    assert done.returncode == 0
    assert done.stderr.startswith("alerts reach nobody: ")
    assert json.loads(done.stdout)["receivers"] == [{"name": "team"}]


@pytest.mark.nightly
@pytest.mark.parametrize("variables", [{}, WEBHOOK, MAIL, {**WEBHOOK, **MAIL}])
def test_alertmanager_accepts_its_configuration(variables, tmp_path):
    file = tmp_path / "alertmanager.yml"
    file.write_text(configured(variables).stdout)
    processes.run([program("amtool", PROMETHEUS), "check-config", str(file)])


@pytest.mark.nightly
@pytest.mark.slow
def test_a_service_that_does_not_answer_pages_somebody(monkeypatch):
    with received() as webhook:
        monkeypatch.setenv("ALERT_WEBHOOK_URL", webhook.url)
        with running("alertmanager", "prometheus") as servers:
            # Stopped, changed and started again, so that the rule need not take minutes.
            servers.kill("prometheus")
            _hasten(servers.folder / "prometheus")
            servers.start("prometheus")
            message = webhook.messages.get(timeout=60)
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
