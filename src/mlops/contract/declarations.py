"""What the constants of a project's `features.py` and `models.py` may be, checked at loading."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlops.base import documents
from mlops.base.errors import UserError, nearest
from mlops.contract.task import Task

Name = Annotated[str, Field(min_length=1)]
Class = str | int | bool
# What ONNX's converter keeps as it is, and what the model's outputs and the evidence are called.
COLUMN = re.compile(r"[^\W\d]\w*")
RESERVED = re.compile(r"outcome|(probability|prediction)(_\d+)?")


class _Constants(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, arbitrary_types_allowed=True)


class Roles(_Constants):
    """The constants of `features.py`."""

    KEY: Name
    DAY: Name | None = None
    GROUP: Name | None = None
    TARGET: Name
    CLASSES: tuple[Class, ...] = Field(default=(), strict=False)
    FEATURES: dict[Name, str] = Field(min_length=1)
    OPTIONAL: tuple[Name, ...] = Field(default=(), strict=False)
    RETIRED: tuple[Name, ...] = Field(default=(), strict=False)
    SLICES: tuple[Name, ...] = Field(strict=False)
    BASELINE: Name


class Search(_Constants):
    """The constants of `models.py`."""

    TASK: Task
    SPACE: dict[Name, dict[str, Any]] = {}
    FIRST: list[dict[str, Any]] = []


Constants = TypeVar("Constants", Roles, Search)


def read(part: ModuleType, kind: type[Constants]) -> Constants:
    """The constants of a project's file. Raises UserError for the first that is not as declared."""
    given = {name: getattr(part, name) for name in kind.model_fields if hasattr(part, name)}
    try:
        constants = kind.model_validate(given)
    except ValidationError as error:
        raise UserError(f"{part.__file__}: {documents.explain(error, kind)}") from None
    if isinstance(constants, Roles):
        _require_roles(str(part.__file__), constants)
    elif constants.FIRST and not constants.SPACE:
        raise UserError(f"{part.__file__}: FIRST: found candidates, expected a SPACE for them too")
    return constants


def _require_roles(place: str, roles: Roles) -> None:
    """Each column has one role, and a name that the model and its evidence do not use."""
    known = list(roles.FEATURES)
    taken = {roles.KEY: "KEY"}
    for name in ("DAY", "TARGET", "GROUP"):
        column = getattr(roles, name)
        if column in taken:
            raise UserError(f"{place}: {name}: found {column!r}, which is {taken[column]} already")
        if column and name != "GROUP":
            taken[column] = name
    if roles.DAY and roles.GROUP:
        raise UserError(
            f"{place}: GROUP: found {roles.GROUP!r}, expected none where there is a DAY"
        )
    for column in known:
        if column in taken:
            raise UserError(
                f"{place}: FEATURES: found {column!r}, which is {taken[column]}; expected inputs "
                "that are known when the model is asked"
            )
        if not COLUMN.fullmatch(column):
            raise UserError(
                f"{place}: FEATURES: found column {column!r}, expected letters, digits and "
                "underscores"
            )
    for column in (roles.KEY, roles.DAY, *known):
        if column and RESERVED.fullmatch(column):
            raise UserError(
                f"{place}: found column {column!r}, a name of the model's own; expected another"
            )
    for constant, columns in (("BASELINE", (roles.BASELINE,)), ("OPTIONAL", roles.OPTIONAL)):
        for column in columns:
            if column not in known:
                expected = f"one of FEATURES{nearest(column, known) or ': ' + ', '.join(known)}"
                raise UserError(f"{place}: {constant}: found {column!r}, expected {expected}")
    for column in roles.RETIRED:
        role = "one of FEATURES" if column in known else taken.get(column)
        if role:
            raise UserError(f"{place}: RETIRED: found {column!r}, which is {role} still")
    names = set(map(str, roles.CLASSES))
    if roles.CLASSES and (len(names) < 2 or len(names) < len(roles.CLASSES)):
        raise UserError(f"{place}: CLASSES: found {roles.CLASSES}, expected two or more, each once")
