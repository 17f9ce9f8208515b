"""A stack's resources as Pulumi would send them to Azure, recorded by Pulumi's own mocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pulumi
import yaml

FOLDER = Path(__file__).parents[1]
STACKS = ("dev", "staging", "production")
SUBSCRIPTION = "/subscriptions/the-subscription"
DEV = f"{SUBSCRIPTION}/resourceGroups/rg-mlops-dev/providers"
IMAGE = f"crmlopsdev0000.azurecr.io/mlops@sha256:{'0' * 64}"
READERS = "11111111-2222-3333-4444-555555555555"
SHARED = ("platform-preview", "watch")
# What staging and production read of dev.
REFERENCE = {
    "releases": f"{DEV}/dev-releases", "registry": f"{DEV}/dev-registry",
    "databricksHost": "dev.azuredatabricks.invalid",
    **{f"{what} {name}": f"{what}-of-{name}"
       for name in SHARED for what in ("principal", "client")},
}  # fmt: skip


@dataclass(frozen=True)
class Resource:
    """One declared resource: its type and name, what Azure is sent, and its id."""

    type: str
    name: str
    inputs: dict[str, Any]
    id: str


@dataclass
class Recorder(pulumi.runtime.Mocks):
    """Answers as Azure would, as far as other resources ask."""

    resources: list[Resource] = field(default_factory=list)

    def new_resource(
        self, args: pulumi.runtime.MockResourceArgs
    ) -> tuple[str | None, dict[Any, Any]]:
        if args.typ == "pulumi:pulumi:StackReference":
            return args.name, {"name": args.name, "outputs": REFERENCE}
        inputs = dict(args.inputs)
        group = inputs.get("resourceGroupName", "")
        id = f"{SUBSCRIPTION}/resourceGroups/{group}/providers/{args.typ}/{args.name}"
        self.resources.append(Resource(args.typ, args.name, inputs, id))
        named = [value for key, value in inputs.items() if key.lower().endswith("name")
                 and key not in ("resourceGroupName", "accountName", "serverName")]  # fmt: skip
        if args.typ.endswith(("StorageAccount", ":Server", ":ResourceGroup")):
            named = [next(inputs[key] for key in ("accountName", "serverName", "resourceGroupName")
                          if key in inputs)]  # fmt: skip
        answers = {
            "name": inputs.get("name", named[-1] if named else args.name),
            "principalId": f"principal-of-{args.name}", "clientId": f"client-of-{args.name}",
            "identity": {"principalId": f"principal-of-{args.name}", "tenantId": "t", "type": "x"},
            "workspaceUrl": f"{args.name}.azuredatabricks.invalid", "workspaceId": "1",
            "loginServer": "crmlopsdev0000.azurecr.io", "defaultDomain": "domain.invalid",
            "fullyQualifiedDomainName": "database.invalid",
        }  # fmt: skip
        return id, {**answers, **inputs, "name": answers["name"], "identity": answers["identity"]}

    def call(
        self, args: pulumi.runtime.MockCallArgs
    ) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        return {"tenantId": "the-tenant", "subscriptionId": "the-subscription"}, []


def config(name: str, **changes: str | None) -> dict[str, str]:
    """A stack's file as Pulumi hands it over; None removes a key."""
    given = yaml.safe_load((FOLDER / f"Pulumi.{name}.yaml").read_text())["config"]
    texts = {key: str(value).lower() if isinstance(value, bool) else str(value)
             for key, value in given.items()}  # fmt: skip
    for key, value in changes.items():
        texts.pop(f"platform:{key}", None)
        texts |= {} if value is None else {f"platform:{key}": value}
    return texts


def declared(name: str, **changes: str | None) -> list[Resource]:
    """All resources of a stack, as the package that is imported now declares them."""
    settings, stack = (import_module(f"azure_platform.{one}") for one in ("settings", "stack"))
    chosen = settings.parse(name, config(name, **changes))
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="platform", stack=name, preview=False)
    # What Pulumi's decorator makes of a test waits until everything is declared.
    pulumi.runtime.test(lambda: stack.declare(chosen))()  # type: ignore[no-untyped-call]
    return [one for one in recorder.resources if not one.type.startswith("pulumi:")]


def whole(stacks: tuple[str, ...] = STACKS, **changes: str | None) -> dict[str, list[Resource]]:
    """Stacks with everything that can be switched on."""
    every = {"trustPullRequests": "true", "alerts": "team@example.org", "readers": READERS,
             **changes}  # fmt: skip
    return {name: declared(name, **{"image": IMAGE} if name == "dev" else {}, **every)
            for name in stacks}  # fmt: skip
