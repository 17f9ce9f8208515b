"""`params.yaml`: every setting of the pipeline, checked before anything runs.

A room owns its section of the file: `mlops/<room>/params.py` holds the section's schema and a
`Params` that has the section as a field. A stage reads the sections of its own `Params` alone,
so that another room's new setting changes no stage.
"""

from __future__ import annotations

import importlib
import importlib.util
import keyword
import pkgutil
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

import mlops
from mlops.base import documents
from mlops.base.errors import UserError

FILE = Path("params.yaml")


class Section(BaseModel):
    """A frozen part of the parameters that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _package_name(name: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        raise ValueError("a package's name")
    if name in {*sys.stdlib_module_names, *keyword.kwlist, "mlops", "flows", "tests"}:
        raise ValueError("a name that neither Python nor this template uses")
    return name


class Params(Section):
    """What every stage may read. A room's own `Params` adds its sections; others are ignored."""

    model_config = ConfigDict(extra="ignore")

    project: Annotated[str, AfterValidator(_package_name)]
    # As the registries, the services and the clouds' endpoints all take it.
    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    engine: Literal["duckdb", "spark"]
    seed: int = Field(ge=0, lt=2**31)
    threads: int = Field(ge=1)


class _Whole(Params):
    """All sections; no other key."""

    model_config = ConfigDict(extra="forbid")


P = TypeVar("P", bound=Params)


def load(kind: type[P], root: Path = Path()) -> P:
    """Read the sections of `kind` from `params.yaml`; UserError names the first wrong key."""
    path = root / FILE
    content = documents.read(path, "the pipeline's parameters")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        # A misspelt section explains a missing one, and only the whole schema knows it.
        if kind.model_config["extra"] == "ignore":
            load_all(root)
        raise UserError(f"{path}: {documents.explain(error, kind)}") from None


def load_all(root: Path = Path()) -> Any:
    """Read the sections of every room; it can stand for any room's `Params`. Raises UserError."""
    fields: dict[str, Any] = {}
    for room in pkgutil.iter_modules(mlops.__path__, "mlops."):
        if room.ispkg and importlib.util.find_spec(f"{room.name}.params"):
            own: type[Params] = importlib.import_module(f"{room.name}.params").Params
            fields |= {name: (field.annotation, field) for name, field in own.model_fields.items()}
    return load(create_model("Params", __base__=_Whole, **fields), root)
