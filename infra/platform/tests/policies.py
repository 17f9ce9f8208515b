"""What must be true of the platform: each policy takes all stacks and gives its faults.

`test_platform.py` shows that there are none, and that each policy finds what it is for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from azure_platform.identities import ROLES
from azure_platform.names import CODES

from tests.alerts import alerted, shown
from tests.declared import DEV, FOLDER, READERS, SUBSCRIPTION, Resource
from tests.provider import enums, named

Stacks = dict[str, list[Resource]]
DOCS = FOLDER.parents[1] / "docs"
# What has resource logs in Azure Monitor; of a storage account, its service of blobs.
LOGGED = (
    "app:ManagedEnvironment", "containerregistry:Registry", "databricks:Workspace",
    "dbforpostgresql:Server", "keyvault:Vault", "machinelearningservices:Workspace",
    "network:VirtualNetwork", "operationalinsights:Workspace", "storage:BlobServiceProperties",
)  # fmt: skip
# Ids of what no stack declares: the state's container, and the group that Databricks makes.
OUTSIDE = (f"{SUBSCRIPTION}/resourceGroups/rg-mlops-state/", f"{SUBSCRIPTION}/providers/")
# What staging and production may know of dev.
SHARED = (f"{DEV}/dev-releases", f"{DEV}/dev-registry")
PARENTS = {
    "accountName": "StorageAccount", "dashboardName": ":Dashboard", "serverName": ":Server",
    "privateZoneName": "PrivateZone",
    "resourceGroupName": "ResourceGroup", "resourceName": "UserAssignedIdentity",
}  # fmt: skip
GRANT = ROLES["Role Based Access Control Administrator"]
ISSUER = "https://token.actions.githubusercontent.com"


def of(resources: list[Resource], kind: str) -> list[Resource]:
    return [one for one in resources if one.type.endswith(kind)]


def each(stacks: Stacks, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and inputs of every resource of a kind; there must be some."""
    found = [(f"{name}: {one.type} {one.name}", one.inputs) for name, resources in stacks.items()
             for one in of(resources, kind)]  # fmt: skip
    yield from found or [(f"no {kind}", {})]


def expect(stacks: Stacks, kind: str, **expected: Any) -> list[str]:
    """Resources of a kind in which a key, `outer__inner` for a nested one, is another."""
    faults = []
    for place, inputs in each(stacks, kind):
        for path, wanted in expected.items():
            value: Any = inputs
            for key in path.split("__"):
                value = value.get(key, None) if isinstance(value, dict) else None
            accepted = wanted if isinstance(wanted, tuple) else (wanted,)
            faults += [] if value in accepted else [f"{place}: {path}: {value!r}"]
    return faults


def texts(value: Any) -> Iterator[str]:
    """Every text in the inputs of a resource."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from texts(one)
    elif isinstance(value, str):
        yield value


def public_blobs(stacks: Stacks) -> list[str]:
    return [*expect(stacks, ":StorageAccount", allowBlobPublicAccess=False),
            *expect(stacks, ":BlobContainer", publicAccess="None")]  # fmt: skip


def keys(stacks: Stacks) -> list[str]:
    """Ways to log in with a key or a password."""
    return [
        *expect(stacks, ":StorageAccount", allowSharedKeyAccess=False, isLocalUserEnabled=False),
        *expect(stacks, ":Registry", adminUserEnabled=False, anonymousPullEnabled=False),
        *expect(stacks, "operationalinsights:Workspace", features__disableLocalAuth=True),
        *expect(stacks, "learningservices:Workspace", systemDatastoresAuthMode="Identity"),
        *expect(stacks, "postgresql:Server", authConfig__activeDirectoryAuth="Enabled",
                authConfig__passwordAuth="Disabled"),  # pragma: allowlist secret
        *expect(stacks, "keyvault:Vault", properties__enableRbacAuthorization=True),
    ]  # fmt: skip


def encrypted(stacks: Stacks) -> list[str]:
    apps = [*each(stacks, ":ContainerApp")]
    plain = [f"{place}: {text}" for place, inputs in apps for text in texts(inputs)
             if re.match(r"http:|postgresql(?!.*=require)", text)]  # fmt: skip
    ingress = [inputs["configuration"].get("ingress") for _, inputs in apps]
    return [
        *expect(stacks, ":StorageAccount", enableHttpsTrafficOnly=True,
                minimumTlsVersion=("TLS1_2", "TLS1_3")),
        *plain, *[f"{one}" for one in ingress if one and one["allowInsecure"]],
    ]  # fmt: skip


def private(stacks: Stacks) -> list[str]:
    """Servers that anybody else than the network's own could reach."""
    return [
        *expect(stacks, ":ManagedEnvironment", publicNetworkAccess="Disabled",
                vnetConfiguration__internal=True),
        *expect(stacks, "postgresql:Server", network__publicNetworkAccess="Disabled"),
        *expect(stacks, "databricks:Workspace", parameters__enableNoPublicIp__value=True),
    ]  # fmt: skip


