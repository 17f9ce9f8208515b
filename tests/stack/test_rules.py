"""Alert rules and the compose file, as their own tools read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from mlops.base import processes
from tests.programs import program
from tests.stack.servers import LOCAL, PROMETHEUS

RULES = LOCAL / "prometheus/rules.yml"
CASES = Path(__file__).with_name("rules.test.yml")


@pytest.mark.nightly
def test_each_rule_fires_when_it_should_and_only_then():
    processes.run([program("promtool", PROMETHEUS), "test", "rules", str(CASES)])


@pytest.mark.parametrize("case", [
    "nothing runs yet", "the targets do not answer", "every failure at once",
    "a service that has just started, and one event",
])  # fmt: skip
def test_each_rule_is_tried_without_series_with_one_event_and_with_its_target_gone(case):
    groups = yaml.safe_load(RULES.read_text())["groups"]
    cases = {one["name"]: one for one in yaml.safe_load(CASES.read_text())["tests"]}
    tried = {test["alertname"] for test in cases[case]["alert_rule_test"]}
    assert {rule["alert"] for group in groups for rule in group["rules"]} - tried == set()


def test_compose_refers_to_services_and_files_that_exist_and_opens_loopback_ports_only():
    services = yaml.safe_load((LOCAL / "compose.yaml").read_text())["services"]
    for service in services.values():
        assert set(service.get("depends_on", [])) <= set(services)
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        sources = [volume.split(":")[0] for volume in service.get("volumes", [])]
        mounted = [LOCAL / source for source in sources if source.startswith("./")]
        assert all(path.exists() for path in mounted)


def test_who_needs_a_server_of_compose_waits_until_it_is_healthy():
    services = yaml.safe_load((LOCAL / "compose.yaml").read_text())["services"]
    checked = {name for name, service in services.items() if "healthcheck" in service}
    needed = [(one, how) for service in services.values()
              for one, how in service.get("depends_on", {}).items()]  # fmt: skip
    for name, how in needed:
        healthy = {"condition": "service_healthy"}
        ends = {"condition": "service_completed_successfully"}
        assert how == (healthy if name in checked else ends), name
    # What ends has none, and the service's image has its own.
    assert set(services) - checked == {"prepare", "scoring"}


def test_azurite_is_locked_by_digest_and_from_any_mirror():
    packages = json.loads((LOCAL / "package-lock.json").read_text())["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)
    assert not any("resolved" in package for package in packages.values())
