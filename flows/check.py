"""Check `prefect.yaml`: each deployment's flow can be imported and takes its parameters."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from pydantic import BaseModel

from mlops.base import documents
from mlops.base.errors import UserError, nearest, one_line

FILE = Path("prefect.yaml")
KINDS: dict[str, type[BaseModel]] = {
    "cron": CronSchedule,
    "interval": IntervalSchedule,
    "rrule": RRuleSchedule,
}


def run() -> None:
    """Print a line for each deployment. Raises UserError for the first that could not run."""
    for deployment in deployments():
        _check(deployment)
        print(f"{FILE}: {deployment['name']}: valid")


def deployments() -> list[Any]:
    """The deployments in `prefect.yaml`, where anchors may stand. Raises UserError without any."""
    content = documents.read(FILE, "the deployments of the flows", anchors=True)
    found: list[Any] = content.get("deployments") or []
    if not found:
        raise UserError(f"{FILE}: deployments: found none, expected at least one")
    return found


def _check(deployment: Any) -> None:
    if not isinstance(deployment, dict) or "name" not in deployment:
        found = documents.shown(deployment)
        raise UserError(f"{FILE}: deployments: found {found}, expected each with a name")
    place = f"{FILE}: {deployment['name']}"
    flow = _flow(place, str(deployment.get("entrypoint", "")))
    given = deployment.get("parameters") or {}
    for name in given:
        if name not in flow.parameters.properties:
            hint = nearest(name, flow.parameters.properties)
            raise UserError(f"{place}: parameters: {name}: {flow.name} does not take it{hint}")
    for schedule in deployment.get("schedules") or []:
        _check_schedule(place, schedule)


def _flow(place: str, entrypoint: str) -> Any:
    path, _, name = entrypoint.partition(":")
    if not Path(path).is_file():
        raise UserError(f"{place}: entrypoint: found {entrypoint!r}, expected FILE.py:FLOW")
    _check_names(Path(path).parent)
    module = importlib.import_module(".".join(Path(path).with_suffix("").parts))
    if not hasattr(module, name):
        raise UserError(f"{place}: entrypoint: {path} has no {name!r}{nearest(name, vars(module))}")
    return getattr(module, name)


def _check_names(folder: Path) -> None:
    """Raise UserError for a file that a run would import in place of a package.

    Prefect puts the folder of a flow's file before all others on the path of imports.
    """
    own = (folder.resolve(), Path.cwd())
    elsewhere = [path for path in sys.path if Path(path).resolve() not in own]
    for file in sorted(folder.glob("[!_]*.py")):
        found = PathFinder.find_spec(file.stem, elsewhere)
        if found is not None or file.stem in sys.stdlib_module_names:
            raise UserError(f"{file}: found the name of a package, which flows could not import")


def _check_schedule(place: str, schedule: dict[str, Any]) -> None:
    kind = next((kind for kind in KINDS if kind in schedule), None)
    if kind is None:
        raise UserError(f"{place}: schedules: found {schedule}, expected one of {', '.join(KINDS)}")
    timing = {key: schedule[key] for key in (kind, "timezone") if key in schedule}
    try:
        KINDS[kind].model_validate(timing)
    except ValueError as error:
        found = f"{schedule[kind]!r}: {one_line(error)}"
        raise UserError(f"{place}: schedules: {kind}: {found}") from None
