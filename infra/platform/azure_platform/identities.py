"""Who may do what: the identities of CI jobs and servers, and each role at the smallest scope.

docs/platform.md shows the same table; a test compares them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_azure_native import authorization, managedidentity

from azure_platform.place import Place, Text
from azure_platform.settings import Settings

READ, WRITE = "Storage Blob Data Reader", "Storage Blob Data Contributor"
PULL, PUSH, GRANT = "AcrPull", "AcrPush", "Role Based Access Control Administrator"
# https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
ROLES = {
    READ: "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1", WRITE: "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    PULL: "7f951dda-4ed3-4680-a7ca-43fe172d538d", PUSH: "8311e382-0749-4cb8-b61a-304f252e45ec",
    GRANT: "f58310d9-a9f6-439a-9e8d-f62e7b41a168",
    "AzureML Data Scientist": "f6c7c914-8db3-469d-8ca1-694a8f32e121",
    "Contributor": "b24988ac-6180-42a0-ab88-20f7382dd24c",
    "Managed Identity Operator": "f1a07417-d97a-45cb-824c-7a7467783830",
    "Monitoring Data Reader": "b0d8363b-8ddd-447d-831f-62ca05bff136",
    "Monitoring Reader": "43d0d8ad-25c7-4714-9337-8ba259a9fe05",
    "Reader": "acdd72a7-3385-48ef-bd42-f606fba81ae7",
}  # fmt: skip
# What the pipeline of this folder may grant: never the right to grant, and no other role.
GRANTABLE = (READ, WRITE, PULL, PUSH, "AzureML Data Scientist", "Managed Identity Operator",
             "Monitoring Data Reader", "Monitoring Reader", "Reader")  # fmt: skip
# A group of people, who exist before the platform does.
READERS = "readers"
AUDIENCE = "api://AzureADTokenExchange"


@dataclass(frozen=True)
class Identity:
    """A managed identity; its name is the environment's on GitHub.

    `connection` is the service connection on Azure DevOps, empty where no CI job logs in as it.
    """

    name: str
    connection: str = ""


@dataclass(frozen=True)
class Grant:
    """One role of one identity at one scope: a container, a workspace, an identity, a group."""

    identity: str
    role: str
    scope: str


def identities(settings: Settings) -> list[Identity]:
    """The identities that a stack makes."""
    stack = settings.stack
    result = [Identity(f"platform-{stack}", f"azurePlatform{stack.title()}")]
    if stack == "dev":
        result += [Identity("proposals", "azureProposals"), Identity("releases", "azureReleases"),
                   Identity("platform-preview", "azurePlatformPreview"),
                   Identity("images", "azureImages")]  # fmt: skip
        result += [Identity("servers"), Identity("worker")] if settings.image else []
        # Azure DevOps has one connection that looks at both environments.
        result += [] if settings.forge.repository else [Identity("watch", "azureWatch")]
        return result
    result += [Identity(stack, f"azure{stack.title()}"), Identity("endpoint")]
    result += [Identity(watch(settings), "azureWatch")] if settings.forge.repository else []
    return result


def watch(settings: Settings) -> str:
    """The identity that looks at a stack, and changes nothing there."""
    return f"{settings.stack}-watch" if settings.forge.repository else "watch"


def grants(settings: Settings) -> list[Grant]:
    """The roles that a stack gives."""
    stack = settings.stack
    platform = f"platform-{stack}"
    given = [
        Grant("platform-preview", "Reader", "group"),
        Grant(platform, "Contributor", "group"),
        Grant(platform, GRANT, "group"),
        Grant(platform, WRITE, "state"),
    ]
    given += [Grant("connector", WRITE, "catalog")] if settings.databricks else []
    if settings.readers:
        given += [Grant(READERS, "Monitoring Data Reader", "metrics"),
                  Grant(READERS, "Monitoring Reader", "group")]  # fmt: skip
    if stack == "dev":
        given += [
            Grant("platform-preview", READ, "state"),
            Grant("proposals", READ, "raw"),
            Grant("proposals", WRITE, "proposals"),
            Grant("proposals", READ, "releases"),
            Grant("releases", READ, "raw"),
            Grant("releases", WRITE, "releases"),
            Grant("images", PUSH, "registry"),
        ]
        given += [Grant("releases", READ, "proposals")] if settings.trust_pull_requests else []
        if settings.image:
            given += [
                Grant("servers", WRITE, "mlflow"),
                Grant("servers", PULL, "registry"),
                Grant("worker", READ, "raw"),
                Grant("worker", WRITE, "proposals"),
                Grant("worker", READ, "releases"),
                Grant("worker", PULL, "registry"),
            ]
        return given
    return [
        *given,
        Grant(platform, GRANT, "releases"),
        Grant(platform, GRANT, "registry"),
        Grant(stack, "AzureML Data Scientist", "workspace"),
        Grant(stack, "Monitoring Reader", "workspace"),
        Grant(stack, WRITE, "workspace store"),
        Grant(stack, "Managed Identity Operator", "endpoint"),
        Grant(stack, READ, "releases"),
        Grant(watch(settings), "Reader", "workspace"),
        Grant(watch(settings), READ, "releases"),
        Grant("endpoint", PULL, "registry"),
        Grant("endpoint", READ, "workspace store"),
    ]


def make(place: Place) -> dict[str, managedidentity.UserAssignedIdentity]:
    """Declare the stack's identities, and which tokens of the forge stand for them."""
    created = {}
    forge = place.settings.forge
    for one in identities(place.settings):
        identity = managedidentity.UserAssignedIdentity(
            one.name, resource_name_=place.name("identity", one.name),
            resource_group_name=place.group_name, tags=place.tags,
        )  # fmt: skip
        created[one.name] = identity
        subject = forge.subject(one.name, one.connection) if one.connection else None
        if subject:
            managedidentity.FederatedIdentityCredential(
                one.name, federated_identity_credential_resource_name=one.name,
                resource_name_=identity.name, resource_group_name=place.group_name,
                issuer=forge.issuer, subject=subject, audiences=[AUDIENCE],
            )  # fmt: skip
    return created


