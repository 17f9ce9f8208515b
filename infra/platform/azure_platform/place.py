"""What every resource of a stack needs: its group, its tags, and a place for its logs."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_azure_native import monitor, operationalinsights, resources

from azure_platform.settings import Settings

Text = pulumi.Input[str]


@dataclass(frozen=True)
class Place:
    """A stack's resource group and its Log Analytics workspace."""

    settings: Settings
    group: resources.ResourceGroup
    logs: operationalinsights.Workspace

    def name(self, kind: str, part: str = "") -> str:
        return self.settings.names.of(kind, part)

    @property
    def tags(self) -> dict[str, str]:
        return self.settings.tags

    @property
    def group_name(self) -> pulumi.Output[str]:
        return self.group.name

    def log(self, name: str, resource_id: Text) -> None:
        """Send all logs of a resource to the stack's Log Analytics workspace."""
        monitor.DiagnosticSetting(
            f"logs-of-{name}", name="all-logs", resource_uri=resource_id,
            workspace_id=self.logs.id,
            logs=[monitor.DiagnosticsLogSettingsArgs(category_group="allLogs", enabled=True)],
        )  # fmt: skip


def make(settings: Settings) -> Place:
    """Declare the resource group and the Log Analytics workspace."""
    names = settings.names
    group = resources.ResourceGroup(
        "group", resource_group_name=names.of("group"), location=settings.location,
        tags=settings.tags,
    )  # fmt: skip
    logs = operationalinsights.Workspace(
        "logs", workspace_name=names.of("logs"), resource_group_name=group.name,
        sku=operationalinsights.WorkspaceSkuArgs(
            name=operationalinsights.WorkspaceSkuNameEnum.PER_GB2018
        ),
        retention_in_days=settings.retention_days,
        # Nobody sends logs with the workspace's key.
        features=operationalinsights.WorkspaceFeaturesArgs(disable_local_auth=True),
        tags=settings.tags,
    )  # fmt: skip
    place = Place(settings, group, logs)
    place.log("logs", logs.id)
    return place
