"""Where bundles run: a folder for each kind of target, and the rollout that all share.

It imports the rooms before it in a model's life, and nothing of Git or a forge. A new target is a
folder here, or a module of the project's own, with the functions of `target.Target`.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import cast

from mlops.base.environment import given, on_hosted_runner
from mlops.base.errors import UserError
from mlops.contract import extensions
from mlops.deploy.target import Target

FUNCTIONS = tuple(name for name in vars(Target) if not name.startswith("_"))


def named(name: str, setting: str = "target") -> Target:
    """The kind of target that a manifest names: a folder of this room, or a module's path.

    `setting` is the file and key that errors begin with. Of the variables that its module lists as
    NEEDS and READS the empty ones are removed: no vendor's library shall take them for set. Raises
    UserError for an unknown name, or a module that has not every function of a target.
    """
    module = extensions.resolve(setting, name, __name__, FUNCTIONS)
    for variable in {*_names(module, "NEEDS"), *_names(module, "READS")}:
        if not given(os.environ, variable):
            os.environ.pop(variable, None)
    return cast(Target, module)


def require_settings(name: str, setting: str) -> None:
    """Raise UserError with the environment variables that a target needs and that are not set.

    Each of its NEEDS is a variable, or several of which one is enough, with `or` between them.
    """
    needs = getattr(named(name, setting), "NEEDS", ())
    if missing := [one for one in needs if not os.environ.keys() & set(one.split(" or "))]:
        line = f"{name} needs {', '.join(missing)}, found nothing"
        raise UserError(f"{setting}: {line}; see 'What a deployment needs' in docs/gitops.md")


def ends_with_job(name: str) -> bool:
    """Whether what this target runs ends with the job: on a forge's own machine."""
    return name == "local" and on_hosted_runner()


def _names(module: ModuleType, attribute: str) -> list[str]:
    return [name for one in getattr(module, attribute, ()) for name in one.split(" or ")]
