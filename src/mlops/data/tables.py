"""What a project's schemas declare of its raw tables: days, keys, references, what to ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from mlops.base.errors import UserError, nearest
from mlops.data.params import Data
from mlops.data.sources import Query

if TYPE_CHECKING:
    import pandera.pandas as pa

    Schema = type[pa.DataFrameModel]


def day_column(schema: Schema) -> str | None:
    """The column that holds a table's day, where it has one."""
    return (getattr(schema.Config, "metadata", None) or {}).get("day")


class Later(NamedTuple):
    """What of a table is known only after a row's day: `columns`, or all of it (None)."""

    day: str
    columns: tuple[str, ...] | None


def outcomes(schemas: Mapping[str, Schema]) -> dict[str, Later]:
    """The tables with days of which something is known only later."""
    found = {}
    for name, schema in schemas.items():
        columns = schema.to_schema().columns.items()
        own = tuple(str(n) for n, one in columns if (one.metadata or {}).get("outcome"))
        rows = (getattr(schema.Config, "metadata", None) or {}).get("outcome")
        day = day_column(schema)
        if day and (own or rows):
            found[name] = Later(day, None if rows else own)
        elif own or rows:
            raise UserError(f"tables.py: {name}: outcome: found no day, expected one in metadata")
    return found


def references(schema: Schema) -> dict[str, tuple[str, float]]:
    """For each column that refers to another table: `table.column`, and the share that must."""
    columns = schema.to_schema().columns.items()
    known = {name: column.metadata or {} for name, column in columns}
    return {
        name: (metadata["references"], float(metadata.get("matched", 1.0)))
        for name, metadata in known.items() if "references" in metadata
    }  # fmt: skip


def queries(schemas: Mapping[str, Schema], data: Data) -> dict[str, Query]:
    """What is asked of the source for each table. Raises UserError for a wrong name."""
    require_names(schemas)
    for name in data.versions:
        if name not in schemas:
            hint = nearest(name, schemas) or f"; tables.py has {', '.join(schemas)}"
            raise UserError(f"params.yaml: data.versions: found {name!r}{hint}")
    return {
        name: Query(
            name,
            _columns(schema),
            day_column(schema),
            until=data.until,
            version=data.versions.get(name),
        )
        for name, schema in schemas.items()
    }


def _columns(schema: Schema) -> tuple[str, ...] | None:
    """The schema's columns; None, which is all, where others may be read or must not be there."""
    spec = schema.to_schema()
    reads_others = spec.parsers or spec.checks or spec.strict is True
    if reads_others or any(column.regex for column in spec.columns.values()):
        return None
    return tuple(map(str, spec.columns))


def require_names(schemas: Mapping[str, Schema]) -> None:
    """Raise UserError where a key, a day or a reference names a column that no schema has."""
    known = {name: set(schema.to_schema().columns) for name, schema in schemas.items()}
    every = {f"{name}.{column}" for name, own in known.items() for column in own}
    for name, schema in schemas.items():
        named: tuple[tuple[str, Iterable[str | None], set[str]], ...] = (
            ("unique", schema.to_schema().unique or (), known[name]),
            ("day", [day_column(schema)], known[name]),
            ("references", [target for target, _ in references(schema).values()], every),
        )
        for role, columns, expected in named:
            if wrong := next((one for one in columns if one and one not in expected), None):
                raise UserError(
                    f"tables.py: {name}: {role}: found {wrong!r}, expected a column"
                    f"{nearest(wrong, expected)}"
                )
