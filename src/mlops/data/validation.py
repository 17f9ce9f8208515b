"""Check raw tables against the project's Pandera schemas, and report everything that is wrong.

A table is checked in batches of its rows. What is about all of them at once is asked afterwards:
keys and references of the engine (`staging`), checks that give one answer for all rows of the whole
table.
"""

from __future__ import annotations

import copy
import datetime as dt
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow
from pandera.errors import SchemaErrors

from mlops.base.errors import UserError, nearest, one_line
from mlops.data import columns
from mlops.data.failures import EXAMPLES, Failure, examples, ranges
from mlops.data.tables import day_column

if TYPE_CHECKING:
    from mlops.data.tables import Schema

# Pandera's names of checks.
MISSING, UNKNOWN = "column_in_dataframe", "column_in_schema"
# What is no column's name.
VALUE = re.compile(r"[+-]?\d*[.,]?\d+|\d{4}-\d\d-\d\d.*")
# Failures that each batch has alike, in the order in which they are listed.
OF_NAMES = {"is there": 0, "is known": 1}
# As floats, which pandas would make of them where values are missing, large ones collapse.
WHOLE = {
    arrow.type_for_alias(kind.lower()): pd.api.types.pandas_dtype(kind)
    for kind in (f"{sign}Int{size}" for sign in ("", "U") for size in (8, 16, 32, 64))
}


