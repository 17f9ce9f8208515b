"""A stack's file, Pulumi.STACK.yaml, as a frozen data class; refused in one line when wrong."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from azure_platform.names import Names, Stack

GITHUB_ISSUER = "https://token.actions.githubusercontent.com"
CONNECTIONS = (
    "azureProposals", "azureReleases", "azureStaging", "azureProduction", "azureWatch",
    "azurePlatformPreview", "azurePlatformDev", "azurePlatformStaging", "azurePlatformProduction",
)  # fmt: skip
# What each text must be. Names grow from project and suffix: their lengths are Azure's limits.
PATTERNS = {
    "project": (r"[a-z][a-z0-9]{1,7}", "2 to 8 lowercase letters and digits"),
    "suffix": (r"[a-z0-9]{4}", "4 lowercase letters and digits that no other project has"),
    "owner": (r"[\w.@ -]{1,64}", "a team or an address"),
    "github": (r"[\w.-]+/[\w.-]+", "OWNER/REPOSITORY"),
    "retentionDays": (r"3[0-9]|[4-9][0-9]|[1-6][0-9]{2}|7[0-2][0-9]|730", "30 to 730 days"),
    "replication": (r"LRS|ZRS", "LRS or ZRS"),
    "databricks": (r"true|false", "true or false"),
    "trustPullRequests": (r"true|false", "true or false"),
    "alerts": (r"[\w.+-]+@[\w-]+(\.[\w-]+)+", "an e-mail address"),
    "readers": (
        r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        "the object id of a group in Entra ID",
    ),
    "image": (r"[\w.-]+(/[\w.-]+)+@sha256:[0-9a-f]{64}", "NAME@sha256:DIGEST"),
    "location": (r"[a-z0-9]+", "a region such as westeurope"),
}
OPTIONAL = {"trustPullRequests": "false", "image": "", "github": "", "azureDevOps": "",
            "alerts": "", "readers": ""}  # fmt: skip


class Refused(ValueError):
    """A stack's file is wrong: one line with file, key, found and expected."""


@dataclass(frozen=True)
class Forge:
    """Who issues the tokens of CI jobs, and the subject that each job's token names."""

    issuer: str
    repository: str = ""
    subjects: Mapping[str, str] = field(default_factory=dict)

    def subject(self, environment: str, connection: str) -> str | None:
        """The subject of GitHub's environment, or of the service connection on Azure DevOps.

        None for a connection that is not in the stack's file yet: it is made after its identity.
        """
        if self.repository:
            return f"repo:{self.repository}:environment:{environment}"
        return self.subjects.get(connection)


@dataclass(frozen=True)
class Settings:
    """What differs between the stacks."""

    stack: Stack
    location: str
    project: str
    suffix: str
    owner: str
    forge: Forge
    retention_days: int
    replication: str
    databricks: bool
    # releases reads what pull requests have trained: `release.trust: pull-requests`.
    trust_pull_requests: bool = False
    # The image of MLflow, Prefect and its worker; None where none of them is self-hosted.
    image: str | None = None
    # Who is told of alerts, and the group of people who read metrics and logs; "" for none.
    alerts: str = ""
    readers: str = ""

    @property
    def names(self) -> Names:
        return Names(self.project, self.stack, self.suffix)

    @property
    def tags(self) -> dict[str, str]:
        return {"project": self.project, "environment": self.stack, "owner": self.owner,
                "managed-by": "pulumi"}  # fmt: skip


def parse(stack: str, config: Mapping[str, str]) -> Settings:
    """The settings of a stack, from all keys of its file; Refused names the first fault."""
    file = f"Pulumi.{stack}.yaml"
    stacks = get_args(Stack)
    known = next((one for one in stacks if one == stack), None)
    if known is None:
        raise Refused(f"{file}: found the stack {stack!r}, expected one of {', '.join(stacks)}")
    given = {key.removeprefix("platform:"): str(value) for key, value in config.items()
             if key.startswith("platform:")}  # fmt: skip
    given["location"] = config.get("azure-native:location", "")
    for key in given.keys() - PATTERNS.keys() - {"azureDevOps"}:
        near = difflib.get_close_matches(key, [*PATTERNS, "azureDevOps"], n=1)
        hint = f"; the nearest known key is {near[0]}" if near else ""
        raise Refused(f"{file}: platform:{key}: unknown{hint}")
    values = OPTIONAL | given
    for key, (pattern, expected) in PATTERNS.items():
        value = values.get(key, "")
        empty = key in OPTIONAL and not value
        if not empty and not re.fullmatch(pattern, value, re.ASCII):
            raise Refused(f"{file}: {key}: found {value!r}, expected {expected}")
    return Settings(
        stack=known, location=values["location"], project=values["project"],
        suffix=values["suffix"], owner=values["owner"], forge=_forge(file, values),
        retention_days=int(values["retentionDays"]), replication=values["replication"],
        databricks=values["databricks"] == "true",
        trust_pull_requests=values["trustPullRequests"] == "true", image=values["image"] or None,
        alerts=values["alerts"], readers=values["readers"],
    )  # fmt: skip


def _forge(file: str, values: Mapping[str, str]) -> Forge:
    if bool(values["github"]) == bool(values["azureDevOps"]):
        raise Refused(f"{file}: expected one of platform:github and platform:azureDevOps")
    if values["github"]:
        return Forge(GITHUB_ISSUER, values["github"])
    wrong = Refused(f"{file}: azureDevOps: expected `issuer`, an https address, and `subjects`")
    try:
        given = json.loads(values["azureDevOps"])
    except ValueError:
        raise wrong from None
    if not isinstance(given, dict) or not isinstance(given.get("subjects", {}), dict):
        raise wrong
    if not str(given.get("issuer", "")).startswith("https://"):
        raise wrong
    subjects = {str(key): str(value) for key, value in given.get("subjects", {}).items()}
    for connection in subjects.keys() - set(CONNECTIONS):
        near = difflib.get_close_matches(connection, CONNECTIONS, n=1)
        hint = f"; the nearest known connection is {near[0]}" if near else ""
        raise Refused(f"{file}: azureDevOps.subjects.{connection}: unknown{hint}")
    return Forge(given["issuer"], subjects=subjects)
