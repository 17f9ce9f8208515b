"""Check raw tables against the project's Pandera schemas, and report everything that is wrong."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from mlops.base.errors import UserError, nearest, one_line
from mlops.data import columns

Schema = type[pa.DataFrameModel]

EXAMPLES = 3
# Pandera's names of checks.
UNIQUE, MISSING, UNKNOWN = "multiple_fields_uniqueness", "column_in_dataframe", "column_in_schema"
# What is no column's name.
VALUE = re.compile(r"[+-]?\d*[.,]?\d+|\d{4}-\d\d-\d\d.*")


class Failure(NamedTuple):
    """One check that a table did not pass: `rows` is the number of rows at fault."""

    table: str
    column: str
    check: str
    rows: int
    examples: str


def validated(
    raw: Mapping[str, pd.DataFrame], schemas: Mapping[str, Schema]
) -> dict[str, pd.DataFrame]:
    """The tables, parsed and typed as their schemas say; UserError lists all failures."""
    _require_names(schemas)
    tables: dict[str, pd.DataFrame] = {}
    failures: list[Failure] = []
    for name, schema in schemas.items():
        if raw[name].empty:
            failures.append(Failure(name, "*", "at least one row", 0, "empty"))
            continue
        tables[name], found = _validated(name, schema, raw[name])
        failures += found
    if failures := failures or list(_broken_references(tables, schemas)):
        raise UserError(explain(failures))
    return tables


def _require_names(schemas: Mapping[str, Schema]) -> None:
    """Raise UserError where a key, a day or a reference names a column that no schema has."""
    known = {name: set(schema.to_schema().columns) for name, schema in schemas.items()}
    every = {f"{name}.{column}" for name, own in known.items() for column in own}
    for name, schema in schemas.items():
        spec = schema.to_schema()
        references = [(one.metadata or {}).get("references") for one in spec.columns.values()]
        for role, named, expected in (
            ("unique", spec.unique or (), known[name]),
            ("day", [day_column(schema)], known[name]),
            ("references", references, every),
        ):
            if wrong := next((one for one in named if one and one not in expected), None):
                hint = nearest(wrong, expected)
                raise UserError(
                    f"tables.py: {name}: {role}: found {wrong!r}, expected a column{hint}"
                )


def left_out(raw: Mapping[str, pd.DataFrame], tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """The columns of the source that are in no schema, as `table.column`."""
    return [
        f"{name}.{column}"
        for name in tables
        for column in ranges(str(column) for column in raw[name] if column not in tables[name])
    ]


def ranges(names: Iterable[str]) -> list[str]:
    """Names, of which three or more with consecutive numbers are one: `x1 to x9`."""

    def run_of(entry: tuple[int, str]) -> tuple[str, int | None]:
        match = re.fullmatch(r"(.*?)(\d+)", entry[1])
        return (match[1], int(match[2]) - entry[0]) if match else (entry[1], None)

    grouped = groupby(enumerate(map(str, names)), run_of)
    runs = [[name for _, name in run] for _, run in grouped]
    texts = ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else run for run in runs)
    return [text for part in texts for text in part]


def _validated(name: str, schema: Schema, raw: pd.DataFrame) -> tuple[pd.DataFrame, list[Failure]]:
    """One table in the types and with the columns of its schema, and what is wrong with it.

    The schema's own parsers see the columns that fit in their types, and the others as they are.
    """
    spec = copy.copy(schema.to_schema())
    misfits: dict[str, list[Failure]] = {}

    def typed(rows: pd.DataFrame) -> pd.DataFrame:
        misfits.clear()
        read = {}
        for column, own in columns.declared(spec, rows).items():
            if how := columns.kind(own):
                read[column], wrong = columns.read(rows[column], how)
                if wrong.any():
                    misfits[column] = list(_misfits(name, column, how, own, rows[column][wrong]))
        return rows.assign(**read)

    spec.parsers = [*spec.parsers, pa.Parser(typed)]
    failures: list[Failure] = []
    reason = ""
    nameless = any(VALUE.fullmatch(str(column)) for column in raw)
    try:
        rows = spec.validate(typed(raw), lazy=True)
    except SchemaErrors as error:
        rows = error.data
        failures = list(_failures(name, spec, raw, error))
        reason = one_line(error)
    except Exception:
        # A parser of the schema's own that met a column which does not fit.
        if not (misfits or nameless):
            raise
        rows = raw
    known = columns.declared(spec, rows)
    if nameless and not known:
        found = f"the first line looks like values: {_examples(list(raw))}"
        return rows, [Failure(name, "*", "names of columns", 0, found)]
    key = [n for n in {*(spec.unique or ()), day_column(schema)} & {*known} if known[n].nullable]
    failures += [
        Failure(name, str(column), "no missing values in a key or day", count, "missing")
        for column, count in rows[key].isna().sum().items() if count
    ]  # fmt: skip
    # What does not fit its type is reported once, not again for its wrong type.
    failures = [failure for failure in failures if failure.column not in misfits]
    failures += [failure for found in misfits.values() for failure in found]
    if reason and not failures:
        failures = [Failure(name, "*", "its schema", len(raw), reason)]
    order = {"is there": 0, "is known": 1}
    failures.sort(key=lambda failure: (order.get(failure.check, 2), failure.column))
    return rows[list(known)], failures


def _misfits(
    name: str, column: str, how: columns.Kind, own: pa.Column, wrong: pd.Series[Any]
) -> Iterator[Failure]:
    values = wrong.dropna()
    if len(values):
        yield Failure(name, column, how.expected, len(values), _examples(values))
    if missing := len(wrong) - len(values):
        typed = f"has a type with missing values, not {how.dtype}"
        yield Failure(
            name, column, typed if own.nullable else "no missing values", missing, "missing"
        )


def day_column(schema: Schema) -> str | None:
    """The column that holds a table's day, where it has one."""
    return (getattr(schema.Config, "metadata", None) or {}).get("day")


