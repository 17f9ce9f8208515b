"""A model's outputs in the words of its task."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.core.bundle import Array, Card


def predictions(card: Card, outputs: list[Array]) -> list[dict[str, Any]]:
    """For each row its probability and decision, its probabilities and class, or its value."""
    if card.task == "multiclass":
        table = np.stack(outputs, axis=1)
        best = table.argmax(axis=1).tolist()
        return [
            {"probabilities": row, "class": winner}
            for row, winner in zip(table.tolist(), best, strict=True)
        ]
    values = outputs[0].tolist()
    if card.task == "regression":
        return [{"prediction": value} for value in values]
    if card.threshold is None:
        return [{"probability": value} for value in values]
    threshold = card.threshold
    return [{"probability": value, "decision": value >= threshold} for value in values]