def assign(
    settings: Settings, subscription: Text, principals: Mapping[str, Text],
    scopes: Mapping[str, Text],
) -> dict[Grant, authorization.RoleAssignment]:  # fmt: skip
    """Declare every role of `grants`: principals by identity, resource ids by scope."""
    created = {}
    for one in grants(settings):
        key = f"{one.identity} / {one.role} / {one.scope}"
        limited = one.role == GRANT
        created[one] = authorization.RoleAssignment(
            key,
            # Azure wants a GUID, and a second run the same one.
            role_assignment_name=str(
                uuid.uuid5(uuid.NAMESPACE_URL, f"{settings.project}/{settings.stack}/{key}")
            ),
            principal_id=principals[one.identity],
            principal_type=authorization.PrincipalType.GROUP if one.identity == READERS
            else authorization.PrincipalType.SERVICE_PRINCIPAL,
            role_definition_id=pulumi.Output.format(
                "/subscriptions/{0}/providers/Microsoft.Authorization/roleDefinitions/{1}",
                subscription, ROLES[one.role],
            ),
            scope=scopes[one.scope], condition=_only(GRANTABLE) if limited else None,
            condition_version="2.0" if limited else None,
        )  # fmt: skip
    return created


def _only(roles: tuple[str, ...]) -> str:
    """Azure's condition by which a role may be granted and revoked only when it is one of these."""
    allowed = ", ".join(ROLES[role] for role in roles)
    return " AND ".join(
        f"((!(ActionMatches{{'Microsoft.Authorization/roleAssignments/{action}'}})) OR "
        f"(@{source}[Microsoft.Authorization/roleAssignments:RoleDefinitionId] "
        f"ForAnyOfAnyValues:GuidEquals {{{allowed}}}))"
        for action, source in (("write", "Request"), ("delete", "Resource"))
    )
