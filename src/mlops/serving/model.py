"""A bundle loaded for scoring: its columns in the service's own order, and its ONNX session."""

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
    """Rows to score: `numbers` (rows, numbers) float32 with NaN where one is missing, `words`
    (rows, words) of str, "" where one is missing. Columns stand as in `Model.numbers`, `words`."""

    numbers: Array
    words: Array

    def __len__(self) -> int:
        return len(self.numbers)


def batch(rows: list[tuple[Number, ...]], words: list[tuple[str | None, ...]]) -> Batch:
    """A batch of decoded rows; a missing value is None."""
    with np.errstate(over="ignore"):
        numbers = np.array(rows, dtype=np.float32).reshape(len(rows), -1)
    named = np.array(words, dtype=object).reshape(len(rows), -1)
    if named.size:
        named[named == None] = ""  # noqa: E711
    return Batch(numbers, named)


def joined(batches: list[Batch]) -> Batch:
    """One batch of several."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        np.concatenate([one.numbers for one in batches]),
        np.concatenate([one.words for one in batches]),
    )


@dataclass(frozen=True)
class Model:
    """What is needed to score: the card, the bundle's digest, the session. Safe in threads."""

    card: Card
    digest: str
    version: str
    session: onnxruntime.InferenceSession
    narrow: bool

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """The columns of numbers, in the order that a batch has them in."""
        return tuple(column.name for column in self.card.inputs if column.type == "float")

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The columns of words, in the order that a batch has them in."""
        return tuple(column.name for column in self.card.inputs if column.type == "string")

    @cached_property
    def known(self) -> tuple[frozenset[str], ...]:
        """For each column of words, those that training saw."""
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

    Where the graph with two inputs says the same of the trial rows, it is used.
    """
    try:
        card = bundle.read_card(folder)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    if bundle.MODEL not in card.files:
        raise UserError(f"{folder / bundle.CARD}: files: found no digest of {bundle.MODEL}")
    content, name = (folder / bundle.MODEL).read_bytes(), bundle.digest(folder)
    try:
        wide = Model(card, name, version, bundle.session(content, threads), narrow=False)
        _require_card(wide)
        trial = _trial(wide)
        expected = wide.score(trial)
        slim = _slim(wide, content, threads)
        return slim if slim and graph.same(expected, slim.score(trial)) else wide
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"bundle {name[:12]}: does not run here: {reason}") from None


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


def _slim(wide: Model, content: bytes, threads: int) -> Model | None:
    try:
        narrowed = graph.narrowed(content, list(wide.numbers), list(wide.words))
        session = bundle.session(narrowed, threads)
    # A graph that another exporter laid out is scored as it is.
    except Exception:
        return None
    return Model(wide.card, wide.digest, wide.version, session, narrow=True)


def _trial(model: Model) -> Batch:
    """Rows that tell columns apart: every number and every word differs from its neighbours."""
    shape = (8, len(model.numbers))
    numbers = np.random.default_rng(0).normal(scale=100.0, size=shape).astype(np.float32)
    numbers[0] = np.nan
    words = [
        [sorted(known)[row % len(known)] if row and known else "" for known in model.known]
        for row in range(8)
    ]
    return Batch(numbers, np.array(words, dtype=object).reshape(8, -1))


def _matrices(model: Model, rows: Batch) -> Feeds:
    feeds: dict[str, Any] = {}
    if model.numbers:
        feeds[graph.NUMBERS] = rows.numbers
    if model.words:
        feeds[graph.WORDS] = rows.words
    return feeds


def _columns(model: Model, rows: Batch) -> Feeds:
    numbers, words = np.ascontiguousarray(rows.numbers.T), np.ascontiguousarray(rows.words.T)
    return {
        **dict(zip(model.numbers, numbers, strict=True)),
        **dict(zip(model.words, words, strict=True)),
    }
