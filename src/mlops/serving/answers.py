"""A model's outputs in the words of its task."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.contract.bundle import Array, Card


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


def _classes(table: Array) -> list[dict[str, Any]]:
    known = np.isfinite(table.sum(axis=1))
    return [
        {"probabilities": row, "class": best if is_known else None}
        for row, best, is_known in zip(
            table.tolist(), table.argmax(axis=1).tolist(), known.tolist(), strict=True
        )
    ]