def recoverable(stacks: Stacks) -> list[str]:
    """Bytes that are gone at once when somebody deletes or overwrites them."""
    lakes = {inputs["accountName"] for _, inputs in each(stacks, ":StorageAccount")
             if inputs["isHnsEnabled"]}  # fmt: skip
    return [
        *(place for place, inputs in each(stacks, ":BlobServiceProperties")
          if inputs["accountName"] not in lakes and not inputs["isVersioningEnabled"]),
        *expect(stacks, ":BlobServiceProperties", deleteRetentionPolicy__enabled=True,
                containerDeleteRetentionPolicy__enabled=True),
        *expect(stacks, ":Vault", properties__enablePurgeProtection=True,
                properties__enableSoftDelete=True),
        *expect(stacks, "postgresql:Server", backup__backupRetentionDays=tuple(range(7, 36))),
    ]  # fmt: skip


def logged(stacks: Stacks) -> list[str]:
    """Resources whose logs go nowhere, or to another stack."""
    faults = []
    for name, resources in stacks.items():
        logs = of(resources, "operationalinsights:Workspace")[0].id
        settings = of(resources, ":DiagnosticSetting")
        every = [{"categoryGroup": "allLogs", "enabled": True}]
        kept = {one.inputs["resourceUri"] for one in settings
                if one.inputs["workspaceId"] == logs and one.inputs["logs"] == every}  # fmt: skip
        faults += [f"{name}: {one.type} {one.name}" for one in resources
                   if one.type.endswith(LOGGED) and one.id not in kept]  # fmt: skip
    return faults


def granted(stacks: Stacks) -> set[tuple[str, str, str, str]]:
    """Stack, identity, role and scope of every assignment, as Azure would be asked for it."""
    names = {guid: role for role, guid in ROLES.items()}
    scopes = {"ml": "workspace store", "lake-catalog": "catalog", "state": "state"}
    found = set()
    for stack, resources in stacks.items():
        for one in of(resources, ":RoleAssignment"):
            last = one.inputs["scope"].rpartition("/")[2]
            scope = scopes.get(last, last.removeprefix("data-").removeprefix("dev-"))
            identity = one.inputs["principalId"].removeprefix("principal-of-")
            identity = "readers" if identity == READERS else identity
            role = names.get(one.inputs["roleDefinitionId"].rpartition("/")[2], "unknown")
            found.add((stack, identity, role, scope))
    return found


def documented(stacks: Stacks) -> set[tuple[str, str, str, str]]:
    """The table of docs/platform.md of these stacks, where NAME is the stack's own."""
    text = (DOCS / "platform.md").read_text().partition("## Who may do what")[2]
    table = text.partition("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \| (?:\w+ )*`(.+?)`", table, re.MULTILINE)
    return {(stack, identity.replace("NAME", stack), role, scope)
            for identity, named, role, scope in rows
            for stack in named.split(", ") if stack in stacks}  # fmt: skip


def roles(stacks: Stacks) -> list[str]:
    """Roles that the table in the documentation lacks, or has and nobody was given."""
    return [" / ".join(one) for one in granted(stacks) ^ documented(stacks)]


def stores(stacks: Stacks) -> list[str]:
    """What the table of docs/setup.md says of the stores, and is not so."""
    text = (DOCS / "setup.md").read_text()
    faults = []
    columns = {"raw": 3, "proposals": 4, "releases": 5}
    for row in re.findall(r"^\| `.+` \| `azure\w+` \|.*$", text, flags=re.MULTILINE):
        cells = [cell.strip() for cell in row.split("|")[1:]]
        for identity in {*re.findall("`(.+?)`", cells[0])} & {one[1] for one in granted(stacks)}:
            for scope, column in columns.items():
                word = cells[column].split(",")[0]
                role = {"reads": "Reader", "writes": "Contributor"}.get(word)
                given = {one[2].rpartition(" ")[2] for one in granted(stacks)
                         if one[1] == identity and one[3] == scope}  # fmt: skip
                faults += [] if given == ({role} if role else set()) else [f"{identity}: {scope}"]
    return faults


