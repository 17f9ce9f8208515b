"""`POST /invocations`: the protocol of MLflow's scoring server.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally

Null is a missing value, and so is the NaN that MLflow's own client writes. What MLflow lets pass
is refused: a column that the model does not have, a number in quotes, an infinite one.
"""

from __future__ import annotations

import csv
import io
from itertools import islice
from typing import Any

import msgspec

from mlops.contract.bundle import Array
from mlops.serving.errors import Refusal
from mlops.serving.model import Batch, Model
from mlops.serving.rows import Columns, Rows, read

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
ABSENT = msgspec.Raw(b"null")
CSV = "text/csv"
# What pandas, R and Spark write for a missing number.
MISSING = {"", "NA", "NaN", "nan", "null"}


class Split(msgspec.Struct):
    """A table as pandas splits it; the index is ignored."""

    columns: list[str]
    data: msgspec.Raw
    index: msgspec.Raw = ABSENT


class Invocations:
    """Decodes and answers one model's requests in MLflow's forms."""

    def __init__(self, model: Model, columns: Columns) -> None:
        self.model = model
        self.columns = columns
        many: Any = list[columns.record]  # type: ignore[name-defined]
        either = many | dict[str, msgspec.Raw] | msgspec.UnsetType
        unset = msgspec.UNSET
        envelope: Any = msgspec.defstruct(
            "Envelope",
            [
                ("dataframe_split", Split | msgspec.UnsetType, unset),
                ("dataframe_records", many | msgspec.UnsetType, unset),
                ("instances", either, unset),
                ("inputs", either, unset),
                ("params", msgspec.Raw, ABSENT),
            ],
            forbid_unknown_fields=True,
        )
        self.decoder = msgspec.json.Decoder(envelope)

    def decode(self, body: bytes, content_type: str) -> Rows | Batch:
        """Rows in any of the forms; raises Refusal."""
        return self._csv(body) if content_type == CSV else self._json(body)

    def encode(self, outputs: list[Array]) -> bytes:
        """What MLflow answers for an ONNX model and a data frame: a record for each row."""
        names, values = self.model.card.outputs, [output.tolist() for output in outputs]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
        return msgspec.json.encode({"predictions": rows})

    def _json(self, body: bytes) -> Rows | Batch:
        envelope = read(self.decoder, body, self._wrong)
        given = [form for form in FORMS if getattr(envelope, form) is not msgspec.UNSET]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise Refusal(422, f"body: found {found}, expected one of {', '.join(FORMS)}")
        form, content = given[0], getattr(envelope, given[0])
        if isinstance(content, Split):
            return self.columns.table(content.columns, content.data, f"{form}.data")
        if isinstance(content, dict):
            return self._columns(content, form)
        return self.columns.rows(content)

    def _wrong(self, content: Any) -> Refusal | None:
        """The record of any form that does not fit, if any."""
        if not isinstance(content, dict):
            return None
        found = ((form, content[form]) for form in FORMS[1:] if isinstance(content.get(form), list))
        wrong = (self.columns.wrong_record(records, form) for form, records in found)
        return next(filter(None, wrong), None)

    def _columns(self, content: dict[str, msgspec.Raw], place: str) -> Batch:
        self.columns.require(list(content), place)
        values: dict[str, Any] = {
            name: self.columns.values(name, _as_list(column), f"{place}.{name}")
            for name, column in content.items()
        }
        return self.columns.batch(values, place)

    def _csv(self, body: bytes) -> Rows:
        """A line of names and a line for each row, as pandas writes them; blank lines are none.

        An empty cell is a missing value, and so is NA or NaN for a number.
        """
        text = io.TextIOWrapper(io.BytesIO(body), "utf-8-sig", newline="")
        reader = csv.reader(text, strict=True)
        try:
            lines = [line for line in islice(reader, self.columns.limit + 1) if line]
            more = next(reader, None)
        except (UnicodeDecodeError, csv.Error) as error:
            raise Refusal(400, f"body: not CSV in UTF-8: {error}") from None
        if more is not None:
            raise self.columns.too_many(f"more than {self.columns.limit}")
        if not lines:
            raise Refusal(400, "body: found nothing, expected a line of column names")
        header, *rows = lines
        self.columns.require(header, "CSV")
        return _typed(self.columns, header, rows)


def _as_list(column: msgspec.Raw) -> bytes:
    """A column's values; a lone record may have one without a list."""
    content = bytes(column)
    return content if content.startswith(b"[") else b"[%b]" % content


def _typed(columns: Columns, header: list[str], rows: list[list[str]]) -> Rows:
    order = [header.index(name) for name in columns.names]
    numeric, categorical = [], []
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise Refusal(422, f"CSV row {number}: found {len(row)} cells, expected {len(header)}")
        cells = [row[position] for position in order]
        numeric.append(tuple(
            _number(cell, number, name)
            for cell, name in zip(cells[: columns.count], columns.names, strict=False)
        ))  # fmt: skip
        categorical.append(tuple(cells[columns.count :]))
    return Rows(numeric, categorical)


def _number(cell: str, row: int, column: str) -> float | None:
    if cell in MISSING:
        return None
    try:
        # Python reads 1_0 as ten, and the digits of every script.
        return float(cell.replace("_", "?").encode("ascii"))
    except ValueError:
        raise Refusal(
            422, f"CSV row {row}.{column}: found {cell[:40]!r}, expected a number"
        ) from None
