"""Extensions by name: a built-in one, or a module of the user's own by its path.

A name without a dot is a module of a package of this project, such as `files` of
`mlops.data.sources`. A name with dots is a module's whole path, such as `churn.sources.crm`.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sysconfig
import traceback
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from mlops.base.errors import UserError, nearest, one_line

MLOPS = Path(__file__).parents[1]


def resolve(setting: str, name: str, builtin: str, attributes: Collection[str] = ()) -> ModuleType:
    """Import the module that a setting names; `builtin` is the package of the built-in ones.

    `setting` is the file and key that errors begin with, `attributes` is what the module must
    have. Raises UserError in one line for an unknown name, with the nearest known one; for a
    module that is missing, incomplete, or raises while it is imported.
    """
    if "." not in name:
        if not _has(builtin, name, attributes):
            known = _builtin_names(builtin, attributes)
            hint = nearest(name, known) or f"; known: {', '.join(known)}"
            raise UserError(f"{setting}: found {name!r}{hint}")
        return importlib.import_module(f"{builtin}.{name}")
    try:
        module = importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            line = f"found {name!r}, no such module; expected one under src/ or installed"
            raise UserError(f"{setting}: {line}") from None
        raise UserError(f"{setting}: {name}: {explain(error)}") from error
    for attribute in attributes:
        if not hasattr(module, attribute):
            raise UserError(f"{setting}: {module.__file__}: {attribute} is missing")
    return module


def _has(builtin: str, name: str, attributes: Collection[str]) -> bool:
    """Whether a built-in module of this name exists and has the attributes."""
    if not name.isidentifier() or importlib.util.find_spec(f"{builtin}.{name}") is None:
        return False
    module = importlib.import_module(f"{builtin}.{name}")
    return all(hasattr(module, attribute) for attribute in attributes)


def _builtin_names(builtin: str, attributes: Collection[str]) -> list[str]:
    names = []
    for module in pkgutil.iter_modules(importlib.import_module(builtin).__path__):
        # One that can't be imported on this machine is no suggestion.
        with suppress(Exception):
            if _has(builtin, module.name, attributes):
                names.append(module.name)
    return names


def explain(error: BaseException, otherwise: str = "") -> str:
    """One line for an error in somebody's module: file, line, type and message.

    `otherwise` is the file to name where no line of the user's own code raised it.
    """
    if isinstance(error, SyntaxError):
        place, message = f"{error.filename}:{error.lineno}", error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if is_own(frame.filename)]
        last = (own or frames)[-1]
        place = f"{last.filename}:{last.lineno}" if own or not otherwise else otherwise
        message = str(error)
    return f"{place}: {type(error).__name__}: {one_line(message)}"


def is_own(file: str) -> bool:
    """Whether a file is the user's own: neither a library's, nor Python's, nor this package's."""
    path = Path(file)
    library = "site-packages" in path.parts or MLOPS in path.parents
    return not (library or file.startswith(("<", sysconfig.get_path("stdlib"))))
