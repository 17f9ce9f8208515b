"""Arrow tables as a model's rows: which columns it reads, which rows it refuses, what it answers.

The same on one machine and on Spark's executors: nothing here needs pandas, and no number becomes
a Python object. Only rows that are refused do.
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

# What a CSV file says where it has no value, as for the tables that are trained on.
MISSING = ("", "NA")
NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|nan|-?inf", re.ASCII | re.IGNORECASE)
REASON = pa.field("reason", pa.string())
SHOWN = 40

Text = dict[str, str]


@dataclass(frozen=True)
class Scored:
    """A table's rows with what the model says of them; and those refused, with a reason each."""

    table: pa.Table
    refused: pa.Table
    # Where each refused row stood in the table, from 0.
    places: Array


def require(schema: pa.Schema, model: Model, where: str, *, text: bool = False) -> None:
    """Raise UserError unless the columns that the model reads are there, each once, and fit.

    `text`: the columns are text that may hold numbers, as a CSV's are.
    """
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise UserError(f"{where}: column {name!r}: found twice")
    for name in (*model.numbers, *model.words):
        if name not in schema.names:
            raise UserError(f"{where}: column {name!r}: missing{nearest(name, schema.names)}")
        kind = schema.field(name).type
        number = name in model.numbers
        if not (text or (_holds_numbers(kind) if number else _holds_words(kind))):
            expected = "numbers" if number else "strings"
            raise UserError(f"{where}: column {name!r}: found {kind}, expected {expected}")
    for field in answers(model.card):
        if field.name in schema.names:
            raise UserError(
                f"{where}: column {field.name!r}: found in the input, expected it to be free for "
                "what the model says"
            )


def answers(card: Card) -> list[pa.Field]:
    """The columns that scoring adds."""
    named = [pa.field(name, pa.float64()) for name in card.outputs]
    if card.task == "multiclass":
        return [*named, pa.field("class", pa.int64())]
    return [*named, pa.field("decision", pa.bool_())] if card.threshold is not None else named


def metadata(model: Model) -> Text:
    """What a file of predictions says of the model that made them."""
    return {"model": model.card.name, "bundle": model.digest}


def scored(table: pa.Table, model: Model, *, text: bool = False) -> Scored:
    """Score a table's rows; its columns stay, in their order, before the model's.

    `text` is as for `require`, which the table's schema must have passed.
    """
    rows, reasons = read(table, model, text=text)
    bad = np.array(sorted(reasons), dtype=np.int64)
    said = pa.array([reasons[row] for row in bad.tolist()], type=REASON.type)
    refused = table.take(pa.array(bad)).append_column(REASON, said)
    if reasons:
        good = np.ones(len(table), dtype=bool)
        good[bad] = False
        table = table.filter(pa.array(good))
        rows = Batch(rows.numbers[good], rows.words[good])
    for field, values in zip(answers(model.card), _said(model, rows), strict=True):
        table = table.append_column(field, pa.array(values))
    return Scored(table.replace_schema_metadata(metadata(model)), refused, bad)


def _holds_numbers(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_numbers(kind.value_type)
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(test(kind) for test in tests)


def _holds_words(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_words(kind.value_type)
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in (*tests, pa.types.is_null))


def _said(model: Model, rows: Batch) -> list[Array]:
    """The values of `answers`, a column each."""
    # Not every graph runs on no rows.
    nothing = [np.empty(0, dtype=np.float32)] * len(model.card.outputs)
    outputs = model.score(rows) if len(rows) else nothing
    # In double, as everywhere else: a threshold is no float32.
    values = [np.asarray(output, dtype=np.float64) for output in outputs]
    if model.card.task == "multiclass":
        return [*values, np.stack(outputs, axis=1).argmax(axis=1).astype(np.int64)]
    threshold = model.card.threshold
    return values if threshold is None else [*values, values[0] >= threshold]


def read(table: pa.Table, model: Model, *, text: bool = False) -> tuple[Batch, dict[int, str]]:
    """The table's rows as the model reads them, and why it refuses some, by their place."""
    reasons: dict[int, str] = {}
    columns = [_numbers(table.column(name), name, reasons) for name in model.numbers]
    matrix = _matrix(columns, len(table))
    for row, position in np.argwhere(np.isinf(matrix)).tolist():
        name = model.numbers[position]
        found = _shown(table.column(name)[row].as_py())
        reasons.setdefault(row, f"column {name!r}: found {found}, expected a float32")
    words = np.empty((len(table), len(model.words)), dtype=object)
    for position, name in enumerate(model.words):
        # A category that training saw is one, whatever it is called.
        missing = set(MISSING) - model.known[position] if text else set()
        words[:, position] = _words(table.column(name), name, missing, reasons)
    return Batch(matrix, words), reasons


def _matrix(columns: list[pa.Array], rows: int) -> Array:
    """Columns of float32 as (rows, columns), NaN where one is missing."""
    if not columns or not rows:
        return np.empty((rows, len(columns)), dtype=np.float32)
    names = [str(number) for number in range(len(columns))]
    batch = pa.RecordBatch.from_arrays(columns, names=names)
    matrix: Array = batch.to_tensor(null_to_nan=True, row_major=True).to_numpy()
    return matrix


def _numbers(column: pa.ChunkedArray, name: str, reasons: dict[int, str]) -> pa.Array:
    """One column as float32; a row whose text is no number gets a reason."""
    values = _plain(column)
    if _holds_words(values.type) and not pa.types.is_null(values.type):
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
    """Each distinct text for itself, so that those that are no number are found."""
    coded = text.dictionary_encode()
    known = coded.dictionary.to_pylist()
    wrong = {code for code, word in enumerate(known) if not NUMBER.fullmatch(word)}
    numbers = [float("nan") if code in wrong else float(word) for code, word in enumerate(known)]
    where = pc.is_in(coded.indices, pa.array(sorted(wrong), type=coded.indices.type))
    for row in np.flatnonzero(where.to_numpy(zero_copy_only=False)).tolist():
        found = _shown(text[row].as_py())
        reasons.setdefault(row, f"column {name!r}: found {found}, expected a number")
    return pa.array(numbers, type=pa.float64()).take(coded.indices)


def _words(column: pa.ChunkedArray, name: str, missing: set[str], reasons: dict[int, str]) -> Array:
    """One column as strings, "" where one is missing; only distinct ones become Python's."""
    values = _plain(column)
    if pa.types.is_null(values.type):
        return np.full(len(values), "", dtype=object)
    coded = values.dictionary_encode()
    spelt = [_spelt(word) for word in coded.dictionary.cast(pa.large_binary()).to_pylist()]
    wrong = [code for code, word in enumerate(spelt) if word is None]
    for row in np.flatnonzero(np.isin(coded.indices.fill_null(-1).to_numpy(), wrong)).tolist():
        reasons.setdefault(row, f"column {name!r}: found bytes, expected a string in UTF-8")
    known = np.array([*("" if w is None or w in missing else w for w in spelt), ""], dtype=object)
    words: Array = known[coded.indices.fill_null(len(spelt)).to_numpy()]
    return words


def _spelt(word: bytes) -> str | None:
    try:
        return word.decode()
    except UnicodeDecodeError:
        return None


def _present(text: pa.Array) -> pa.Array:
    """Text with null where it says that there is no value."""
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
