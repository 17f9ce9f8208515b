"""The project named in `params.yaml`, loaded by that name: its tables, features and models."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError, nearest
from mlops.contract import extensions
from mlops.contract.task import Task as Task

if TYPE_CHECKING:
    import pandera.pandas as pa

# The unit of a feature that is no number.
CATEGORY = "category"


@dataclass(frozen=True)
class Features:
    """What the project's `features.py` declares about the feature table.

    `features` maps each input column to its unit, or to `category`; `slices` are the columns by
    which the holdout is evaluated; `baseline` is the single feature that the model must beat.
    `day` is None where rows have none: `group`, or the key, then says which rows stay together in
    the split. `classes` are the target's values in their order, empty where they are to be sorted.
    Requests may leave `optional` inputs out, and may still have `retired` ones.
    """

    build: Callable[[Mapping[str, Any]], Any]
    key: str
    day: str | None
    target: str
    features: dict[str, str]
    slices: tuple[str, ...]
    baseline: str
    group: str | None = None
    classes: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()

    @property
    def order(self) -> list[str]:
        """The columns by which rows are ordered."""
        return [self.day, self.key] if self.day else [self.key]

    @property
    def columns(self) -> list[str]:
        """All columns of the feature table, in their order."""
        roles = [self.key, self.day, self.target, *self.features, *self.slices, self.group]
        return list(dict.fromkeys(name for name in roles if name))

    def is_category(self, feature: str) -> bool:
        """Whether a feature is declared as a category; every other one is a number."""
        return self.features[feature] == CATEGORY


@dataclass(frozen=True)
class Models:
    """What the project's `models.py` declares; without a space `training.starting` has one."""

    task: Task
    space: dict[str, dict[str, Any]]
    first: list[dict[str, Any]]


def tables(project: str) -> dict[str, type[pa.DataFrameModel]]:
    """The Pandera schema of each raw table, by the table's name."""
    part = _part(project, "tables")
    schemas: dict[str, type[pa.DataFrameModel]] = _constant(part, "TABLES")
    named = isinstance(schemas, dict) and schemas.items()
    if not named or not all(isinstance(n, str) and hasattr(s, "to_schema") for n, s in named):
        raise UserError(
            f"{part.__file__}: TABLES: found {schemas!r:.60}, expected a Pandera model for each "
            "table's name"
        )
    return schemas


def features(project: str) -> Features:
    """The project's feature function and the roles of its columns."""
    from mlops.contract.declarations import Roles, read

    part = _part(project, "features")
    roles = {name.lower(): value for name, value in read(part, Roles)}
    # A boolean target is kept as 0 and 1.
    roles["classes"] = tuple(str(int(c) if isinstance(c, bool) else c) for c in roles["classes"])
    return Features(_constant(part, "features"), **roles)


def forget(project: str) -> None:
    """Drop the project's modules, so that the next import uses the engine selected then."""
    for name in [name for name in sys.modules if name.split(".")[0] == project]:
        del sys.modules[name]


def models(project: str) -> Models:
    """The project's task and search space."""
    from mlops.contract.declarations import Search, read

    search = read(_part(project, "models"), Search)
    return Models(search.TASK, search.SPACE, search.FIRST)


@contextmanager
def own_code(project: str, name: str) -> Iterator[None]:
    """Turn an error that the project's code raises into a UserError: file, line and message."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        file = getattr(sys.modules.get(f"{project}.{name}"), "__file__", f"{project}/{name}.py")
        raise UserError(extensions.explain(error, file)) from error


def _part(project: str, name: str) -> ModuleType:
    package = importlib.util.find_spec(project)
    if package is None:
        # The packages on the path that look like a project.
        found = [path.parent for place in sys.path for path in Path(place).glob("*/tables.py")]
        known = [path.name for path in found if (path / "features.py").exists()]
        raise UserError(
            f"params.yaml: project: found {project!r}, expected a package under src/ "
            f"with tables.py, features.py and models.py{nearest(project, known)}"
        )
    if package.origin and not extensions.is_own(package.origin):
        raise UserError(
            f"params.yaml: project: found {project!r}, which is the name of an installed package "
            f"({package.origin}); expected another name"
        )
    with own_code(project, name):
        if importlib.util.find_spec(f"{project}.{name}") is None:
            raise UserError(f"{project}/{name}.py: not found; every project has one")
        return importlib.import_module(f"{project}.{name}")


def _constant(part: ModuleType, name: str) -> Any:
    if not hasattr(part, name):
        raise UserError(f"{part.__file__}: {name}: missing; expected a value")
    return getattr(part, name)