def federated(stacks: Stacks) -> list[str]:
    """Environments of GitHub, in docs/setup.md and the platform, whose tokens stand for nobody."""
    text = (DOCS / "setup.md").read_text()
    rows = re.findall(r"^\| (`.+`) \| `azure\w+` \|", text, re.MULTILINE)
    wanted = {name for row in rows for name in re.findall("`(.+?)`", row)}
    wanted |= {"platform-preview", *(f"platform-{stack}" for stack in stacks)}
    # The environments of stacks that are not looked at.
    wanted -= {f"{stack}{end}" for stack in {*CODES} - {*stacks} for end in ("", "-watch")}
    expected = {f"repo:OWNER/REPOSITORY:environment:{name}" for name in wanted}
    found = [inputs for _, inputs in each(stacks, ":FederatedIdentityCredential")]
    subjects = [one["subject"] for one in found]
    wrong = [
        one
        for one in found
        if one["issuer"] != ISSUER
        or one["audiences"] != ["api://AzureADTokenExchange"]
        or not one["resourceName"].endswith("-" + one["subject"].rpartition(":")[2])
    ]
    twice = [one for one in set(subjects) if subjects.count(one) > 1]
    return [*(expected ^ set(subjects)), *map(str, wrong), *twice]  # fmt: skip


def scoped(stacks: Stacks) -> list[str]:
    """Roles at a whole subscription, and the right to grant without a condition."""
    faults = []
    for place, inputs in each(stacks, ":RoleAssignment"):
        if "/providers/" not in inputs["scope"]:
            faults.append(f"{place}: {inputs['scope']}")
        if inputs["roleDefinitionId"].endswith(GRANT):
            allowed = set(re.findall(r"[0-9a-f-]{36}", inputs.get("condition", "")))
            narrow = allowed and not allowed & {ROLES["Contributor"], GRANT}
            faults += [] if narrow else [f"{place}: grants anything"]
    return faults


def isolated(stacks: Stacks) -> list[str]:
    """What one environment has of another: names and ids, more of dev than is documented."""
    faults = []
    for name, resources in stacks.items():
        others = [code for stack, code in CODES.items() if stack != name]
        foreign = re.compile(rf"mlops-?_?({'|'.join(others)})\b|mlops({'|'.join(others)})")
        for one in resources:
            for text in texts(one.inputs):
                # Dev's catalog is bound to both, which Unity Catalog's grants rule.
                if foreign.search(text) and text not in SHARED and "databricks:" not in one.type:
                    faults.append(f"{name}: {one.type} {one.name}: {text}")
    unique = [inputs[key] for kind, key in (("StorageAccount", "accountName"),
              (":Vault", "vaultName")) for _, inputs in each(stacks, kind)]  # fmt: skip
    return faults + [one for one in set(unique) if unique.count(one) > 1]


def dangling(stacks: Stacks) -> list[str]:
    """Ids and names of resources that are not declared."""
    faults = []
    for stack, resources in stacks.items():
        ids = {one.id for one in resources}
        names = {text for one in resources for text in texts(one.inputs)
                 if one.type.endswith(tuple(PARENTS.values()))}  # fmt: skip
        for one in resources:
            for text in texts(one.inputs):
                known = text.partition("/subnets/")[0] in ids or text.endswith("-managed")
                known |= text.startswith((*OUTSIDE, *SHARED))
                if text.startswith("/subscriptions/") and not known:
                    faults.append(f"{stack}: {one.name}: {text}")
            # Of everything but a credential, `resourceName` is its own name.
            keys = (
                PARENTS
                if one.type.endswith("IdentityCredential")
                else PARENTS.keys() - {"resourceName"}
            )
            faults += [f"{stack}: {one.name}: {key}: {one.inputs[key]}" for key in keys
                       if key in one.inputs and one.inputs[key] not in names]  # fmt: skip
    return faults


def clusters(stacks: Stacks) -> list[str]:
    """Clusters that may run for hours without work, grow without end, or serve users mixed up."""
    faults = []
    for place, inputs in each(stacks, ":ClusterPolicy"):
        policy = json.loads(inputs["definition"])
        right = (policy["autotermination_minutes"]["maxValue"] <= 60
                 and policy["autoscale.max_workers"]["maxValue"] <= 16
                 and policy["num_workers"]["maxValue"] <= 16
                 and "NONE" not in policy["data_security_mode"]["values"])  # fmt: skip
        faults += [] if right else [place]
    return faults + expect(stacks, ":Catalog", isolationMode="ISOLATED")


POLICIES = [
    public_blobs, keys, encrypted, private, recoverable, logged, roles, stores, federated, scoped,
    isolated, dangling, enums, named, clusters, alerted, shown,
]  # fmt: skip
