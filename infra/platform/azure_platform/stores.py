"""Where bytes live: storage accounts with their containers, and the registry of images."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_azure_native import containerregistry, storage

from azure_platform.place import Place

# Deleted blobs, containers and versions come back for so long.
SOFT_DELETE_DAYS = 30


@dataclass(frozen=True)
class Account:
    """A storage account and its containers by their names."""

    account: storage.StorageAccount
    containers: dict[str, storage.BlobContainer]


def account(place: Place, part: str, containers: tuple[str, ...], lake: bool = False) -> Account:
    """Declare a storage account that only Entra identities may use, each for itself.

    A lake has the hierarchical namespace that Unity Catalog wants, with which Azure keeps no
    versions. The network is open: hosted runners have no fixed addresses.
    """
    created = storage.StorageAccount(
        part, account_name=place.name("storage", part), resource_group_name=place.group_name,
        kind=storage.Kind.STORAGE_V2,
        sku=storage.SkuArgs(name=storage.SkuName(f"Standard_{place.settings.replication}")),
        allow_blob_public_access=False, allow_shared_key_access=False,
        allow_cross_tenant_replication=False, default_to_o_auth_authentication=True,
        enable_https_traffic_only=True, is_hns_enabled=lake, is_local_user_enabled=False,
        minimum_tls_version=storage.MinimumTlsVersion.TLS1_2, tags=place.tags,
        opts=pulumi.ResourceOptions(protect=True),
    )  # fmt: skip
    retention = storage.DeleteRetentionPolicyArgs(enabled=True, days=SOFT_DELETE_DAYS)
    service = storage.BlobServiceProperties(
        part, account_name=created.name, resource_group_name=place.group_name,
        blob_services_name="default", is_versioning_enabled=not lake,
        delete_retention_policy=retention, container_delete_retention_policy=retention,
    )  # fmt: skip
    place.log(part, service.id)
    blobs = {
        name: storage.BlobContainer(
            f"{part}-{name}", container_name=name, account_name=created.name,
            resource_group_name=place.group_name, public_access=storage.PublicAccess.NONE,
            opts=pulumi.ResourceOptions(protect=True),
        )
        for name in containers
    }  # fmt: skip
    return Account(created, blobs)


def registry(place: Place) -> containerregistry.Registry:
    """Declare the registry of images; staging and production pull the very image that was built."""
    created = containerregistry.Registry(
        "registry", registry_name=place.name("registry"), resource_group_name=place.group_name,
        sku=containerregistry.SkuArgs(name=containerregistry.SkuName.STANDARD),
        admin_user_enabled=False, anonymous_pull_enabled=False, tags=place.tags,
    )  # fmt: skip
    place.log("registry", created.id)
    return created
