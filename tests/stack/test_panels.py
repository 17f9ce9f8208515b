"""Every panel and alert asks for what a real service, and monitoring, give to a real Prometheus."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops.contract import project
from mlops.deploy import predict
from mlops.monitoring import prometheus
from tests.mlops.monitoring.trips import Trips
from tests.served import Served, served
from tests.stack.servers import LOCAL, Servers, running

pytestmark = [pytest.mark.nightly, pytest.mark.slow]
SECONDS = 60
WHOLE = re.compile(r"\b((?:mlops_|up\b)[a-z_]*(?:\{[^}]*\})?)")


def panels() -> dict[str, list[str]]:
    """The queries of each panel."""
    boards = [json.loads(file.read_text()) for file in (LOCAL / "grafana/dashboards").glob("*")]
    return {panel["title"]: [target["expr"].replace("$__rate_interval", "30s")
                             for target in panel["targets"]]
            for board in boards for panel in board["panels"]}  # fmt: skip


def series() -> dict[str, list[str]]:
    """The series that each alert reads, with the labels that it chooses them by."""
    groups = yaml.safe_load((LOCAL / "prometheus/rules.yml").read_text())["groups"]
    return {rule["alert"]: WHOLE.findall(rule["expr"]) for group in groups
            for rule in group["rules"]}  # fmt: skip


@contextmanager
def scraped(service: Served) -> Iterator[Servers]:
    """Prometheus as in Compose, but each second, of a gateway and this service."""
    with running("gateway") as servers:
        servers.servers["prometheus"] = servers._prometheus()
        folder = servers.folder / "prometheus"
        targets = json.loads((folder / "targets.json").read_text())
        address = urllib.parse.urlsplit(service.url).netloc
        targets.append({"targets": [address], "labels": {"job": "scoring"}})
        (folder / "targets.json").write_text(json.dumps(targets))
        configuration = folder / "prometheus.yml"
        configuration.write_text(configuration.read_text().replace(": 15s", ": 1s"))
        try:
            servers.start("prometheus")
            yield servers
        finally:
            servers.kill("prometheus")


def ask(service: Served, keys: list[str], row: dict[str, Any]) -> None:
    """Requests of each kind: answered, by key, malformed, too many, refused."""
    assert service.post("/predict", row).status == 200
    assert service.post("/predict", {**row, "line": "never-seen"}).status == 200
    assert service.post("/predict", {"keys": keys}).status == 200
    assert service.post("/predict", {"keys": ["no-such"]}).status == 422
    assert service.post("/predict", {"much": 1}).status == 422
    assert service.post("/predict", b" " * 9000).status == 429


@pytest.fixture
def trips(finished, tmp_path):
    yield Trips(finished("trips").copy(tmp_path / "repository"))
    project.forget("trips")


@pytest.fixture
def query(trips, tmp_path, monkeypatch) -> Iterator[Callable[[str], Any]]:
    """The result of a query of Prometheus, after the service was asked once more."""
    trips.workspace.change({"data.until": "2023-03-31"})
    trips.answer(trips.features())
    trips.delays(lambda day, delay: delay.mask(day > "2023-04-10"))
    days = date(2023, 4, 11), date(2023, 4, 12)
    with chdir(trips.root):
        rows = predict.rows(trips.workspace.params(), Path(), *days)
    keys = rows.features[rows.spec.key].to_pylist()
    store = trips.root / ".run/features/production.sqlite"
    current = tmp_path / "current"
    shutil.copytree(trips.folder / "models/bundle", tmp_path / "first")
    current.write_text("first")
    options = (f"--features={store}", f"--samples={tmp_path}/samples", "--bodies=8000")
    with served(current, tmp_path, *options) as service, scraped(service) as servers:
        # Nothing is published yet.
        assert service.post("/predict", {"keys": keys}).status == 503
        trips.publish(*days)
        monkeypatch.setenv(prometheus.GATEWAY, servers.url("gateway"))
        prometheus.push(trips.watch())
        row = service.get("/model").json["example"]
        (tmp_path / "next").write_text("no-such-bundle")
        os.replace(tmp_path / "next", current)

        def result(expression: str) -> Any:
            ask(service, keys, row)
            text = urllib.parse.urlencode({"query": expression})
            with urllib.request.urlopen(f"{servers.url('prometheus')}/api/v1/query?{text}") as got:
                found = json.load(got)["data"]["result"]
            return [one for one in found if one["value"][1] != "NaN"]

        yield result


def test_every_panel_and_alert_finds_what_it_asks_for(query):
    wanted = [*panels().items(), *series().items()]
    missing = [(title, one) for title, queries in wanted for one in queries]
    assert all(queries for _, queries in wanted)
    deadline = time.monotonic() + SECONDS
    while missing and time.monotonic() < deadline:
        missing = [(title, one) for title, one in missing if not query(one)]
    assert missing == []
