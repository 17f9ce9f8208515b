"""Policies of what the provider declares: members of enumerations, names and tags."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from typing import Any

from azure_platform.names import KINDS

from tests.declared import Resource

Stacks = dict[str, list[Resource]]


def enums(stacks: Stacks) -> list[str]:
    """Values that are no member of the enumeration that the provider declares for their key."""
    faults = []
    for name, resources in stacks.items():
        for one in resources:
            package, module, kind = one.type.split(":")
            if package == "azure-native":
                home = import_module(f"pulumi_azure_native.{module}")
                faults += [f"{name}: {one.name}: {fault}"
                           for fault in _outside(home, f"{kind}Args", one.inputs)]  # fmt: skip
    return faults


def _outside(home: Any, kind: str, inputs: dict[str, Any]) -> Iterator[str]:
    """Follow the annotations of an Args class down to enumerations."""
    own = getattr(home, kind, None)
    if own is None:
        file = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.removesuffix("Args")).lower()
        own = getattr(import_module(f"{home.__name__}.{file}"), kind)
    for key, parameter in inspect.signature(own.__init__).parameters.items():
        getter = getattr(own, key, None)
        sent = getattr(getattr(getter, "fget", None), "_pulumi_name", key)
        for named in re.findall(r"'(\w+)'", str(parameter.annotation)):
            found = getattr(home, named, None)
            values = inputs.get(sent)
            for value in values if isinstance(values, list) else [values]:
                if isinstance(value, dict) and named.endswith("Args"):
                    yield from _outside(home, named, value)
                elif isinstance(value, str) and isinstance(found, type) and issubclass(found, Enum):
                    yield from [] if value in {one.value for one in found} else [f"{sent}: {value}"]


def named(stacks: Stacks) -> list[str]:
    """Names without the prefix of their kind, and resources without their stack's tags."""
    faults = []
    prefixes = tuple(kind.prefix for kind in KINDS.values())
    for stack, resources in stacks.items():
        for one in resources:
            package, module, kind = one.type.split(":")
            tagged = package == "azure-native" and "tags" in dir(
                getattr(import_module(f"pulumi_azure_native.{module}"), kind))  # fmt: skip
            if not tagged:
                continue
            tags, group = one.inputs.get("tags", {}), one.inputs["resourceGroupName"]
            names = [value for key, value in one.inputs.items() if key.endswith("Name")]
            own = [name for name in names if name != group] or [group]
            complete = {"project", "environment", "owner", "managed-by"} == tags.keys()
            if not complete or tags["environment"] != stack:
                faults.append(f"{stack}: {one.name}: {tags}")
            if module != "privatedns" and not any(name.startswith(prefixes) for name in own):
                faults.append(f"{stack}: {one.name}: {own}")
    return faults