class Validator:
    """Check one table batch by batch, and add up what is wrong with it.

    Rows after `until` are left out before they are checked. `first` and `last` are of all rows,
    `months` counts the rows `kept`. `only` is the one column to look at. `whole` has the places of
    the checks that give one answer for all rows, which a batch cannot.
    """

    def __init__(
        self, name: str, schema: Schema, until: dt.date | None = None, only: str | None = None
    ) -> None:
        self.name, self.until, self.day = name, until, day_column(schema)
        self.rows, self.kept, self.months = 0, 0, Counter[str]()
        self.first, self.last = dt.date.max, dt.date.min
        self.key: tuple[str, ...] = tuple(schema.to_schema().unique or ())
        self.whole: set[tuple[str, int]] = set()
        self.types: dict[str, arrow.DataType | None] = {}
        self._failures: dict[tuple[str, str], Failure] = {}
        self._schema, self._spec = schema.to_schema(), _without_unique(schema.to_schema())
        if only:
            self._spec.columns = {only: self._spec.columns[only]}
            self._spec.checks, self._spec.strict = [], False
        for place, part in (*self._spec.columns.items(), ("", self._spec)):
            part.checks = [self._of_rows(str(place), *one) for one in enumerate(part.checks)]

    @property
    def failures(self) -> list[Failure]:
        """What is wrong with the batches so far."""
        found = list(self._failures.values())
        if not self.rows:
            found.append(Failure(self.name, "*", "at least one row", 0, ("empty",)))
        return sorted(found, key=lambda one: (OF_NAMES.get(one.check, 2), one.column))

    def batch(self, raw: arrow.Table) -> arrow.Table:
        """The rows in the types and with the columns of the schema, without what does not fit."""
        rows = raw.to_pandas(types_mapper=WHOLE.get, ignore_metadata=True)
        rows.index = pd.RangeIndex(self.rows, self.rows + len(rows))
        self.rows += len(rows)
        rows, failures = self._validated(self._spec, rows)
        for failure in failures:
            self.add(failure)
        self.kept += len(rows)
        if self.day in rows:
            days = pd.to_datetime(rows[self.day]).dt.tz_localize(None).dropna()
            months, counts = np.unique(days.to_numpy("datetime64[M]"), return_counts=True)
            self.months.update(dict(zip(map(str, months), counts.tolist(), strict=True)))
        return self._kept(rows)

    def add(self, failure: Failure) -> None:
        """Add the rows at fault to those of earlier batches, and new examples up to three."""
        key = failure.column, failure.check
        known = self._failures.get(key, failure._replace(rows=0))
        texts = tuple(dict.fromkeys((*known.examples, *failure.examples)))[:EXAMPLES]
        shown = known.examples if failure.check in OF_NAMES else texts
        self._failures[key] = known._replace(rows=known.rows + failure.rows, examples=shown)

    def summary(self) -> dict[str, Any]:
        """What was found, for `merge` of another process."""
        return {
            "counts": (self.rows, self.kept),
            "days": (str(self.first), str(self.last)),
            "months": self.months,
            "whole": sorted(self.whole),
            "failures": list(self._failures.values()),
            "columns": list(self.types),
        }

    def merge(self, part: dict[str, Any]) -> None:
        """Add what another process found of other rows."""
        self.rows, self.kept = self.rows + part["counts"][0], self.kept + part["counts"][1]
        first, last = map(dt.date.fromisoformat, part["days"])
        self.first, self.last = min(self.first, first), max(self.last, last)
        self.months.update(part["months"])
        self.whole.update((place, number) for place, number in part["whole"])
        self.types |= dict.fromkeys(part["columns"])
        for failure in part["failures"]:
            self.add(Failure(*failure))

    def check_whole(self, rows: arrow.Table) -> None:
        """Make the checks that were put off, on all rows."""
        spec = _without_unique(self._schema)
        for place, part in (*spec.columns.items(), ("", spec)):
            part.checks = [c for n, c in enumerate(part.checks) if (str(place), n) in self.whole]
        spec.parsers, spec.strict = [], False
        for failure in self._validated(spec, rows.to_pandas(types_mapper=WHOLE.get))[1]:
            self.add(failure)

    def _of_rows(self, place: str, number: int, check: Any) -> Any:
        """A check that passes, but is noted, where it gives one answer for all rows."""
        own, made = check._check_fn, copy.copy(check)
        name = getattr(own, "__name__", "")
        # Pandera's own are of single values, but this one.
        if check.element_wise or (pa.Check.is_builtin_check(name) and name != "unique_values_eq"):
            return check
        own = check.get_builtin_check_fn(name) if pa.Check.is_builtin_check(name) else own

        def call(*values: Any, **options: Any) -> Any:
            answer = own(*values, **options)
            if getattr(answer, "ndim", 0):
                return answer
            self.whole.add((place, number))
            return True

        made._check_fn = call
        return made

    def _validated(
        self, schema: pa.DataFrameSchema, raw: pd.DataFrame
    ) -> tuple[pd.DataFrame, list[Failure]]:
        """Rows in the types and with the columns of a schema, and what is wrong with them.

        The schema's own parsers see the columns that fit in their types, and the others as they
        are.
        """
        name, spec = self.name, copy.copy(schema)
        misfits: dict[str, list[Failure]] = {}

        def typed(rows: pd.DataFrame) -> pd.DataFrame:
            misfits.clear()
            rows = self._until(spec, rows)
            read = {}
            for column, own in columns.declared(spec, rows).items():
                if how := columns.kind(own):
                    read[column], wrong = columns.read(rows[column], how)
                    if wrong.any():
                        values = rows[column][wrong]
                        misfits[column] = list(_misfits(name, column, how, own, values))
            return rows.assign(**read)

        spec.parsers = [*spec.parsers, pa.Parser(typed)] if spec.parsers else []
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
            found = f"the first line looks like values: {', '.join(examples(list(raw)))}"
            return rows[[]], [Failure(name, "*", "names of columns", 0, (found,))]
        key = [n for n in known if n in (*self.key, self.day) and known[n].nullable]
        failures += [
            Failure(name, str(column), "no missing values in a key or day", count, ("missing",))
            for column, count in rows[key].isna().sum().items() if count
        ]  # fmt: skip
        # What does not fit its type is reported once, not again for its wrong type.
        failures = [failure for failure in failures if failure.column not in misfits]
        failures += [failure for found in misfits.values() for failure in found]
        if reason and not failures:
            failures = [Failure(name, "*", "its schema", len(raw), (reason,))]
        return rows[[column for column in known if column not in misfits]], failures

    def _until(self, spec: pa.DataFrameSchema, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows without those after the last day known, which may say anything."""
        own = columns.declared(spec, rows).get(self.day or "")
        how = columns.kind(own) if own else None
        if self.day is None or how is None:
            return rows
        read, wrong = columns.read(rows[self.day], how)
        if wrong.any():
            read, _ = columns.read(rows[self.day].where(~wrong, None), how)
        days = pd.to_datetime(read).dt.tz_localize(None)
        if days.isna().all():
            return rows
        self.first = min(self.first, days.min().date())
        self.last = max(self.last, days.max().date())
        if self.until is None or self.last <= self.until:
            return rows
        late = days >= pd.Timestamp(self.until) + pd.Timedelta(days=1)
        return rows[~late.to_numpy()]

    def _kept(self, rows: pd.DataFrame) -> arrow.Table:
        """The rows as they are kept; a column of which nothing says its type is left out."""
        arrays = {}
        for name, own in columns.declared(self._schema, rows).items():
            how = columns.kind(own)
            self.types[name] = how and how.kept
            try:
                array = arrow.array(rows[name], how and how.kept, from_pandas=True, safe=False)
            except (arrow.ArrowInvalid, arrow.ArrowTypeError, arrow.ArrowNotImplementedError) as e:
                if self._failures:
                    continue
                raise UserError(f"tables.py: {self.name}: {name}: {one_line(e)}") from None
            if arrow.types.is_dictionary(array.type):
                array = array.dictionary_decode()
            if not arrow.types.is_null(array.type):
                arrays[name] = array
        return arrow.table(arrays)


def _without_unique(schema: pa.DataFrameSchema) -> pa.DataFrameSchema:
    """A copy of the schema that leaves unique values to the engine."""
    spec = copy.copy(schema)
    spec.unique = None
    spec.columns = {name: copy.copy(column) for name, column in spec.columns.items()}
    for column in spec.columns.values():
        column.unique = False
    return spec


def _misfits(
    name: str, column: str, how: columns.Kind, own: pa.Column, wrong: pd.Series[Any]
) -> Iterator[Failure]:
    values = wrong.dropna()
    if len(values):
        yield Failure(name, column, how.expected, len(values), examples(values))
    if missing := len(wrong) - len(values):
        typed = f"has a type with missing values, not {how.dtype}"
        yield Failure(
            name, column, typed if own.nullable else "no missing values", missing, ("missing",)
        )


def _failures(
    name: str, spec: pa.DataFrameSchema, raw: pd.DataFrame, error: SchemaErrors
) -> Iterator[Failure]:
    """Pandera's cases, one failure for each column and check."""
    cases = error.failure_cases.sort_values("index", kind="stable")
    checks = cases["check"].astype(str)
    given, known = set(map(str, raw)), set(spec.columns)
    missing, unknown = (set(cases["failure_case"][checks == kind]) for kind in (MISSING, UNKNOWN))
    for column in ranges(column for column in spec.columns if column in missing):
        yield Failure(name, column, "is there", 0, (f"missing{nearest(column, given - known)}",))
    for column in ranges(column for column in error.data if column in unknown):
        values = examples(raw[column].dropna()) if column in raw else ()
        shown = f": {', '.join(values)}" if values else ""
        text = f"not in the schema{shown}{nearest(column, known - given)}"
        yield Failure(name, column or "''", "is known", len(raw), (text,))
    others = cases[~checks.isin([MISSING, UNKNOWN])]
    for (column, check), group in others.groupby(["column", "check"], dropna=False, sort=True):
        at_fault = group["index"].nunique() if group["index"].notna().any() else len(group)
        if check == "not_nullable":
            yield Failure(name, str(column), "no missing values", at_fault, ("missing",))
        elif not (
            str(check).startswith("dtype(") and (others["column"] == column).sum() > len(group)
        ):
            yield Failure(name, str(column), str(check), at_fault, examples(group["failure_case"]))