def explain(failures: list[Failure]) -> str:
    """All failures as text: one line that sums up, then an aligned table."""
    rows = [Failure._fields, *(tuple(map(str, failure)) for failure in failures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # Nothing follows the examples.
    widths[-1] = 0
    lines = ["  ".join(map(str.ljust, row, widths)) for row in rows]
    names = ", ".join(sorted({failure.table for failure in failures}))
    checks = "1 check" if len(failures) == 1 else f"{len(failures)} checks"
    return "\n".join([f"{names}: {checks} failed; nothing was written", *lines])


def _examples(values: Any) -> str:
    """The first values, in quotes where blanks would not be seen."""
    texts = pd.Series(values).map(str).unique()[:EXAMPLES]
    return ", ".join(text if text and text == text.strip() else repr(text) for text in texts)


def _failures(
    name: str, spec: pa.DataFrameSchema, raw: pd.DataFrame, error: SchemaErrors
) -> Iterator[Failure]:
    """Pandera's cases, one failure for each column and check."""
    cases = error.failure_cases.sort_values("index", kind="stable")
    checks = cases["check"].astype(str)
    given, known = set(map(str, raw)), set(spec.columns)
    missing, unknown = (set(cases["failure_case"][checks == kind]) for kind in (MISSING, UNKNOWN))
    for column in ranges(column for column in spec.columns if column in missing):
        yield Failure(name, column, "is there", 0, f"missing{nearest(column, given - known)}")
    for column in ranges(column for column in error.data if column in unknown):
        examples = f": {_examples(raw[column].dropna())}" if column in raw else ""
        text = f"not in the schema{examples}{nearest(column, known - given)}"
        yield Failure(name, column or "''", "is known", len(raw), text)
    twice = checks == UNIQUE
    if twice.any():
        yield from _shared_key(name, error.data, cases[twice])
    others = cases[~twice & ~checks.isin([MISSING, UNKNOWN])]
    for (column, check), group in others.groupby(["column", "check"], dropna=False, sort=True):
        at_fault = group["index"].nunique() if group["index"].notna().any() else len(group)
        if check == "not_nullable":
            yield Failure(name, str(column), "no missing values", at_fault, "missing")
        elif not (
            str(check).startswith("dtype(") and (others["column"] == column).sum() > len(group)
        ):
            yield Failure(name, str(column), str(check), at_fault, _examples(group["failure_case"]))


def _shared_key(name: str, rows: pd.DataFrame, cases: pd.DataFrame) -> Iterator[Failure]:
    """Rows that share a key: all of the key's columns at once."""
    key = list(dict.fromkeys(cases["column"]))
    keys = rows.loc[cases["index"].unique(), key].dropna()
    if len(keys):
        joined = keys.astype(str).agg(" ".join, axis=1)
        yield Failure(name, ", ".join(key), "unique key", len(keys), _examples(joined))


def _broken_references(
    tables: Mapping[str, pd.DataFrame], schemas: Mapping[str, Schema]
) -> Iterator[Failure]:
    """Columns whose values another table has too seldom."""
    for name, schema in schemas.items():
        for column, field in schema.to_schema().columns.items():
            metadata = field.metadata or {}
            if target := metadata.get("references"):
                other, key = target.split(".")
                needed = float(metadata.get("matched", 1.0))
                values = tables[name][column].dropna()
                lost = values[~values.isin(tables[other][key])]
                if len(lost) > (1 - needed) * len(values):
                    check = f"{needed:.0%} are in {target}"
                    yield Failure(name, column, check, len(lost), _examples(lost))
