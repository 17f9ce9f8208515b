"""Check raw tables against the project's Pandera schemas, and report everything that is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from mlops.base.errors import UserError, nearest

Schema = type[pa.DataFrameModel]

EXAMPLES = 3
# Pandera's names of two checks.
UNIQUE, COERCE = "multiple_fields_uniqueness", "coerce_dtype"


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
    """The tables, parsed and typed as their schemas say.

    Raises UserError with one table of all failures: columns, checks, rows and examples.
    """
    tables: dict[str, pd.DataFrame] = {}
    failures: list[Failure] = []
    for name, schema in schemas.items():
        if raw[name].empty:
            failures.append(Failure(name, "*", "at least one row", 0, "empty"))
            continue
        try:
            tables[name] = schema.to_schema().validate(raw[name], lazy=True)
        except SchemaErrors as error:
            failures += _failures(name, schema, raw[name], error.failure_cases)
        else:
            failures += _fractions(name, raw[name], tables[name])
    if failures := failures or list(_broken_references(tables, schemas)):
        raise UserError(explain(failures))
    return tables


def day_column(schema: Schema) -> str | None:
    """The column that holds a table's day, where it has one."""
    metadata = schema.to_config().metadata if hasattr(schema, "to_config") else None
    metadata = metadata or getattr(schema.Config, "metadata", None)
    return (metadata or {}).get("day")


def explain(failures: list[Failure]) -> str:
    """All failures as text: one line that sums up, then an aligned table."""
    rows = [Failure._fields, *(tuple(map(str, failure)) for failure in failures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # Nothing follows the examples.
    widths[-1] = 0
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        for row in rows
    ]
    names = ", ".join(sorted({failure.table for failure in failures}))
    checks = "1 check" if len(failures) == 1 else f"{len(failures)} checks"
    return "\n".join([f"{names}: {checks} failed; nothing was written", *lines])


def _examples(values: Any) -> str:
    return ", ".join(str(value) for value in pd.unique(values)[:EXAMPLES])


def _failures(
    name: str, schema: Schema, rows: pd.DataFrame, cases: pd.DataFrame
) -> Iterator[Failure]:
    """Pandera's cases, one failure for each column and check."""
    cases = cases.sort_values("index", kind="stable")
    checks = cases["check"].astype(str)
    twice = checks == UNIQUE
    if twice.any():
        yield _shared_key(name, cases[twice])
    # A value that could not be read as its type is reported once, not again for its wrong type.
    unread = set(cases.loc[checks.str.startswith(COERCE), "column"])
    again = cases["column"].isin(unread) & checks.str.startswith("dtype(")
    groups = cases[~twice & ~again].groupby(["column", "check"], dropna=False, sort=True)
    for (column, check), group in groups:
        yield _failure(name, schema, rows, str(column), str(check), group)


def _failure(
    name: str, schema: Schema, rows: pd.DataFrame, column: str, check: str, cases: pd.DataFrame
) -> Failure:
    first = str(cases["failure_case"].iloc[0])
    declared, given = set(schema.to_schema().columns), set(map(str, rows))
    if check == "column_in_dataframe":
        return Failure(name, first, "is there", 0, f"missing{nearest(first, given - declared)}")
    if check == "column_in_schema":
        hint = nearest(first, declared - given)
        return Failure(name, first, "is known", len(rows), f"not in the schema{hint}")
    at_fault = cases["index"].nunique() if cases["index"].notna().any() else len(cases)
    if check == "not_nullable":
        return Failure(name, column, "no missing values", at_fault, "missing")
    if check.startswith(COERCE):
        check = "is " + check[len(COERCE) :].strip("(')")
    return Failure(name, column, check, at_fault, _examples(cases["failure_case"]))


def _shared_key(name: str, cases: pd.DataFrame) -> Failure:
    """Rows that share a key: all of the key's columns at once."""
    columns = list(dict.fromkeys(cases["column"]))
    keys = cases.pivot(index="index", columns="column", values="failure_case")[columns]
    joined = keys.astype(str).agg(" ".join, axis=1)
    return Failure(name, ", ".join(columns), "unique key", len(keys), _examples(joined))


def _fractions(name: str, raw: pd.DataFrame, typed: pd.DataFrame) -> Iterator[Failure]:
    """Whole-number columns whose source values have a fraction, which coercion would cut off."""
    for column in map(str, typed.select_dtypes("integer")):
        if column in raw and pd.api.types.is_float_dtype(raw[column]):
            lost = raw[column][raw[column] % 1 > 0]
            if len(lost):
                yield Failure(name, column, "is a whole number", len(lost), _examples(lost))


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
