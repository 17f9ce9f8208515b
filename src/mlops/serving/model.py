"""A bundle loaded for scoring: its columns, numeric ones first, and its ONNX session."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mlops.base.errors import UserError, one_line
from mlops.contract import bundle
from mlops.contract.bundle import Array, Card
from mlops.serving import graph

if TYPE_CHECKING:
    import onnxruntime

Row = tuple[Any, ...]
# What fits into a header and a path: the model's name, and its outputs'.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Batch:
    """Rows to score: `numeric` (rows, numeric columns) float32, NaN where a value is missing;
    `categorical` (rows, categorical columns) of str, "" where one is. Columns are in the order of
    `Model.numeric` and `Model.categorical`."""

    numeric: Array
    categorical: Array

    def __len__(self) -> int:
        return len(self.numeric)

    @property
    def arrays(self) -> Batch:
        """The batch itself, as `Rows` become one."""
        return self


# A struct of msgspec: a frozen data class takes ten times as long to make.
class Rows(msgspec.Struct, frozen=True):
    """Decoded rows, not yet arrays: for each row a tuple of `numeric` and of `categorical` values,
    None where one is missing.

    `keys` where the request has them; what is None in `partial` rows is looked up by them.
    """

    numeric: list[Row]
    categorical: list[Row]
    keys: list[str] | None = None
    partial: bool = False

    def __len__(self) -> int:
        return len(self.numeric)

    @property
    def arrays(self) -> Batch:
        """The rows as a batch."""
        with np.errstate(over="ignore"):
            numbers = np.array(self.numeric, dtype=np.float32).reshape(len(self), -1)
        strings = np.array(self.categorical, dtype=object).reshape(len(self), -1)
        if any(None in row for row in self.categorical):
            strings[strings == None] = ""  # noqa: E711
        return Batch(numbers, strings)


@dataclass(frozen=True, eq=False)
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
        columns = [column for column in self.card.inputs if column.type == "string"]
        return tuple(frozenset(column.categories) for column in columns)

    def score(self, rows: Batch) -> list[Array]:
        """The bundle's outputs for these rows, in the card's order, each (rows,) float32."""
        feeds: dict[str, Any] = {}
        if self.narrow:
            if self.numeric:
                feeds[graph.NUMERIC] = rows.numeric
            if self.categorical:
                feeds[graph.CATEGORICAL] = rows.categorical
        else:
            feeds |= zip(self.numeric, np.ascontiguousarray(rows.numeric.T), strict=True)
            feeds |= zip(self.categorical, np.ascontiguousarray(rows.categorical.T), strict=True)
        outputs: list[Array] = self.session.run(None, feeds)
        return outputs


def load(folder: Path, version: str = "", threads: int = 1) -> Model:
    """Load and check a bundle; raises UserError when it is not whole or does not run."""
    try:
        card = bundle.read_card(folder)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    if bundle.MODEL not in card.files:
        raise UserError(f"{folder / bundle.CARD}: files: found no digest of {bundle.MODEL}")
    content, digest = (folder / bundle.MODEL).read_bytes(), bundle.digest(folder)
    for name in (card.name, *card.outputs):
        if not NAME.fullmatch(name):
            expected = "expected letters, digits and . _ -"
            raise UserError(f"{folder / bundle.CARD}: found the name {name[:80]!r}, {expected}")
    try:
        wide = Model(card, digest, version, bundle.session(content, threads), narrow=False)
        _require_card(wide)
        narrowed = graph.narrowed(content, wide.numeric, wide.categorical)
        if narrowed is None:
            return wide
        return replace(wide, session=bundle.session(narrowed, threads), narrow=True)
    except Exception as error:
        raise UserError(f"bundle {digest[:12]}: does not run here: {one_line(error)}") from None


def _require_card(model: Model) -> None:
    """Raise UserError unless the graph takes and gives what the card says, in its order."""
    card, session = model.card, model.session
    named = sorted(column.name for column in card.inputs)
    for what, found, expected in (
        ("inputs", sorted(node.name for node in session.get_inputs()), named),
        ("outputs", [node.name for node in session.get_outputs()], list(card.outputs)),
        ("example", sorted(card.example), named),
        ("optional", sorted({*card.optional} - {*named}), []),
        ("retired", sorted({*card.retired} & {*named}), []),
    ):
        if found != expected:
            raise UserError(f"{what}: found {', '.join(found)}, expected {', '.join(expected)}")
