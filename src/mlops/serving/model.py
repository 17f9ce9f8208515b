"""A bundle loaded for scoring: its columns, numeric ones first, and its ONNX session."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.contract.bundle import Array, Card
from mlops.serving import graph

if TYPE_CHECKING:
    import onnxruntime

Number = float | None
Feeds = dict[str, Array]


@dataclass(frozen=True)
class Batch:
    """Rows to score: `numeric` (rows, numeric columns) float32, NaN where a value is missing;
    `categorical` (rows, categorical columns) of str, "" where one is. Columns are in the order of
    `Model.numeric` and `Model.categorical`."""

    numeric: Array
    categorical: Array

    def __len__(self) -> int:
        return len(self.numeric)


def batch(numeric: list[tuple[Number, ...]], categorical: list[tuple[str | None, ...]]) -> Batch:
    """A batch of decoded rows; a missing value is None."""
    with np.errstate(over="ignore"):
        numbers = np.array(numeric, dtype=np.float32).reshape(len(numeric), -1)
    strings = np.array(categorical, dtype=object).reshape(len(numeric), -1)
    if any(None in row for row in categorical):
        strings[strings == None] = ""  # noqa: E711
    return Batch(numbers, strings)


def joined(batches: list[Batch]) -> Batch:
    """One batch of several."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        np.concatenate([one.numeric for one in batches]),
        np.concatenate([one.categorical for one in batches]),
    )


@dataclass(frozen=True)
class Model:
    """A bundle's card, digest, version and session; safe to use from several threads.

    `narrow`: the session has two inputs, the matrices of a `Batch`, and not one for each column.
    """

    card: Card
    digest: str
    version: str
    session: onnxruntime.InferenceSession
    narrow: bool

    @cached_property
    def numeric(self) -> tuple[str, ...]:
        """The names of the numeric columns."""
        return tuple(column.name for column in self.card.inputs if column.type == "float")

    @cached_property
    def categorical(self) -> tuple[str, ...]:
        """The names of the categorical columns."""
        return tuple(column.name for column in self.card.inputs if column.type == "string")

    @cached_property
    def categories(self) -> tuple[frozenset[str], ...]:
        """For each categorical column the values that training saw."""
        return tuple(
            frozenset(column.categories) for column in self.card.inputs if column.type == "string"
        )

    def score(self, rows: Batch) -> list[Array]:
        """The bundle's outputs for these rows, in the card's order, each (rows,) float32."""
        feeds = _matrices(self, rows) if self.narrow else _columns(self, rows)
        outputs: list[Array] = self.session.run(None, feeds)
        return outputs


def load(folder: Path, version: str = "", threads: int = 1) -> Model:
    """Load and check a bundle; raises UserError when it is not whole or does not run.

    The graph with two inputs is used where it gives the same outputs for the trial rows.
    """
    try:
        card = bundle.read_card(folder)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    if bundle.MODEL not in card.files:
        raise UserError(f"{folder / bundle.CARD}: files: found no digest of {bundle.MODEL}")
    content, digest = (folder / bundle.MODEL).read_bytes(), bundle.digest(folder)
    try:
        wide = Model(card, digest, version, bundle.session(content, threads), narrow=False)
        _require_card(wide)
        rows = _trial_rows(wide)
        expected = wide.score(rows)
        narrow = _narrowed(wide, content, threads)
        return narrow if narrow and graph.same(expected, narrow.score(rows)) else wide
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"bundle {digest[:12]}: does not run here: {reason}") from None


def _require_card(model: Model) -> None:
    """Raise UserError unless the graph takes and gives what the card says, in its order."""
    card, session = model.card, model.session
    named = sorted(column.name for column in card.inputs)
    for what, found, expected in (
        ("inputs", sorted(node.name for node in session.get_inputs()), named),
        ("outputs", [node.name for node in session.get_outputs()], list(card.outputs)),
        ("example", sorted(card.example), named),
    ):
        if found != expected:
            raise UserError(f"{what}: found {', '.join(found)}, expected {', '.join(expected)}")


def _narrowed(wide: Model, content: bytes, threads: int) -> Model | None:
    try:
        narrowed = graph.narrowed(content, list(wide.numeric), list(wide.categorical))
        session = bundle.session(narrowed, threads)
    # A graph that another exporter laid out is scored as it is.
    except Exception:
        return None
    return Model(wide.card, wide.digest, wide.version, session, narrow=True)


def _trial_rows(model: Model) -> Batch:
    """Eight rows in which no two columns are alike."""
    shape = (8, len(model.numeric))
    numeric = np.random.default_rng(0).normal(scale=100.0, size=shape).astype(np.float32)
    numeric[0] = np.nan
    categorical = [
        [sorted(known)[row % len(known)] if row and known else "" for known in model.categories]
        for row in range(8)
    ]
    return Batch(numeric, np.array(categorical, dtype=object).reshape(8, -1))


def _matrices(model: Model, rows: Batch) -> Feeds:
    feeds: dict[str, Any] = {}
    if model.numeric:
        feeds[graph.NUMERIC] = rows.numeric
    if model.categorical:
        feeds[graph.CATEGORICAL] = rows.categorical
    return feeds


def _columns(model: Model, rows: Batch) -> Feeds:
    numeric = np.ascontiguousarray(rows.numeric.T)
    categorical = np.ascontiguousarray(rows.categorical.T)
    return {
        **dict(zip(model.numeric, numeric, strict=True)),
        **dict(zip(model.categorical, categorical, strict=True)),
    }
