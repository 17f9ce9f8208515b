"""One environment, put together: `dev` is where models are built, the two others where they run."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
from pulumi_azure_native import authorization, managedidentity

from azure_platform import (
    identities,
    lakehouse,
    monitoring,
    place,
    servers,
    stores,
    workspaces,
)
from azure_platform.place import Place, Text
from azure_platform.settings import Settings

LAKEHOUSE_USERS = ("proposals", "releases", "staging", "production", "staging-watch",
                   "production-watch", "watch")  # fmt: skip
Users = Mapping[str, managedidentity.UserAssignedIdentity]


def declare(settings: Settings) -> dict[str, Text]:
    """Declare all resources of a stack; its outputs, from which CI's variables are set."""
    client = authorization.get_client_config_output()
    tenant, subscription = client.tenant_id, client.subscription_id
    base = place.make(settings)
    users = identities.make(base)
    principals: dict[str, Text] = {name: one.principal_id for name, one in users.items()}
    clients: dict[str, Text] = {name: one.client_id for name, one in users.items()}
    principals |= {identities.READERS: settings.readers} if settings.readers else {}
    metrics = monitoring.declare(base)
    store = stores.account(base, "ml", ())
    workspace = workspaces.workspace(base, store.account, tenant)
    scopes: dict[str, Text] = {
        "group": base.group.id, "state": _state(settings, subscription),
        "workspace": workspace.id, "workspace store": store.account.id, "metrics": metrics.id,
    }  # fmt: skip
    outputs: dict[str, Text] = {
        "tenant": tenant, "subscription": subscription, "group": base.group.name,
        "workspace": workspace.name, "metrics": metrics.id,
        **{f"client {name}": one for name, one in clients.items()},
        **{f"principal {name}": one.principal_id for name, one in users.items()},
    }  # fmt: skip
    dev = None
    if settings.stack == "dev":
        scopes |= _build(base, tenant, users, outputs)
    else:
        dev = pulumi.StackReference(f"{pulumi.get_organization()}/platform/dev")
        scopes |= {name: dev.require_output(name) for name in ("releases", "registry")}
        scopes["endpoint"] = outputs["endpointIdentity"] = users["endpoint"].id
        # Identities of dev's that look at this environment too.
        for name in {"platform-preview", identities.watch(settings)} - users.keys():
            principals[name] = dev.require_output(f"principal {name}")
            clients[name] = dev.require_output(f"client {name}")
    if not settings.databricks:
        identities.assign(settings, subscription, principals, scopes)
        return outputs
    lake = stores.account(base, "lake", ("catalog",), lake=True)
    access = lakehouse.connector(base)
    principals["connector"] = access.identity.apply(lambda one: one.principal_id if one else "")
    scopes["catalog"] = lake.containers["catalog"].id
    assigned = identities.assign(settings, subscription, principals, scopes)
    databricks = lakehouse.workspace(base, subscription)
    lakehouse.catalog(
        settings, databricks, access,
        pulumi.Output.format("abfss://catalog@{0}.dfs.core.windows.net/", lake.account.name),
        {name: one for name, one in clients.items() if name in LAKEHOUSE_USERS},
        dev.require_output("databricksHost") if dev else None,
        assigned[identities.Grant("connector", identities.WRITE, "catalog")],
    )  # fmt: skip
    return outputs | {"databricksHost": databricks.workspace_url}


def _build(base: Place, tenant: Text, users: Users, outputs: dict[str, Text]) -> dict[str, Text]:
    """Declare what dev alone has: the stores, the registry, the servers; gives their scopes."""
    image = base.settings.image
    containers = ("raw", "proposals", "releases", *(("mlflow",) if image else ()))
    data = stores.account(base, "data", containers)
    registry = stores.registry(base)
    if image:
        servers.declare(base, tenant, image, registry.login_server, data.account.name, users)
    scopes: dict[str, Text] = {name: one.id for name, one in data.containers.items()}
    scopes["registry"] = registry.id
    outputs |= {
        "releases": scopes["releases"], "registry": registry.id,
        "registryServer": registry.login_server, "storageAccount": data.account.name,
    }  # fmt: skip
    return scopes


def _state(settings: Settings, subscription: Text) -> Text:
    """The container of Pulumi's own state, which infra/platform/state.sh makes."""
    return pulumi.Output.format(
        "/subscriptions/{0}/resourceGroups/{1}/providers/Microsoft.Storage/storageAccounts/{2}"
        "/blobServices/default/containers/state", subscription, *settings.names.state()
    )  # fmt: skip
