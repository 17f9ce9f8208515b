"""Policies of metrics: the alerts of infra/local, each told to somebody, and its dashboard."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from tests.declared import FOLDER, Resource

Stacks = dict[str, list[Resource]]
LOCAL = FOLDER.parent / "local"
SEVERITIES = {"page": 1, "ticket": 3}
SECONDS = {"s": 1, "m": 60, "h": 3600}


def alerted(stacks: Stacks) -> list[str]:
    """Alerts of rules.yml that are lacking, differ, ask another workspace, or tell nobody."""
    groups = yaml.safe_load((LOCAL / "prometheus/rules.yml").read_text())["groups"]
    expected = {rule["alert"]: _said(rule) for group in groups for rule in group["rules"]}
    faults = []
    for stack, resources in stacks.items():
        ids = {kind: {one.id for one in resources if one.type.endswith(kind)}
               for kind in (":AzureMonitorWorkspace", ":ActionGroup")}  # fmt: skip
        found = {}
        for one in [one for one in resources if one.type.endswith(":PrometheusRuleGroup")]:
            if (
                not one.inputs["enabled"]
                or {*one.inputs["scopes"]} != ids[":AzureMonitorWorkspace"]
            ):
                faults.append(f"{stack}: {one.name}: {one.inputs['scopes']}")
            for rule in one.inputs["rules"]:
                found[rule["alert"]] = _sent(rule)
                told = {action["actionGroupId"] for action in rule["actions"]}
                if not rule["enabled"] or not told or not told <= ids[":ActionGroup"]:
                    faults.append(f"{stack}: {rule['alert']}: tells {told}")
        faults += [f"{stack}: {name}: {found.get(name)}" for name in expected.keys() | found.keys()
                   if found.get(name) != expected.get(name)]  # fmt: skip
    return faults


def shown(stacks: Stacks) -> list[str]:
    """Panels of the dashboard that are lacking, or ask a fixed source."""
    panels = json.loads((LOCAL / "grafana/dashboards/models.json").read_text())["panels"]
    faults = []
    for stack, resources in stacks.items():
        boards = [one for one in resources if one.type.endswith(":DashboardDefinition")]
        content = [json.loads(one.inputs["properties"]["serializedData"]) for one in boards]
        sent = [panel for one in content for panel in one["panels"]]
        if [one["targets"] for one in sent] != [one["targets"] for one in panels]:
            faults.append(f"{stack}: {len(sent)} panels")
        chosen = {f"${{{one['name']}}}" for board in content for one in board["templating"]["list"]}
        faults += [f"{stack}: {one['title']}" for one in sent
                   if one["datasource"]["uid"] not in chosen]  # fmt: skip
    return faults


def _said(rule: dict[str, Any]) -> tuple[object, ...]:
    count, unit = re.fullmatch(r"(\d+)([smh])", rule.get("for", "0s")).groups()  # type: ignore[union-attr]
    return (rule["expr"], int(count) * SECONDS[unit], SEVERITIES[rule["labels"]["severity"]],
            rule["annotations"])  # fmt: skip


def _sent(rule: dict[str, Any]) -> tuple[object, ...]:
    """The same of a rule that Azure is sent, whose periods are those of ISO 8601."""
    count, unit = re.fullmatch(r"PT(\d+)([SMH])", rule.get("for") or "PT0S").groups()  # type: ignore[union-attr]
    seconds = int(count) * SECONDS[unit.lower()]
    return rule["expression"], seconds, rule["severity"], rule["annotations"]
