"""Starting spaces, for a `models.py` without SPACE: bounds that fit the number of rows.

A leaf must hold so many rows that it is not chance, and so few that there are several leaves.
"""

from __future__ import annotations

import math
from typing import Any

from mlops.contract.task import Task

Hyperparameters = dict[str, Any]
# The cap; early stopping finds the number.
TREES = 500
BOOSTED = {"learning_rate": 0.08, "reg_lambda": 1.0}


def spaces(task: Task, rows: int) -> dict[str, Hyperparameters]:
    """The built-in families' spaces."""
    from hyperopt import hp

    def tree(family: str, **names: str) -> Hyperparameters:
        """Trees' common hyperparameters, as the family calls them, and its own."""
        leaves, least = _leaves(rows), _least(rows)
        known = {
            "leaves": hp.uniformint(f"{family}.leaves", 3, 2 * leaves),
            "depth": hp.uniformint(f"{family}.depth", 2, _depth(rows) + 2),
            "least": hp.uniformint(f"{family}.least", max(1, least // 3), 3 * least),
            "weight": hp.loguniform(f"{family}.weight", 0.0, math.log(1 + least)),
            "l2": hp.loguniform(f"{family}.l2", -2.0, 4.0),
        }
        rate = hp.loguniform(f"{family}.learning_rate", -3.5, -1.5)
        return {"learning_rate": rate, **{name: known[kind] for name, kind in names.items()}}

    linear = {"C": hp.loguniform("linear.C", -7.0, 3.0), "max_iter": 500}
    if task == "regression":
        linear = {"alpha": hp.loguniform("linear.alpha", -5.0, 5.0)}
    return {
        "lightgbm": {
            "n_estimators": TREES,
            **tree("lightgbm", num_leaves="leaves", min_child_samples="least", reg_lambda="l2"),
        },
        "xgboost": {
            "n_estimators": TREES,
            **tree("xgboost", max_depth="depth", min_child_weight="weight", reg_lambda="l2"),
        },
        "hist_gradient_boosting": {
            "max_iter": TREES,
            **tree(
                "hist_gradient_boosting",
                max_leaf_nodes="leaves",
                min_samples_leaf="least",
                l2_regularization="l2",
            ),
        },
        "linear": linear,
    }


def first(task: Task, rows: int) -> list[Hyperparameters]:
    """A candidate of each family from the middle of its space."""
    leaves, least = _leaves(rows), _least(rows)
    return [
        {"family": "lightgbm", "num_leaves": leaves, "min_child_samples": least, **BOOSTED},
        {"family": "xgboost", "max_depth": _depth(rows), **BOOSTED},
        {
            "family": "hist_gradient_boosting",
            "max_leaf_nodes": leaves,
            "min_samples_leaf": least,
            "learning_rate": BOOSTED["learning_rate"],
        },
        {"family": "linear", **({"alpha": 1.0} if task == "regression" else {"C": 0.3})},
    ]


def _leaves(rows: int) -> int:
    """About the square root of the rows in each leaf: 4 leaves of 200 rows, 31 of 10,000."""
    return min(max(int(math.sqrt(rows) / 3), 4), 31)


def _depth(rows: int) -> int:
    """The depth of a tree with so many leaves."""
    return round(math.log2(_leaves(rows)))


def _least(rows: int) -> int:
    """The fewest rows of a leaf: 5 of 200 rows, 100 of 10,000, 300 of many."""
    return min(max(rows // 100, 5), 300)
