"""Alert rules, dashboard and compose file, as their own tools read them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from mlops.monitoring import prometheus
from mlops.serving.metrics import Metrics
from mlops.stack.home import PORTS
from tests.stack.conftest import REPOSITORY, require

LOCAL = REPOSITORY / "infra/local"
RULES = LOCAL / "prometheus/rules.yml"
NAME = re.compile(r"\bmlops_[a-z_]+")
COMPOSE = yaml.safe_load((LOCAL / "compose.yaml").read_text())


def expressions():
    """Every query of rules and dashboards, by who asks it."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    found = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}
    for file in (LOCAL / "grafana/dashboards").glob("*.json"):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def promtool(*words):
    require("promtool")
    return subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True)


def test_the_rules_are_rules():
    done = promtool("check", "config", LOCAL / "prometheus/prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_speaks_when_it_should_and_only_then():
    done = promtool("test", "rules", Path(__file__).with_name("rules.test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_query_of_the_dashboard_is_one(tmp_path):
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(expressions().values())
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_that_is_asked_for_is_counted_by_somebody():
    service = {
        sample.split("{")[0].split()[0]
        for line in _lines(Metrics())
        for sample in [line.removeprefix("# TYPE ")]
    }
    code = Path(prometheus.__file__).read_text()
    watched = {f"mlops_monitoring_{name}" for name in re.findall(r'gauge\(\s*"(\w+)"', code)}
    asked = {
        re.sub(r"_(total|bucket)$", "", name)
        for query in expressions().values()
        for name in NAME.findall(query)
    }
    known = {re.sub(r"_total$", "", name) for name in service} | watched
    assert asked - known == set()
    assert len(asked) > 8


def _lines(metrics):
    from prometheus_client import generate_latest

    text = generate_latest(metrics.registry).decode()
    return [line for line in text.splitlines() if line.startswith("# TYPE mlops_")]


def test_compose_names_what_the_stack_starts_and_no_secret():
    assert COMPOSE["version"] == "3.8"
    assert "name" not in COMPOSE
    assert set(PORTS) | {"worker", "grafana", "containers"} == set(COMPOSE["services"])
    text = (LOCAL / "compose.yaml").read_text()
    assert re.findall(r"(?:PASSWORD|KEY)[=:]\s*[A-Za-z0-9+/]{4,}", text) == []
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", [])) <= set(COMPOSE["services"])
        for volume in service.get("volumes", []):
            place = volume.split(":")[0]
            assert place in COMPOSE["volumes"] or (LOCAL / place).exists() or "models" in place
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="no docker-compose")
def test_compose_is_read_by_docker_compose():
    secrets = dict.fromkeys(("POSTGRES_PASSWORD", "AZURITE_KEY", "GRAFANA_PASSWORD"), "x")
    done = subprocess.run(
        ["docker-compose", "-f", LOCAL / "compose.yaml", "config", "-q"],
        env={**os.environ, **secrets}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_store_is_locked_without_an_address():
    lock = (LOCAL / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    packages = json.loads(lock)["packages"]
    assert packages["node_modules/azurite"]["version"] == "3.35.0"
    assert all("integrity" in one for name, one in packages.items() if name)
