"""Score an Arrow table: the columns that the model reads, the rows that it refuses, its outputs.

The same on one machine and on Spark's executors, which need no pandas. Only values of refused rows
become Python objects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.base.errors import UserError, nearest
from mlops.contract.bundle import Array, Card
from mlops.serving.model import Batch, Model

# A missing value in a CSV file, as for the tables that are trained on.
MISSING = ("", "NA")
NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|nan|-?inf", re.ASCII | re.IGNORECASE)
REASON = pa.field("reason", pa.string())
SHOWN = 40

Text = dict[str, str]


@dataclass(frozen=True)
class Scored:
    """A table's rows with their outputs, and the refused rows with a reason each."""

    table: pa.Table
    refused: pa.Table
    # The refused rows' positions in the table, from 0.
    positions: Array


def require(schema: pa.Schema, model: Model, where: str, *, text: bool = False) -> None:
    """Raise UserError unless the columns that the model reads are there, each once, and fit.

    `text`: all columns are strings, as a CSV's are; they may hold numbers.
    """
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise UserError(f"{where}: column {name!r}: found twice")
    for name in (*model.numeric, *model.categorical):
        if name not in schema.names:
            raise UserError(f"{where}: column {name!r}: missing{nearest(name, schema.names)}")
        kind = schema.field(name).type
        numeric = name in model.numeric
        if not (text or (_is_numeric(kind) if numeric else _is_string(kind))):
            expected = "numbers" if numeric else "strings"
            raise UserError(f"{where}: column {name!r}: found {kind}, expected {expected}")
    for field in output_fields(model.card):
        if field.name in schema.names:
            raise UserError(
                f"{where}: column {field.name!r}: found in the input, expected the name to be free "
                "for the model's output"
            )


def output_fields(card: Card) -> list[pa.Field]:
    """The columns that scoring adds."""
    scores = [pa.field(name, pa.float64()) for name in card.outputs]
    if card.task == "multiclass":
        return [*scores, pa.field("class", pa.int64())]
    return [*scores, pa.field("decision", pa.bool_())] if card.threshold is not None else scores


def metadata(model: Model) -> Text:
    """The model's name and digest, for the metadata of a file of predictions."""
    return {"model": model.card.name, "bundle": model.digest}


def scored(table: pa.Table, model: Model, *, text: bool = False) -> Scored:
    """Score a table's rows; its columns stay, in their order, before the model's.

    `text` is as for `require`, which the table's schema must have passed.
    """
    rows, reasons = read(table, model, text=text)
    bad = np.array(sorted(reasons), dtype=np.int64)
    texts = pa.array([reasons[row] for row in bad.tolist()], type=REASON.type)
    refused = table.take(pa.array(bad)).append_column(REASON, texts)
    if reasons:
        good = np.ones(len(table), dtype=bool)
        good[bad] = False
        table = table.filter(pa.array(good))
        rows = Batch(rows.numeric[good], rows.categorical[good])
    for field, values in zip(output_fields(model.card), _outputs(model, rows), strict=True):
        table = table.append_column(field, pa.array(values))
    return Scored(table.replace_schema_metadata(metadata(model)), refused, bad)


def _is_numeric(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_numeric(kind.value_type)
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(test(kind) for test in tests)


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_string(kind.value_type)
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in (*tests, pa.types.is_null))


def _outputs(model: Model, rows: Batch) -> list[Array]:
    """The values of `output_fields`, a column each."""
    # Not every graph runs on no rows.
    empty = [np.empty(0, dtype=np.float32)] * len(model.card.outputs)
    outputs = model.score(rows) if len(rows) else empty
    # In double, as everywhere else: a threshold is no float32.
    values = [np.asarray(output, dtype=np.float64) for output in outputs]
    if model.card.task == "multiclass":
        return [*values, np.stack(outputs, axis=1).argmax(axis=1).astype(np.int64)]
    threshold = model.card.threshold
    return values if threshold is None else [*values, values[0] >= threshold]


