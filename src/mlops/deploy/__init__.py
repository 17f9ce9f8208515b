"""Where bundles run: a module for each kind of target, imported when it is used."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

from mlops.deploy.target import Target


def named(name: str) -> Target:
    """The kind of target of this name: the module `mlops.deploy.NAME`."""
    return cast(Target, import_module(f"mlops.deploy.{name}"))


class _Digest:
    """What one kind of target runs, as a single digest: all that a promotion asks of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def current(self, environment: str, root: Path) -> str | None:
        """The digest that answers every request; None when there is no such one."""
        from mlops.gitops import manifest, reconcile

        endpoint = reconcile.endpoint_of(manifest.load(root, environment), root, environment)
        return reconcile.ran(named(self.name).current(endpoint))


TARGETS = {name: _Digest(name) for name in ("local", "azureml", "databricks", "kubernetes")}
