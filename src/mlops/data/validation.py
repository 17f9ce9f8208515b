"""Check raw tables against the project's Pandera schemas, and report everything that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from mlops.base.errors import UserError, nearest

Schema = type[pa.DataFrameModel]

EXAMPLES = 3
# Pandera's names of two checks.
UNIQUE, COERCE = "multiple_fields_uniqueness", "coerce_dtype"


@dataclass(frozen=True)
class Failure:
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
    if not failures:
        failures = _broken_references(tables, schemas)
    if failures:
        raise UserError(explain(failures))
    return tables


def day_column(schema: Schema) -> str | None:
    """The column that holds a table's day, where it has one."""
    metadata = schema.to_config().metadata if hasattr(schema, "to_config") else None
    metadata = metadata or getattr(schema.Config, "metadata", None)
    return (metadata or {}).get("day")


def explain(failures: list[Failure]) -> str:
    """All failures as text: one line that sums up, then an aligned table."""
    head = ("table", "column", "check", "rows", "examples")
    rows = [(f.table, f.column, f.check, str(f.rows), f.examples) for f in failures]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(4)]
    lines = [
        "  ".join([*(row[i].ljust(width) for i, width in enumerate(widths)), row[4]])
        for row in [head, *rows]
    ]
    names = ", ".join(sorted({failure.table for failure in failures}))
    checks = "1 check" if len(failures) == 1 else f"{len(failures)} checks"
    return "\n".join([f"{names}: {checks} failed; nothing was written", *lines])


def _failures(name: str, schema: Schema, rows: pd.DataFrame, cases: pd.DataFrame) -> list[Failure]:
    """Pandera's cases, one failure for each column and check."""
    cases = cases.sort_values("index", kind="stable")
    twice = cases["check"] == UNIQUE
    found = [_shared_key(name, cases[twice])] if twice.any() else []
    # A value that could not be read as its type is reported once, not again for its wrong type.
    unread = set(cases.loc[cases["check"].astype(str).str.startswith(COERCE), "column"])
    again = cases["column"].isin(unread) & cases["check"].astype(str).str.startswith("dtype(")
    groups = cases[~twice & ~again].groupby(["column", "check"], dropna=False, sort=True)
    for (column, check), group in groups:
        found.append(_failure(name, schema, rows, str(column), str(check), group))
    return found


def _failure(
    name: str, schema: Schema, rows: pd.DataFrame, column: str, check: str, cases: pd.DataFrame
) -> Failure:
    examples = [str(case) for case in pd.unique(cases["failure_case"])[:EXAMPLES]]
    if check == "column_in_dataframe":
        missing = examples[0]
        hint = nearest(missing, set(map(str, rows)) - set(schema.to_schema().columns))
        return Failure(name, missing, "is there", 0, f"missing{hint}")
    if check == "column_in_schema":
        hint = nearest(examples[0], set(schema.to_schema().columns) - set(rows))
        return Failure(name, examples[0], "is known", len(rows), f"not in the schema{hint}")
    at_fault = cases["index"].nunique() if cases["index"].notna().any() else len(cases)
    if check == "not_nullable":
        return Failure(name, column, "no missing values", at_fault, "missing")
    if check.startswith(COERCE):
        check = "is " + check[len(COERCE) :].strip("(')")
    return Failure(name, column, check, at_fault, ", ".join(examples))


def _shared_key(name: str, cases: pd.DataFrame) -> Failure:
    """Rows that share a key: all of the key's columns at once."""
    columns = list(dict.fromkeys(cases["column"]))
    keys = cases.pivot(index="index", columns="column", values="failure_case")[columns]
    examples = [" ".join(map(str, key)) for key in keys.drop_duplicates().head(EXAMPLES).to_numpy()]
    return Failure(name, ", ".join(columns), "unique key", len(keys), ", ".join(examples))


def _fractions(name: str, raw: pd.DataFrame, typed: pd.DataFrame) -> list[Failure]:
    """Whole-number columns whose source values have a fraction, which coercion would cut off."""
    failures = []
    for column in [column for column in typed.select_dtypes("integer") if column in raw]:
        if pd.api.types.is_float_dtype(raw[column]):
            lost = raw[column][raw[column] % 1 > 0]
            examples = ", ".join(str(value) for value in pd.unique(lost)[:EXAMPLES])
            if len(lost):
                failures.append(
                    Failure(name, str(column), "is a whole number", len(lost), examples)
                )
    return failures


def _broken_references(
    tables: Mapping[str, pd.DataFrame], schemas: Mapping[str, Schema]
) -> list[Failure]:
    failures = []
    for name, schema in schemas.items():
        for column, field in schema.to_schema().columns.items():
            target = (field.metadata or {}).get("references")
            if target:
                needed = float((field.metadata or {}).get("matched", 1.0))
                failures += _unmatched(tables, name, column, target, needed)
    return failures


def _unmatched(
    tables: Mapping[str, pd.DataFrame], name: str, column: str, target: str, needed: float
) -> list[Failure]:
    other, key = target.split(".")
    values = tables[name][column].dropna()
    lost = values[~values.isin(tables[other][key])]
    if len(lost) <= (1 - needed) * len(values):
        return []
    examples = ", ".join(str(value) for value in pd.unique(lost)[:EXAMPLES])
    check = f"{needed:.0%} are in {target}"
    return [Failure(name, column, check, len(lost), examples)]
