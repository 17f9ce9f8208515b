"""The platform has no fault that a policy knows, and each policy finds what it is for."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
from azure_platform import settings
from azure_platform.names import CODES, KINDS, Names

from tests import policies
from tests.declared import FOLDER, STACKS, Recorder, config, declared, whole
from tests.policies import POLICIES, Stacks, each

DEPLOYS = 'Grant(stack, READ, "releases"),'
# What is broken how, and the policy that finds it.
BROKEN = [
    ("public_blobs", "stores", "allow_blob_public_access=False", "allow_blob_public_access=True"),
    ("public_blobs", "stores", "PublicAccess.NONE", "PublicAccess.BLOB"),
    ("keys", "stores", "allow_shared_key_access=False", "allow_shared_key_access=True"),
    ("keys", "stores", "admin_user_enabled=False", "admin_user_enabled=True"),
    ("keys", "servers", "PasswordBasedAuth.DISABLED", "PasswordBasedAuth.ENABLED"),
    ("keys", "workspaces", "enable_rbac_authorization=True", "enable_rbac_authorization=False"),
    ("encrypted", "stores", "MinimumTlsVersion.TLS1_2", "MinimumTlsVersion.TLS1_0"),
    ("encrypted", "servers", "?sslmode=require", ""),
    ("private", "servers", "internal=True", "internal=False"),
    ("private", "servers", "AccessState.DISABLED", "AccessState.ENABLED"),
    ("recoverable", "stores", "is_versioning_enabled=not lake", "is_versioning_enabled=False"),
    ("recoverable", "workspaces", "enable_purge_protection=True", "enable_purge_protection=False"),
    ("logged", "workspaces", 'place.log("vault", created.id)', "pass"),
    ("logged", "servers", 'place.log("database", server.id)', "pass"),
    ("roles", "identities", 'Grant("proposals", READ, "releases")',
     'Grant("proposals", WRITE, "releases")'),
    ("roles", "identities", DEPLOYS, ""),
    ("roles", "identities", '"2a2b9908-6ea1', '"b7e6dc6d-6ea1'),
    ("stores", "identities", 'Grant("releases", READ, "raw")', 'Grant("releases", WRITE, "raw")'),
    ("federated", "settings", ":environment:{environment}", ":ref:refs/heads/main"),
    ("federated", "identities", "subject=subject", 'subject=subject.replace("proposals", "*")'),
    ("scoped", "identities", "condition=_only(GRANTABLE) if limited else None", "condition=None"),
    ("scoped", "identities", 'GRANTABLE = (READ', 'GRANTABLE = ("Contributor", READ'),
    ("scoped", "stack", '"group": base.group.id', '"group": "/subscriptions/the-subscription"'),
    ("isolated", "names", "CODES[stack or self.stack]", 'CODES["production"]'),
    ("dangling", "workspaces", "key_vault=vault(place, tenant).id",
     'key_vault="/subscriptions/the-subscription/vaults/mine"'),
    ("dangling", "servers", "server_name=server.name", 'server_name="psql-mine"'),
    ("enums", "stores", 'storage.SkuName(f"Standard_', '(f"Standart_'),
    ("enums", "workspaces", "ml.PublicNetworkAccessType.ENABLED", '"On"'),
    ("named", "stores", "tags=place.tags", "tags={}"),
    ("alerted", "monitoring", 'expression=rule["expr"]', 'expression="up == 0"'),
    ("alerted", "monitoring", "for_=_period(rule.get(\"for\"))", 'for_="PT15M"'),
    ("alerted", "monitoring", "scopes=[metrics.id]", "scopes=[place.group.id]"),
    ("alerted", "monitoring", "actions=told", "actions=[]"),
    ("alerted", "monitoring", '"page": 1', '"page": 4'),
    ("shown", "monitoring", '["uid"] = "${source}"', '["uid"] = "mine"'),
    ("dangling", "monitoring", "dashboard_name=created.name", 'dashboard_name="mine"'),
    ("roles", "identities", '"Monitoring Data Reader", "metrics"', '"Reader", "metrics"'),
    ("enums", "monitoring", "monitor.PublicNetworkAccess.ENABLED", '"On"'),
    ("clusters", "lakehouse", '"maxValue": 60', '"maxValue": 6000'),
]  # fmt: skip


@pytest.fixture(scope="session")
def stacks() -> Stacks:
    return whole()


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: str(policy.__name__))
def test_the_platform_has_no_fault(policy, stacks):  # type: ignore[no-untyped-def]
    assert policy(stacks) == []
    # Nor with dev alone, in which breakages are looked for.
    assert policy({"dev": stacks["dev"]}) == []


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    """A copy of the package that is imported instead of it, until the test ends."""

    def forget() -> dict[str, object]:
        names = [name for name in sys.modules if name.partition(".")[0] == "azure_platform"]
        return {name: sys.modules.pop(name) for name in names}

    folder = tmp_path / "azure_platform"
    shutil.copytree(FOLDER / "azure_platform", folder)
    shutil.copytree(FOLDER / "entra_login", tmp_path / "entra_login")
    own = forget()
    sys.path.insert(0, str(tmp_path))
    yield folder
    sys.path.remove(str(tmp_path))
    forget()
    sys.modules.update(own)  # type: ignore[arg-type]


@pytest.mark.parametrize(("policy", "file", "old", "new"), BROKEN)
def test_a_misconfiguration_is_found(
    policy: str, file: str, old: str, new: str, package: Path
) -> None:
    path = package / f"{file}.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    stacks = ("dev", "staging") if old == DEPLOYS else ("dev",)
    assert getattr(policies, policy)(whole(stacks)) != []


@pytest.mark.parametrize(("key", "value", "found"), [
    ("suffix", "A_1!", "suffix: found 'A_1!', expected 4 lowercase letters and digits"),
    ("project", "flights-of-2013", "project: found 'flights-of-2013', expected 2 to 8 lowercase"),
    ("sufix", "abcd", "platform:sufix: unknown; the nearest known key is suffix"),
    ("replication", "GRS", "replication: found 'GRS', expected LRS or ZRS"),
    ("retentionDays", "7", "retentionDays: found '7', expected 30 to 730 days"),
    ("github", None, "expected one of platform:github and platform:azureDevOps"),
    ("alerts", "the team", "alerts: found 'the team', expected an e-mail address"),
    ("readers", "the-team", "readers: found 'the-team', expected the object id of a group"),
    ("image", "mlops:latest", "image: found 'mlops:latest', expected NAME@sha256:DIGEST"),
    ("databricks", None, "databricks: found '', expected true or false"),
    ("azureDevOps", "{}", "expected one of platform:github and platform:azureDevOps"),
])  # fmt: skip
def test_a_wrong_stack_file_is_refused_in_one_line(key: str, value: str | None, found: str) -> None:
    with pytest.raises(settings.Refused) as refused:
        settings.parse("dev", config("dev", **{key: value}))
    assert str(refused.value).startswith("Pulumi.dev.yaml: ")
    assert found in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [
    "https://dev.azure.com", "[]", "{}", '{"issuer": "http://a"}',
    '{"issuer": "https://a", "subjects": ["azureProposals"]}',
])  # fmt: skip
def test_what_azure_devops_is_told_of_tokens_is_refused_in_one_line(value: str) -> None:
    with pytest.raises(settings.Refused, match="azureDevOps: expected `issuer`, an https address"):
        settings.parse("dev", config("dev", github=None, azureDevOps=value))


def test_a_stack_of_another_name_is_refused() -> None:
    with pytest.raises(settings.Refused, match="found the stack 'prod', expected one of dev"):
        settings.parse("prod", config("production"))


@pytest.mark.parametrize("stack", STACKS)
def test_the_longest_project_still_has_names_that_azure_takes(stack: str) -> None:
    names = Names("a2345678", stack, "0000")  # type: ignore[arg-type]
    parts = {"storage": ("data", "lake", "ml"), "app": ("mlflow", "prefect", "worker"),
             "identity": ("platform-production",)}  # fmt: skip
    made = {names.of(kind, part) for kind in KINDS for part in parts.get(kind, ("",))}
    assert len(made) == len(KINDS) + 4
    with pytest.raises(ValueError, match="vault: found the name"):
        names.of("vault", "of-everything")
    assert set(CODES) == set(STACKS)


def test_the_program_exports_what_ci_s_variables_are_set_from(monkeypatch: Any) -> None:
    exported: dict[str, Any] = {}
    monkeypatch.setattr(pulumi, "export", exported.__setitem__)
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps(config("dev")))
    pulumi.runtime.set_mocks(Recorder(), project="platform", stack="dev", preview=True)

    def program() -> None:
        runpy.run_path(str(FOLDER / "__main__.py"))

    pulumi.runtime.test(program)()  # type: ignore[no-untyped-call]
    assert {"client proposals", "client platform-preview", "principal platform-preview",
            "databricksHost", "group", "registryServer", "storageAccount", "subscription", "tenant",
            "workspace"} <= exported.keys()  # fmt: skip
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps(config("dev", suffix="-")))
    with pytest.raises(pulumi.RunError, match=r"Pulumi.dev.yaml: suffix: found '-', expected 4"):
        program()


def test_without_databricks_and_servers_there_is_nothing_of_them() -> None:
    kinds = {one.type for one in declared("dev", databricks="false")}
    assert not any(kind.startswith(("databricks:", "azure-native:databricks")) for kind in kinds)
    assert not any(kind.startswith(("azure-native:app:", "azure-native:db")) for kind in kinds)


def test_on_azure_devops_a_connection_stands_for_each_identity() -> None:
    given = ('{"issuer": "https://login.microsoftonline.com/TENANT/v2.0", "subjects": '
             '{"azureProposals": "/eid1/proposals", "azureWatch": "/eid1/watch"}}')  # fmt: skip
    stacks = whole(github=None, azureDevOps=given)
    found = {inputs["subject"] for _, inputs in each(stacks, ":FederatedIdentityCredential")}
    # The others have no connection yet.
    assert found == {"/eid1/proposals", "/eid1/watch"}
    seen = {(one[0], one[3]) for one in policies.granted(stacks) if one[1] == "watch"}
    assert seen == {(stack, scope) for stack in ("staging", "production")
                    for scope in ("workspace", "releases")}  # fmt: skip
