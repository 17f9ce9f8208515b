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

from mlops.core.bundle import Array

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
    trees = _trees(said, kind)
    depth = max(_depth(tree, 0) for tree in trees)
    if depth > DEEPEST:
        raise Unfit
    groups, ranks = _groups(said, next(iter(modes)))
    nodes = np.zeros((2**depth - 1, len(trees)), dtype=np.int64)
    leaves = np.zeros((len(trees), 2**depth), dtype=np.float32)
    for number, tree in enumerate(trees):
        _fill(tree, 0, depth, nodes[:, number], leaves[number], ranks)
    base = np.float32(said.get("base_values", [0.0])[0])
    return Forest(groups, nodes, leaves, base, said.get("post_transform") == b"LOGISTIC")


# A leaf's value, or a comparison (feature, missing, threshold) and where it turns left and right.
Tree = Any
Key = tuple[int, bool, float]


def _trees(said: dict[str, Any], kind: str) -> list[Tree]:
    keys = list(zip(said["nodes_treeids"], said["nodes_nodeids"], strict=True))
    place = {key: number for number, key in enumerate(keys)}
    weights = dict(
        zip(
            zip(said[f"{kind}_treeids"], said[f"{kind}_nodeids"], strict=True),
            said[f"{kind}_weights"],
            strict=True,
        )
    )
    tracks = said.get("nodes_missing_value_tracks_true") or [0] * len(keys)

    def tree(at: int) -> Tree:
        number, _ = keys[at]
        if said["nodes_modes"][at] == LEAF:
            return weights[keys[at]]
        key = (said["nodes_featureids"][at], bool(tracks[at]), said["nodes_values"][at])
        left, right = said["nodes_truenodeids"][at], said["nodes_falsenodeids"][at]
        return key, tree(place[number, left]), tree(place[number, right])

    first = {number: at for at, (number, _) in reversed(list(enumerate(keys)))}
    return [tree(at) for _, at in sorted(first.items())]


def _depth(tree: Tree, above: int) -> int:
    if above > DEEPEST or not isinstance(tree, tuple):
        return above
    return max(_depth(branch, above + 1) for branch in tree[1:])


def _groups(said: dict[str, Any], mode: bytes) -> tuple[tuple[Group, ...], dict[Key, int]]:
    tracks = said.get("nodes_missing_value_tracks_true") or [0] * len(said["nodes_modes"])
    features, values = said["nodes_featureids"], said["nodes_values"]
    inner = [kind != LEAF for kind in said["nodes_modes"]]
    rows = zip(features, map(bool, tracks), values, inner, strict=True)
    keys: list[Key] = sorted({(f, m, v) for f, m, v, is_inner in rows if is_inner})
    groups = []
    for (feature, missing), mine in groupby(keys, key=lambda key: key[:2]):
        thresholds = np.array([[key[2]] for key in mine], dtype=np.float32)
        groups.append(Group(feature, missing, mode, thresholds))
    return tuple(groups), {key: number for number, key in enumerate(keys)}


def _fill(
    tree: Tree, at: int, depth: int, nodes: Array, leaves: Array, ranks: dict[Key, int]
) -> None:
    """Write a tree below the node `at`; what ends early has the same leaf on all ways on."""
    if at >= len(nodes):
        leaves[at - len(nodes)] = tree
        return
    key, left, right = tree if isinstance(tree, tuple) else (None, tree, tree)
    nodes[at] = ranks[key] if key is not None else 0
    _fill(right, 2 * at + 1, depth, nodes, leaves, ranks)
    _fill(left, 2 * at + 2, depth, nodes, leaves, ranks)


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
