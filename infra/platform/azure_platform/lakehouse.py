"""The Databricks workspace and, in Unity Catalog, the environment's catalog."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pulumi
import pulumi_databricks as databricks
from pulumi_azure_native import databricks as azure

from azure_platform.identities import watch
from azure_platform.place import Place, Text
from azure_platform.settings import Settings

# Versions of models are registered in dev's catalog, and served from it everywhere.
SCHEMAS = ("data", "models")
USE = ("USE_CATALOG", "USE_SCHEMA")


def policy(settings: Settings) -> dict[str, dict[str, object]]:
    """What a cluster may be: small, ended when idle, isolated by user, tagged for the bill."""
    return {
        "spark_version": {"type": "unlimited", "defaultValue": "auto:latest-lts"},
        "node_type_id": {"type": "allowlist", "values": ["Standard_D4ds_v5", "Standard_D8ds_v5"]},
        "autotermination_minutes": {"type": "range", "minValue": 10, "maxValue": 60,
                                    "defaultValue": 20},
        "autoscale.max_workers": {"type": "range", "maxValue": 8, "defaultValue": 2},
        "num_workers": {"type": "range", "maxValue": 8, "isOptional": True},
        "data_security_mode": {"type": "allowlist", "values": ["SINGLE_USER", "USER_ISOLATION"]},
        **{f"custom_tags.{key}": {"type": "fixed", "value": value}
           for key, value in settings.tags.items()},
    }  # fmt: skip


def workspace(place: Place, subscription: Text) -> azure.Workspace:
    """Declare the Databricks workspace; its clusters have no public addresses."""
    name = place.name("databricks")
    created = azure.Workspace(
        "databricks", workspace_name=name, resource_group_name=place.group_name,
        # Azure makes this group itself, and only Databricks may change what is in it.
        managed_resource_group_id=pulumi.Output.format(
            "/subscriptions/{0}/resourceGroups/{1}-managed", subscription, name
        ),
        compute_mode=azure.ComputeMode.HYBRID,
        # Unity Catalog and logs need this tier.
        sku=azure.SkuArgs(name="premium"),
        public_network_access=azure.PublicNetworkAccess.ENABLED,
        parameters=azure.WorkspaceCustomParametersArgs(
            enable_no_public_ip=azure.WorkspaceNoPublicIPBooleanParameterArgs(value=True)
        ),
        tags=place.tags,
    )  # fmt: skip
    place.log("databricks", created.id)
    return created


def connector(place: Place) -> azure.AccessConnector:
    """Declare the identity by which Unity Catalog reaches the lake."""
    return azure.AccessConnector(
        "connector", connector_name=place.name("connector"), resource_group_name=place.group_name,
        identity=azure.ManagedServiceIdentityArgs(
            type=azure.ManagedServiceIdentityType.SYSTEM_ASSIGNED
        ),
        tags=place.tags,
    )  # fmt: skip


def catalog(
    settings: Settings, workspace: azure.Workspace, access: azure.AccessConnector, root: Text,
    clients: Mapping[str, Text], build_host: Text | None, role: pulumi.Resource,
) -> None:  # fmt: skip
    """Declare the catalog on the lake, its schemas, the cluster policy and the grants.

    `root` is the lake's address; `clients` are the client ids of identities; `build_host` is dev's
    workspace, None in dev itself; `role` is the one by which `access` may write to the lake.
    """
    names = settings.names
    options = _at("databricks", workspace.workspace_url, workspace.id)
    credential = databricks.StorageCredential(
        "catalog", name=names.catalog(), isolation_mode="ISOLATION_MODE_ISOLATED",
        azure_managed_identity=databricks.StorageCredentialAzureManagedIdentityArgs(
            access_connector_id=access.id
        ), opts=options,
    )  # fmt: skip
    location = databricks.ExternalLocation(
        "catalog", name=names.catalog(), isolation_mode="ISOLATION_MODE_ISOLATED",
        credential_name=credential.name, url=root,
        opts=pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=[role])),
    )  # fmt: skip
    catalog = databricks.Catalog(
        "catalog", name=names.catalog(), isolation_mode="ISOLATED", storage_root=location.url,
        opts=options,
    )  # fmt: skip
    schemas = {one: databricks.Schema(one, name=one, catalog_name=catalog.name, opts=options)
               for one in SCHEMAS}  # fmt: skip
    databricks.ClusterPolicy("small", name=f"{settings.project}-small",
                             definition=json.dumps(policy(settings)), opts=options)  # fmt: skip
    for name, client in clients.items():
        databricks.ServicePrincipal(name, application_id=client, display_name=name, opts=options)
    if build_host is None:
        _grant("releases", clients, options, USE, catalog.name)
        _grant("releases", clients, options, ("CREATE_MODEL", "EXECUTE"), catalog.name,
               schemas["models"].name)  # fmt: skip
        return
    dev_options, shared = _at("databricks-dev", build_host, None), names.catalog("dev")
    databricks.WorkspaceBinding(
        "models", securable_name=shared, securable_type="catalog",
        workspace_id=workspace.workspace_id, binding_type="BINDING_TYPE_READ_WRITE",
        opts=dev_options,
    )  # fmt: skip
    for name in (settings.stack, watch(settings)):
        _grant(name, clients, dev_options, USE, shared)
        _grant(name, clients, dev_options, ("EXECUTE",), shared, "models")


def _at(name: str, host: Text, workspace_id: Text | None) -> pulumi.ResourceOptions:
    """What is declared in the workspace at this host."""
    address = pulumi.Output.format("https://{0}", host)
    provider = databricks.Provider(name, host=address, azure_workspace_resource_id=workspace_id)
    return pulumi.ResourceOptions(provider=provider)


def _grant(
    name: str, clients: Mapping[str, Text], opts: pulumi.ResourceOptions,
    privileges: tuple[str, ...], catalog: Text, schema: Text | None = None,
) -> None:  # fmt: skip
    """Give an identity privileges of Unity Catalog on a catalog, or on one of its schemas."""
    databricks.Grant(
        f"{name} on the {'models' if schema else 'catalog'}", principal=clients[name],
        privileges=list(privileges), catalog=None if schema else catalog,
        schema=pulumi.Output.format("{0}.{1}", catalog, schema) if schema else None, opts=opts,
    )  # fmt: skip
