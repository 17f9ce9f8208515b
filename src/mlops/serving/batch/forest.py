"""Trees scored thousands of rows at a time, without walking any.

ONNX Runtime walks each tree for each row, and the processor guesses half of the turns wrong. Here
every comparison of the ensemble is made for a block of rows at once, eight rows to a byte, and the
turns become the bits of a leaf's number.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import onnx
from onnx import helper

from mlops.contract.bundle import Array

# Rows of a block, so that what is made of them stays in the cache; its turns fill whole words.
BLOCK = 4096
WORD = 64
# A tree is made a full one: each level doubles the work.
DEEPEST = 7
LEAF = b"LEAF"
SMALLER = {b"BRANCH_LT": (np.less, np.greater_equal), b"BRANCH_LEQ": (np.less_equal, np.greater)}


class Unfit(Exception):
    """An ensemble that can't be scored here."""


@dataclass(frozen=True)
class Group:
    """Comparisons of one feature with several thresholds, (thresholds, 1): whether a row turns
    left. A missing value does where `missing` says so."""

    feature: int
    missing: bool
    mode: bytes
    thresholds: Array

    def turns(self, matrix: Array) -> Array:
        """(thresholds, rows / 8) of packed bits, for a matrix (features, rows)."""
        smaller, greater = SMALLER[self.mode]
        values = matrix[self.feature]
        # No comparison holds for a missing value.
        left = ~greater(values, self.thresholds) if self.missing else smaller(
            values, self.thresholds
        )  # fmt: skip
        return np.packbits(left).reshape(len(left), -1)


@dataclass(frozen=True)
class Forest:
    """Full trees: for each inner node, level by level, which comparison each tree makes there,
    (2^depth - 1, trees); each tree's leaves, (trees, 2^depth); and what is added to their sum."""

    groups: tuple[Group, ...]
    nodes: Array
    leaves: Array
    base: np.float32
    logistic: bool

    def score(self, matrix: Array) -> Array:
        """The sum of the trees, (rows,) float32, for a matrix (rows, features)."""
        blocks = [self._block(matrix[at : at + BLOCK]) for at in range(0, len(matrix), BLOCK)]
        total: Array = np.concatenate(blocks) + self.base
        return total

    def _block(self, rows: Array) -> Array:
        count = -(-len(rows) // WORD) * WORD
        matrix = np.zeros((rows.shape[1], count), dtype=np.float32)
        matrix[:, : len(rows)] = rows.T
        turns = np.concatenate([group.turns(matrix) for group in self.groups]).view(np.uint64)
        numbers = _leaf_numbers([turns[row] for row in self.nodes])
        numbers = numbers.reshape(len(self.leaves), count)
        starts = np.arange(0, self.leaves.size, self.leaves.shape[1])[:, None]
        values = self.leaves.ravel().take(numbers + starts)
        # One tree after the other, as ONNX Runtime adds them.
        total: Array = np.add.reduce(values, axis=0)[: len(rows)]
        return total


def forest(node: onnx.NodeProto) -> Forest:
    """The trees of an ensemble with one output; raises Unfit when they are none of these."""
    said = {part.name: helper.get_attribute_value(part) for part in node.attribute}
    kind = "class" if "class_weights" in said else "target"
    modes = set(said["nodes_modes"]) - {LEAF}
    if len(modes) != 1 or not modes <= set(SMALLER) or len(set(said[f"{kind}_ids"])) != 1:
        raise Unfit
    groups, ranks = _groups(said, next(iter(modes)))
    nodes, ends = _full(said, ranks)
    base = np.float32(said.get("base_values", [0.0])[0])
    logistic = said.get("post_transform") == b"LOGISTIC"
    return Forest(groups, nodes, _weights(said, kind)[ends], base, logistic)


# What an ONNX node says, by the names of its attributes; the nodes of all trees are in one list.
Said = dict[str, Any]


def _inner(said: Said) -> Array:
    """For each node whether it is no leaf."""
    return np.array([mode != LEAF for mode in said["nodes_modes"]])


def _groups(said: Said, mode: bytes) -> tuple[tuple[Group, ...], Array]:
    """Every comparison once, and for each node the number of its own."""
    inner = _inner(said)
    tracks = said.get("nodes_missing_value_tracks_true") or [0] * len(inner)
    rows = np.array([said["nodes_featureids"], tracks, said["nodes_values"]], dtype=np.float64)
    keys, found = np.unique(rows.T[inner], axis=0, return_inverse=True)
    groups = []
    for (feature, missing), mine in groupby(keys.tolist(), key=lambda key: key[:2]):
        thresholds = np.array([[key[2]] for key in mine], dtype=np.float32)
        groups.append(Group(int(feature), bool(missing), mode, thresholds))
    ranks = np.zeros(len(inner), dtype=np.int64)
    ranks[inner] = found.ravel()
    return tuple(groups), ranks


def _full(said: Said, ranks: Array) -> tuple[Array, Array]:
    """`Forest.nodes`, and where in the list each of its leaves stands, as `Forest.leaves` has them.

    What ends early has the same leaf on all ways on.
    """
    inner, trees = _inner(said), np.array(said["nodes_treeids"])
    right, left = (
        np.where(
            inner, _places(said, trees, np.array(said[f"nodes_{turn}nodeids"])), range(len(inner))
        )
        for turn in ("false", "true")
    )
    at = np.unique(trees, return_index=True)[1][:, None]
    levels: list[Array] = [np.empty((len(at), 0), dtype=np.int64)]
    while inner[at].any():
        if len(levels) > DEEPEST:
            raise Unfit
        levels.append(ranks[at])
        at = np.stack([right[at], left[at]], axis=-1).reshape(len(at), -1)
    return np.concatenate(levels, axis=1).T, at


def _weights(said: Said, kind: str) -> Array:
    """For each node its value, where it is a leaf."""
    weights = np.zeros(len(said["nodes_modes"]), dtype=np.float32)
    leaves = np.array(said[f"{kind}_treeids"]), np.array(said[f"{kind}_nodeids"])
    weights[_places(said, *leaves)] = said[f"{kind}_weights"]
    return weights


def _places(said: Said, trees: Array, nodes: Array) -> Array:
    """Where in the list these nodes of these trees stand."""
    span = max(said["nodes_nodeids"]) + 1
    known = np.array(said["nodes_treeids"]) * span + np.array(said["nodes_nodeids"])
    order = np.argsort(known)
    found: Array = order[np.searchsorted(known[order], trees * span + nodes)]
    return found


def _leaf_numbers(turns: list[Array]) -> Array:
    """Each row's leaf in each tree, (trees x rows) uint8; `turns` has the nodes level by level,
    (trees, words) each."""
    taken: list[Array] = []
    numbers = np.zeros(1, dtype=np.uint8)
    while (first := 2 ** len(taken) - 1) < len(turns):
        level = turns[first : 2 * first + 1]
        for bits in taken:
            half = len(level) // 2
            level = [_either(bits, level[at], level[half + at]) for at in range(half)]
        taken.append(level[0])
        numbers = numbers + numbers + np.unpackbits(level[0].view(np.uint8).ravel())
    return numbers


def _either(bits: Array, unset: Array, is_set: Array) -> Array:
    """`is_set` where a bit is set, `unset` elsewhere."""
    chosen = unset ^ is_set
    chosen &= bits
    chosen ^= unset
    return chosen
