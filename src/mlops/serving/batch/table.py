"""Score an Arrow table: the columns that the model reads, the rows that it refuses, its outputs.

The same on one machine and on Spark's executors, which need no pandas. Only values of refused rows
become Python objects.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.base.errors import UserError, nearest
from mlops.contract.bundle import Array, Card
from mlops.serving.cells import MISSING, NUMBER
from mlops.serving.model import Batch, Model

SHOWN = 40
REFUSED = "refused"
STRINGS = ("string", "large_string", "string_view")
# Numbers may be written as text, as in CSV.
KINDS = {"numbers": ("integer", "floating", "decimal", "boolean", *STRINGS), "strings": STRINGS}

Reasons = dict[int, str]


def require(schema: pa.Schema, model: Model, where: str) -> None:
    """Raise UserError unless the columns that the model reads are there, each once, and fit."""
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise UserError(f"{where}: column {name!r}: found twice")
    for name in (*model.numeric, *model.categorical):
        if name not in schema.names:
            if name in model.card.optional:
                continue
            raise UserError(f"{where}: column {name!r}: missing{nearest(name, schema.names)}")
        kind = schema.field(name).type
        expected = "numbers" if name in model.numeric else "strings"
        if not (pa.types.is_null(kind) or _is(kind, *KINDS[expected])):
            raise UserError(f"{where}: column {name!r}: found {kind}, expected {expected}")
    for name in (*output_names(model.card), REFUSED):
        if name in schema.names:
            raise UserError(
                f"{where}: column {name!r}: found in the input, expected the name to be free "
                "for the model's output"
            )


def output_names(card: Card) -> list[str]:
    """The columns that scoring adds."""
    if card.task == "multiclass":
        return [*card.outputs, "class"]
    return [*card.outputs, "decision"] if card.threshold is not None else list(card.outputs)


def score(table: pa.Table, model: Model) -> tuple[pa.Table, int]:
    """The table with the columns of the outputs and `refused`, and how many rows are refused.

    `refused` is why a row has no outputs. `require` must have passed the table's schema.
    """
    rows, reasons = read(table, model)
    refused = np.zeros(len(table), dtype=bool)
    refused[list(reasons)] = True
    outputs = _outputs(model, Batch(rows.numeric[~refused], rows.categorical[~refused]))
    # The place of each row among those that are scored.
    places = pa.array(np.cumsum(~refused) - 1, mask=refused)
    for name, values in zip(output_names(model.card), outputs, strict=True):
        table = table.append_column(name, pa.array(values).take(places))
    texts = pa.array([reasons.get(row) for row in range(len(table))], type=pa.string())
    made_by = {"model": model.card.name, "bundle": model.digest}
    return table.append_column(REFUSED, texts).replace_schema_metadata(made_by), len(reasons)


def _is(kind: pa.DataType, *names: str) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(getattr(pa.types, f"is_{name}")(kind) for name in names)


def _outputs(model: Model, rows: Batch) -> list[Array]:
    """The values of `output_names`, a column each."""
    # Not every graph runs on no rows.
    empty = [np.empty(0, dtype=np.float32)] * len(model.card.outputs)
    outputs = model.score(rows) if len(rows) else empty
    # In double, as everywhere else: a threshold is no float32.
    values = [np.asarray(output, dtype=np.float64) for output in outputs]
    if model.card.task == "multiclass":
        return [*values, np.stack(outputs, axis=1).argmax(axis=1).astype(np.int64)]
    threshold = model.card.threshold
    return values if threshold is None else [*values, values[0] >= threshold]


def read(table: pa.Table, model: Model) -> tuple[Batch, Reasons]:
    """The table's rows as a batch, and for each refused row's position the reason."""
    reasons: Reasons = {}
    numeric = np.empty((len(table), len(model.numeric)), dtype=np.float32)
    for position, name in enumerate(model.numeric):
        values = _present(_plain(table, name))
        numbers = _numbers(values)
        with np.errstate(over="ignore"):
            numeric[:, position] = numbers.to_numpy(zero_copy_only=False)
        wrong = pc.and_(numbers.is_null(), values.is_valid())
        _refuse(reasons, np.asarray(wrong), name, "a number", values)
        _refuse(reasons, np.isinf(numeric[:, position]), name, "a float32", values)
    strings = np.empty((len(table), len(model.categorical)), dtype=object)
    for position, name in enumerate(model.categorical):
        strings[:, position], wrong = _strings(_plain(table, name))
        _refuse(reasons, wrong, name, "a string in UTF-8")
    return Batch(numeric, strings), reasons


def _plain(table: pa.Table, name: str) -> pa.Array:
    """A column's values; none where an optional column was left out."""
    if name not in table.column_names:
        return pa.nulls(len(table))
    values = table.column(name).combine_chunks()
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _present(values: pa.Array) -> pa.Array:
    """Text without blanks around it, null where a value is missing, or numbers as they are."""
    if not _is(values.type, *STRINGS):
        return values
    values = pc.utf8_trim(values, " ")
    missing = pc.is_in(values, pa.array(MISSING, type=values.type))
    return pc.if_else(missing, pa.scalar(None, values.type), values)


def _numbers(values: pa.Array) -> pa.Array:
    """The values in double, null where one is missing or no number."""
    if not _is(values.type, *STRINGS):
        return values.cast(pa.float64(), safe=False)
    good = pc.match_substring_regex(values, rf"\A(?:{NUMBER})\z")
    return pc.if_else(good, values, pa.scalar(None, values.type)).cast(pa.float64())


def _strings(values: pa.Array) -> tuple[Array, Array]:
    """The values as strings, "" where one is missing, and which are not UTF-8; only distinct ones
    become Python's."""
    coded = values.cast(pa.large_binary()).dictionary_encode()
    distinct = coded.dictionary.to_pylist()
    texts = [value.decode(errors="ignore") for value in distinct]
    wrong = [code for code, text in enumerate(texts) if text.encode() != distinct[code]]
    codes = coded.indices.fill_null(len(texts)).to_numpy()
    return np.array([*texts, ""], dtype=object)[codes], np.isin(codes, wrong)


def _refuse(
    reasons: Reasons, wrong: Array, name: str, expected: str, values: pa.Array | None = None
) -> None:
    for row in np.flatnonzero(wrong).tolist():
        found = "bytes" if values is None else repr(values[row].as_py())
        found = found if len(found) <= SHOWN else f"{found[:SHOWN]}…"
        reasons.setdefault(row, f"column {name!r}: found {found}, expected {expected}")
