"""Where bundles run: a module for each kind of target, and the rollout that all share.

It imports the rooms before it in a model's life, and nothing of Git or a forge. A new target is a
module or package here with the functions of `target.Target`, imported when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from mlops.deploy.target import Target


def named(name: str) -> Target:
    """The kind of target of this name: the module `mlops.deploy.NAME`."""
    return cast(Target, import_module(f"mlops.deploy.{name}"))
