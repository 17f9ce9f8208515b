"""One rule for every name: kind, project, environment, part and, where Azure wants a name that
nobody else in the world has, the suffix.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

Stack = Literal["dev", "staging", "production"]
CODES: dict[Stack, str] = {"dev": "dev", "staging": "stg", "production": "prd"}


class Kind(NamedTuple):
    """How names of one kind begin, what Azure allows, and whether they are unique in the world."""

    prefix: str
    allowed: str
    worldwide: bool = False


# https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
KINDS = {
    "group": Kind("rg", r"[\w.()-]{1,89}[\w()-]"),
    "storage": Kind("st", r"[a-z0-9]{3,24}", worldwide=True),
    "vault": Kind("kv", r"(?!.*--)[a-zA-Z][a-zA-Z0-9-]{1,22}[a-zA-Z0-9]", worldwide=True),
    "registry": Kind("cr", r"[a-zA-Z0-9]{5,50}", worldwide=True),
    "database": Kind("psql", r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", worldwide=True),
    "logs": Kind("log", r"[a-zA-Z0-9][a-zA-Z0-9-]{2,61}[a-zA-Z0-9]"),
    "insights": Kind("appi", r"[\w.()-]{1,259}[\w()-]"),
    "identity": Kind("id", r"[a-zA-Z0-9][\w-]{2,127}"),
    "workspace": Kind("mlw", r"[a-zA-Z0-9][\w-]{2,32}"),
    "databricks": Kind("dbw", r"[\w-]{3,64}"),
    "connector": Kind("dbac", r"[\w-]{1,64}"),
    "metrics": Kind("amw", r"[a-zA-Z0-9][a-zA-Z0-9-]{2,42}[a-zA-Z0-9]"),
    "alerts": Kind("ag", r"[\w.()-]{1,259}[\w()-]"),
    "rules": Kind("prg", r"[\w.()-]{1,259}[\w()-]"),
    "dashboard": Kind("dash", r"[a-zA-Z][a-zA-Z0-9-]{0,28}[a-zA-Z0-9]"),
    "network": Kind("vnet", r"[a-zA-Z0-9][\w.-]{0,62}\w"),
    "apps": Kind("cae", r"[a-z][a-z0-9-]{0,58}[a-z0-9]"),
    "app": Kind("ca", r"(?!.*--)[a-z][a-z0-9-]{0,30}[a-z0-9]"),
}
# Azure allows no hyphen in them.
SOLID = ("storage", "registry")


@dataclass(frozen=True)
class Names:
    """The names of one stack."""

    project: str
    stack: Stack
    suffix: str

    def of(self, kind: str, part: str = "", stack: Stack | None = None) -> str:
        """The name of a resource; ValueError when Azure would refuse it."""
        prefix, allowed, worldwide = KINDS[kind]
        words = [prefix, self.project, CODES[stack or self.stack], part]
        words += [self.suffix] if worldwide else []
        name = ("" if kind in SOLID else "-").join(filter(None, words))
        if not re.fullmatch(allowed, name, re.ASCII):
            raise ValueError(f"{kind}: found the name {name!r}, expected {allowed}")
        return name

    def state(self) -> tuple[str, str]:
        """The resource group and the storage account of Pulumi's state, which state.sh makes."""
        return f"rg-{self.project}-state", f"st{self.project}state{self.suffix}"

    def catalog(self, stack: Stack | None = None) -> str:
        """The catalog of an environment in Unity Catalog."""
        return f"{self.project}_{stack or self.stack}"
