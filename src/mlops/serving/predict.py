"""`POST /predict`: one record or many, by column name.

Every column is there; null is a missing value, and so is NaN where a client writes it. Of a name
that a record has twice the last counts, as in most readers of JSON.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from mlops.contract.bundle import Array, Card
from mlops.serving.errors import decode
from mlops.serving.model import Model, Rows
from mlops.serving.rows import Columns


class Predict:
    """Decodes and answers one model's requests by column name."""

    def __init__(self, model: Model, columns: Columns) -> None:
        self.model = model
        self.columns = columns
        body: Any = columns.record | list[columns.record]  # type: ignore[name-defined]
        self.decoder = msgspec.json.Decoder(body)

    def decode(self, body: bytes) -> Rows:
        """Rows of a record or a list of records; raises Refusal."""
        records = decode(self.decoder, body, columns=self.columns.names, lone=True)
        return self.columns.rows(records if isinstance(records, list) else [records])

    def encode(self, outputs: list[Array], identity: str) -> bytes:
        """One prediction for each record, the model's name and version, and the request's id."""
        model = self.model
        about = {"model": model.card.name, "version": model.version, "digest": model.digest}
        scores = predictions(model.card, outputs)
        return msgspec.json.encode({**about, "id": identity, "predictions": scores})


def predictions(card: Card, outputs: list[Array]) -> list[dict[str, Any]]:
    """For each row its probability and decision, its probabilities and class, or its value.

    Where the model has no finite answer, JSON has null, and there is no decision and no class.
    """
    if card.task == "multiclass":
        rows = np.stack(outputs, axis=1)
        best = np.where(np.isfinite(rows.sum(axis=1)), rows.argmax(axis=1), -1).tolist()
        # The last one, for a row without an answer, is null.
        classes: tuple[Any, ...] = (*(card.labels or range(card.classes)), None)
        return [
            {"probabilities": row, "class": classes[place]}
            for row, place in zip(rows.tolist(), best, strict=True)
        ]
    values, threshold = outputs[0].tolist(), card.threshold
    if card.task == "regression":
        return [{"prediction": value} for value in values]
    if threshold is None:
        return [{"probability": value} for value in values]
    return [
        {"probability": value, "decision": value >= threshold if value == value else None}
        for value in values
    ]