def read(table: pa.Table, model: Model, *, text: bool = False) -> tuple[Batch, dict[int, str]]:
    """The table's rows as a batch, and for each refused row's position the reason."""
    reasons: dict[int, str] = {}
    columns = [_numeric(table.column(name), name, reasons) for name in model.numeric]
    matrix = _matrix(columns, len(table))
    for row, position in np.argwhere(np.isinf(matrix)).tolist():
        name = model.numeric[position]
        found = _shown(table.column(name)[row].as_py())
        reasons.setdefault(row, f"column {name!r}: found {found}, expected a float32")
    strings = np.empty((len(table), len(model.categorical)), dtype=object)
    for position, name in enumerate(model.categorical):
        # A category that training saw is not a missing value, whatever its name.
        missing = set(MISSING) - model.categories[position] if text else set()
        strings[:, position] = _strings(table.column(name), name, missing, reasons)
    return Batch(matrix, strings), reasons


def _matrix(columns: list[pa.Array], rows: int) -> Array:
    """Columns of float32 as (rows, columns), NaN where one is missing."""
    if not columns or not rows:
        return np.empty((rows, len(columns)), dtype=np.float32)
    names = [str(number) for number in range(len(columns))]
    batch = pa.RecordBatch.from_arrays(columns, names=names)
    matrix: Array = batch.to_tensor(null_to_nan=True, row_major=True).to_numpy()
    return matrix


def _numeric(column: pa.ChunkedArray, name: str, reasons: dict[int, str]) -> pa.Array:
    """One column as float32; a row whose text is no number gets a reason."""
    values = _plain(column)
    if _is_string(values.type) and not pa.types.is_null(values.type):
        return _parsed(values, name, reasons).cast(pa.float32(), safe=False)
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64(), safe=False)
    return values.cast(pa.float32(), safe=False)


def _parsed(text: pa.Array, name: str, reasons: dict[int, str]) -> pa.Array:
    values = _present(text)
    try:
        return values.cast(pa.float64())
    except pa.ArrowInvalid:
        return _parsed_one_by_one(values, name, reasons)


def _parsed_one_by_one(text: pa.Array, name: str, reasons: dict[int, str]) -> pa.Array:
    """Each distinct text by itself, so that those that are no number are found."""
    coded = text.dictionary_encode()
    texts = coded.dictionary.to_pylist()
    wrong = {code for code, value in enumerate(texts) if not NUMBER.fullmatch(value)}
    numbers = [float("nan") if code in wrong else float(value) for code, value in enumerate(texts)]
    where = pc.is_in(coded.indices, pa.array(sorted(wrong), type=coded.indices.type))
    for row in np.flatnonzero(where.to_numpy(zero_copy_only=False)).tolist():
        found = _shown(text[row].as_py())
        reasons.setdefault(row, f"column {name!r}: found {found}, expected a number")
    return pa.array(numbers, type=pa.float64()).take(coded.indices)


def _strings(
    column: pa.ChunkedArray, name: str, missing: set[str], reasons: dict[int, str]
) -> Array:
    """One column as strings, "" where one is missing; only distinct ones become Python's."""
    values = _plain(column)
    if pa.types.is_null(values.type):
        return np.full(len(values), "", dtype=object)
    coded = values.dictionary_encode()
    decoded = [_decoded(value) for value in coded.dictionary.cast(pa.large_binary()).to_pylist()]
    wrong = [code for code, value in enumerate(decoded) if value is None]
    for row in np.flatnonzero(np.isin(coded.indices.fill_null(-1).to_numpy(), wrong)).tolist():
        reasons.setdefault(row, f"column {name!r}: found bytes, expected a string in UTF-8")
    texts = ("" if value is None or value in missing else value for value in decoded)
    distinct = np.array([*texts, ""], dtype=object)
    strings: Array = distinct[coded.indices.fill_null(len(decoded)).to_numpy()]
    return strings


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _present(text: pa.Array) -> pa.Array:
    """Text with null where a value is missing."""
    missing = pc.is_in(text, pa.array(MISSING, type=text.type))
    return pc.if_else(missing, pa.scalar(None, text.type), text)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0) if values.num_chunks else pa.array([], values.type)
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
