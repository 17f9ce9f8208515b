"""The search space: which families of models are tried, and between which bounds.

Names are the arguments of the families' scikit-learn constructors. The number of trees is found by
early stopping, up to the cap given here. The bounds are for hundreds of thousands of rows.
"""

from typing import Any

from hyperopt import hp

TASK = "binary"

SPACE: dict[str, dict[str, Any]] = {
    "lightgbm": {
        "n_estimators": 1000,
        "learning_rate": hp.loguniform("lightgbm.learning_rate", -2.8, -1.9),
        "num_leaves": hp.uniformint("lightgbm.num_leaves", 7, 63),
        "min_child_samples": hp.uniformint("lightgbm.min_child_samples", 50, 1000),
        "colsample_bytree": hp.uniform("lightgbm.colsample_bytree", 0.2, 0.8),
        "reg_lambda": hp.loguniform("lightgbm.reg_lambda", -2.0, 5.0),
    },
    "xgboost": {
        "n_estimators": 1000,
        "learning_rate": hp.loguniform("xgboost.learning_rate", -2.8, -1.9),
        "max_depth": hp.uniformint("xgboost.max_depth", 3, 6),
        "min_child_weight": hp.loguniform("xgboost.min_child_weight", 1.0, 5.0),
        "subsample": hp.uniform("xgboost.subsample", 0.5, 1.0),
        "colsample_bytree": hp.uniform("xgboost.colsample_bytree", 0.2, 0.8),
        "reg_lambda": hp.loguniform("xgboost.reg_lambda", -2.0, 5.0),
    },
    "hist_gradient_boosting": {
        "max_iter": 1000,
        "learning_rate": hp.loguniform("hist_gradient_boosting.learning_rate", -2.8, -1.9),
        "max_leaf_nodes": hp.uniformint("hist_gradient_boosting.max_leaf_nodes", 7, 63),
        "min_samples_leaf": hp.uniformint("hist_gradient_boosting.min_samples_leaf", 50, 1000),
        "max_features": hp.uniform("hist_gradient_boosting.max_features", 0.2, 0.8),
        "l2_regularization": hp.loguniform("hist_gradient_boosting.l2_regularization", -2.0, 5.0),
    },
    "linear": {
        "max_iter": 300,
        "C": hp.loguniform("linear.C", -7.0, 2.0),
    },
}

# Set by hand, so that a short search does not open on random draws.
FIRST: list[dict[str, Any]] = [
    {
        "family": "lightgbm",
        "learning_rate": 0.05,
        "num_leaves": 15,
        "min_child_samples": 300,
        "colsample_bytree": 0.4,
        "reg_lambda": 10.0,
    },
    {
        "family": "xgboost",
        "learning_rate": 0.08,
        "max_depth": 4,
        "min_child_weight": 50.0,
        "subsample": 0.8,
        "colsample_bytree": 0.4,
        "reg_lambda": 10.0,
    },
    {
        "family": "hist_gradient_boosting",
        "learning_rate": 0.08,
        "max_leaf_nodes": 15,
        "min_samples_leaf": 300,
        "max_features": 0.4,
        "l2_regularization": 10.0,
    },
    {"family": "linear", "C": 0.01},
]
