"""The raw tables that ingest left, as the engine's DataFrames."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlops.contract import project
from mlops.data import engine, sources
from mlops.data.ingest import Ingested
from mlops.data.params import IN_PLACE, Params


class Tables(UserDict[str, Any]):
    """The raw tables by their names; it remembers those that were not asked for."""

    def __init__(self, tables: dict[str, Any]) -> None:
        super().__init__(tables)
        self.unused = sorted(tables)

    def __getitem__(self, name: str) -> Any:
        self.unused = [other for other in self.unused if other != name]
        return super().__getitem__(name)


def raw_tables(session: Any, place: Path, ingested: Ingested) -> Tables:
    """The raw tables as the engine's DataFrames: those in a folder, or where they lie."""
    if ingested.in_place:
        from mlops.data import in_place

        frame, location = sources.frame(IN_PLACE), ingested.location
        asked = {query.name: query for query in ingested.in_place}
        return Tables({n: in_place.rows(frame, session, location, q) for n, q in asked.items()})
    # A folder for each table.
    folders = sorted(path for path in place.glob("*") if path.is_dir())
    return Tables({folder.name: engine.read(session, folder) for folder in folders})


@contextmanager
def opened(
    params: Params, place: Path, ingested: Ingested
) -> Iterator[tuple[Any, project.Features, Tables]]:
    """The engine's session, the project's features and the raw tables, to run the features on.

    An error of the project's code in the context is one line with its file.
    """
    session = engine.start(params.engine)
    project.forget(params.project)
    with engine.engine_as_pyspark(params.engine):
        spec = project.features(params.project)
        raw = raw_tables(session, place, ingested)
        with project.own_code(params.project, "features"):
            yield session, spec, raw
