"""Metrics of the services: a Prometheus that Azure manages, its alerts and its dashboard.

Alerts and dashboard are those of infra/local, so that each is written once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pulumi_azure_native import alertsmanagement, dashboard, monitor

from azure_platform.place import Place

# Pulumi runs the program in its own folder.
LOCAL = Path("../local")
RULES, DASHBOARD = LOCAL / "prometheus/rules.yml", LOCAL / "grafana/dashboards/models.json"
# Azure's severities go from 0, critical, to 4.
SEVERITY = {"page": 1, "ticket": 3}


def declare(place: Place) -> monitor.AzureMonitorWorkspace:
    """Declare the workspace of metrics, its rules, who is told, and the dashboard."""
    metrics = monitor.AzureMonitorWorkspace(
        "metrics", azure_monitor_workspace_name=place.name("metrics"),
        resource_group_name=place.group_name, tags=place.tags,
        # Agents of clusters send to it, and Grafana reads it, each with a token of Entra's.
        public_network_access=monitor.PublicNetworkAccess.ENABLED,
    )  # fmt: skip
    told = _told(place)
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        alertsmanagement.PrometheusRuleGroup(
            group["name"], rule_group_name=place.name("rules", group["name"]),
            resource_group_name=place.group_name, scopes=[metrics.id], enabled=True,
            interval="PT1M", rules=[_alert(rule, told) for rule in group["rules"]],
            tags=place.tags,
        )  # fmt: skip
    _dashboard(place)
    return metrics


def _told(place: Place) -> list[alertsmanagement.PrometheusRuleGroupActionArgs]:
    """Who is told of an alert; nobody where the stack's file has no address."""
    if not place.settings.alerts:
        return []
    receiver = monitor.MicrosoftCommonEmailReceiverArgs(
        name="alerts", email_address=place.settings.alerts, use_common_alert_schema=True
    )
    group = monitor.ActionGroup(
        "alerts", action_group_name=place.name("alerts"), resource_group_name=place.group_name,
        group_short_name=place.settings.project, enabled=True, location="global",
        email_receivers=[receiver], tags=place.tags,
    )  # fmt: skip
    return [alertsmanagement.PrometheusRuleGroupActionArgs(action_group_id=group.id)]


def _alert(
    rule: dict[str, Any], told: list[alertsmanagement.PrometheusRuleGroupActionArgs]
) -> alertsmanagement.PrometheusRuleArgs:
    return alertsmanagement.PrometheusRuleArgs(
        alert=rule["alert"], expression=rule["expr"], enabled=True, for_=_period(rule.get("for")),
        labels=rule["labels"], annotations=rule["annotations"], actions=told,
        severity=SEVERITY[rule["labels"]["severity"]],
        resolve_configuration=alertsmanagement.PrometheusRuleResolveConfigurationArgs(
            auto_resolved=True, time_to_resolve="PT10M"
        ),
    )  # fmt: skip


def _period(text: str | None) -> str | None:
    """Prometheus' 5m or 1h in the form of ISO 8601."""
    return f"PT{text.upper()}" if text else None


def _dashboard(place: Place) -> None:
    """Declare Grafana's dashboard in Azure's portal, whose reader chooses the workspace."""
    content = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    source = {"name": "source", "type": "datasource", "query": "prometheus"}
    content["templating"]["list"] = [source, *content["templating"]["list"]]
    for panel in content["panels"]:
        panel["datasource"]["uid"] = "${source}"
    created = dashboard.Dashboard(
        "dashboard", dashboard_name=place.name("dashboard"), resource_group_name=place.group_name,
        tags=place.tags,
    )  # fmt: skip
    dashboard.DashboardDefinition(
        "dashboard", dashboard_name=created.name, resource_group_name=place.group_name,
        definition_name="default",
        properties=dashboard.DashboardDefinitionPropertiesArgs(serialized_data=json.dumps(content)),
    )  # fmt: skip
