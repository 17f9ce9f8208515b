"""The project named in `params.yaml`, loaded by that name: its tables, features and models."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

from mlops.base.errors import UserError, nearest

if TYPE_CHECKING:
    import pandera.pandas as pa

Task = Literal["binary", "multiclass", "regression"]
TASKS = get_args(Task)


@dataclass(frozen=True)
class Features:
    """What the project's `features.py` declares about the feature table.

    `features` maps each input column to its unit or meaning; `slices` are the columns by which
    the holdout is evaluated; `baseline` is the single feature that the model must beat.
    """

    build: Callable[[Mapping[str, Any]], Any]
    key: str
    day: str
    target: str
    features: dict[str, str]
    slices: tuple[str, ...]
    baseline: str

    @property
    def columns(self) -> list[str]:
        """All columns of the feature table, in their order."""
        names = [self.key, self.day, self.target, *self.features, *self.slices]
        return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Models:
    """What the project's `models.py` declares: the task, the search space, the first trials."""

    task: Task
    space: dict[str, dict[str, Any]]
    first: list[dict[str, Any]]


def tables(project: str) -> dict[str, type[pa.DataFrameModel]]:
    """The Pandera schema of each raw table, by the table's name."""
    schemas: dict[str, type[pa.DataFrameModel]] = _constant(_part(project, "tables"), "TABLES")
    return schemas


def features(project: str) -> Features:
    """The project's feature function and the roles of its columns."""
    part = _part(project, "features")
    names = ("KEY", "DAY", "TARGET", "FEATURES", "SLICES", "BASELINE")
    key, day, target, columns, slices, baseline = (_constant(part, name) for name in names)
    build = _constant(part, "features")
    return Features(build, key, day, target, dict(columns), tuple(slices), baseline)


def forget(project: str) -> None:
    """Drop the project's modules, so that the next import uses the engine selected then."""
    for name in [name for name in sys.modules if name.split(".")[0] == project]:
        del sys.modules[name]


def models(project: str) -> Models:
    """The project's task and search space."""
    part = _part(project, "models")
    task = _constant(part, "TASK")
    if task not in TASKS:
        raise UserError(f"{part.__file__}: TASK: found {task!r}, expected one of {TASKS}")
    return Models(task, dict(_constant(part, "SPACE")), list(_constant(part, "FIRST")))


def _part(project: str, name: str) -> ModuleType:
    if importlib.util.find_spec(project) is None:
        # The packages on the path that look like a project.
        found = [path.parent for place in sys.path for path in Path(place).glob("*/tables.py")]
        known = [path.name for path in found if (path / "features.py").exists()]
        raise UserError(
            f"params.yaml: project: found {project!r}, expected a package under src/ "
            f"with tables.py, features.py and models.py{nearest(project, known)}"
        )
    if importlib.util.find_spec(f"{project}.{name}") is None:
        raise UserError(f"{project}/{name}.py: not found; every project has one")
    return importlib.import_module(f"{project}.{name}")


def _constant(part: ModuleType, name: str) -> Any:
    if not hasattr(part, name):
        raise UserError(f"{part.__file__}: {name} is missing")
    return getattr(part, name)
