"""`POST /predict`: one record or many, by column name.

Every column is there; null is a missing value, and so is NaN where a client writes it. Of a name
that a record has twice the last counts, as in most readers of JSON.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from mlops.contract.bundle import Array, Card
from mlops.serving.model import Model
from mlops.serving.rows import Columns, Rows, read


class Predict:
    """Decodes and answers one model's requests by column name."""

    def __init__(self, model: Model, columns: Columns) -> None:
        self.model = model
        self.columns = columns
        body: Any = columns.record | list[columns.record]  # type: ignore[name-defined]
        self.decoder = msgspec.json.Decoder(body)

    def decode(self, body: bytes) -> Rows:
        """Rows of a record or a list of records; raises Refusal."""
        records = read(self.decoder, body, lambda content: self.columns.wrong_record(content, ""))
        return self.columns.rows(records if isinstance(records, list) else [records])

    def encode(self, outputs: list[Array], identity: str) -> bytes:
        """One prediction for each record, the model's name and version, and the request's id."""
        return msgspec.json.encode(
            {
                "model": self.model.card.name,
                "version": self.model.version,
                "digest": self.model.digest,
                "id": identity,
                "predictions": predictions(self.model.card, outputs),
            }
        )


def predictions(card: Card, outputs: list[Array]) -> list[dict[str, Any]]:
    """For each row its probability and decision, its probabilities and class, or its value.

    Where the model has no finite answer, JSON has null, and there is no decision and no class.
    """
    if card.task == "multiclass":
        return _classes(np.stack(outputs, axis=1))
    values = outputs[0].tolist()
    if card.task == "regression":
        return [{"prediction": value} for value in values]
    if card.threshold is None:
        return [{"probability": value} for value in values]
    threshold = card.threshold
    return [
        {"probability": value, "decision": value >= threshold if value == value else None}
        for value in values
    ]


def _classes(probabilities: Array) -> list[dict[str, Any]]:
    finite = np.isfinite(probabilities.sum(axis=1))
    return [
        {"probabilities": row, "class": best if is_finite else None}
        for row, best, is_finite in zip(
            probabilities.tolist(), probabilities.argmax(axis=1).tolist(), finite.tolist(),
            strict=True,
        )
    ]  # fmt: skip
