"""Where bundles run: a module for each kind of target, imported when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from mlops.deploy.target import Target


def named(name: str) -> Target:
    """The kind of target of this name: the module `mlops.deploy.NAME`."""
    return cast(Target, import_module(f"mlops.deploy.{name}"))
