"""The Azure ML workspace, and what it cannot be without: a vault, and Application Insights."""

from __future__ import annotations

import pulumi
from pulumi_azure_native import applicationinsights, keyvault, storage
from pulumi_azure_native import machinelearningservices as ml

from azure_platform.place import Place, Text


def vault(place: Place, tenant: Text) -> keyvault.Vault:
    """Declare a vault that is ruled by roles and keeps what was deleted for 90 days."""
    created = keyvault.Vault(
        "vault", vault_name=place.name("vault"), resource_group_name=place.group_name,
        properties=keyvault.VaultPropertiesArgs(
            tenant_id=tenant,
            sku=keyvault.SkuArgs(family=keyvault.SkuFamily.A, name=keyvault.SkuName.STANDARD),
            enable_rbac_authorization=True, enable_purge_protection=True, enable_soft_delete=True,
            soft_delete_retention_in_days=90,
        ),
        tags=place.tags, opts=pulumi.ResourceOptions(protect=True),
    )  # fmt: skip
    place.log("vault", created.id)
    return created


def workspace(place: Place, store: storage.StorageAccount, tenant: Text) -> ml.Workspace:
    """Declare an Azure ML workspace that reaches its store by identities, without keys.

    It has no registry of its own: `mlops reconcile` deploys images by digest and builds none.
    """
    insights = applicationinsights.Component(
        "insights", resource_name_=place.name("insights"), resource_group_name=place.group_name,
        kind="web", application_type=applicationinsights.ApplicationType.WEB,
        ingestion_mode=applicationinsights.IngestionMode.LOG_ANALYTICS,
        workspace_resource_id=place.logs.id, tags=place.tags,
    )  # fmt: skip
    created = ml.Workspace(
        "workspace", workspace_name=place.name("workspace"), resource_group_name=place.group_name,
        sku=ml.SkuArgs(name="Basic", tier=ml.SkuTier.BASIC),
        identity=ml.ManagedServiceIdentityArgs(type=ml.ManagedServiceIdentityType.SYSTEM_ASSIGNED),
        storage_account=store.id, key_vault=vault(place, tenant).id,
        application_insights=insights.id,
        # Hosted runners and clients call it; every call needs a token of Entra's or a key.
        public_network_access=ml.PublicNetworkAccessType.ENABLED,
        system_datastores_auth_mode=ml.SystemDatastoresAuthMode.IDENTITY, v1_legacy_mode=False,
        tags=place.tags,
    )  # fmt: skip
    place.log("workspace", created.id)
    return created
