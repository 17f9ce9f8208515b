"""The search space of several classes."""

from typing import Any

from hyperopt import hp

TASK = "multiclass"
SPACE: dict[str, dict[str, Any]] = {
    "lightgbm": {
        "n_estimators": 60,
        "learning_rate": hp.loguniform("lightgbm.learning_rate", -4.0, -1.0),
        "num_leaves": hp.uniformint("lightgbm.num_leaves", 3, 15),
    },
    "xgboost": {
        "n_estimators": 60,
        "learning_rate": hp.loguniform("xgboost.learning_rate", -4.0, -1.0),
        "max_depth": hp.uniformint("xgboost.max_depth", 2, 5),
    },
    "hist_gradient_boosting": {
        "max_iter": 60,
        "learning_rate": hp.loguniform("hist_gradient_boosting.learning_rate", -4.0, -1.0),
        "max_leaf_nodes": hp.uniformint("hist_gradient_boosting.max_leaf_nodes", 3, 15),
    },
    "linear": {"max_iter": 500, "C": hp.loguniform("linear.C", -4.0, 2.0)},
}
FIRST: list[dict[str, Any]] = [
    {"family": "lightgbm", "learning_rate": 0.1, "num_leaves": 7},
    {"family": "linear", "C": 1.0},
]
