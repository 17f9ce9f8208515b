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

from mlops.base.errors import UserError, nearest


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
    module = _imported(setting, name)
    missing = [attribute for attribute in attributes if not hasattr(module, attribute)]
    if missing:
        raise UserError(f"{setting}: {module.__file__}: {missing[0]} is missing")
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


def _imported(setting: str, path: str) -> ModuleType:
    """The user's module; what keeps it from being imported becomes one line."""
    try:
        return importlib.import_module(path)
    except Exception as error:
        absent = isinstance(error, ModuleNotFoundError) and f"{path}.".startswith(f"{error.name}.")
        if absent:
            raise UserError(
                f"{setting}: found {path!r}, no such module; expected one under src/ or installed"
            ) from None
        raise UserError(f"{setting}: {path}: {explain(error)}") from error


def explain(error: Exception) -> str:
    """One line for an error in somebody's module: file, line, type and message."""
    if isinstance(error, SyntaxError):
        place: tuple[str | None, int | None] = error.filename, error.lineno
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if _is_own(frame.filename)] or frames
        place = own[-1].filename, own[-1].lineno
    message = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{place[0]}:{place[1]}: {type(error).__name__}: {message}"


def _is_own(file: str) -> bool:
    """Whether a file is neither a library's, nor Python's own."""
    library = "site-packages" in Path(file).parts
    return not (library or file.startswith(("<", sysconfig.get_path("stdlib"))))
