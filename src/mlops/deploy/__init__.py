"""Where bundles run: a folder for each kind of target, and the rollout that all share.

It imports the rooms before it in a model's life, and nothing of Git or a forge. A new target is a
folder here, or a module of the project's own, with the functions of `target.Target`.
"""

from __future__ import annotations

from typing import cast

from mlops.contract import extensions
from mlops.deploy.target import Target

FUNCTIONS = tuple(name for name in vars(Target) if not name.startswith("_"))


def named(name: str, setting: str = "target") -> Target:
    """The kind of target that a manifest names: a folder of this room, or a module's path.

    `setting` is the file and key that errors begin with. Raises UserError for an unknown name, or
    a module that has not every function of a target.
    """
    return cast(Target, extensions.resolve(setting, name, __name__, FUNCTIONS))
