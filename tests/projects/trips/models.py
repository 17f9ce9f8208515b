"""The search space of two classes."""

from typing import Any

from hyperopt import hp

TASK = "binary"
SPACE: dict[str, dict[str, Any]] = {
    "lightgbm": {
        "n_estimators": 60,
        "learning_rate": hp.loguniform("lightgbm.learning_rate", -3.0, -1.5),
        "num_leaves": hp.uniformint("lightgbm.num_leaves", 3, 15),
    },
    "linear": {"max_iter": 300, "C": hp.loguniform("linear.C", -5.0, 2.0)},
}
FIRST: list[dict[str, Any]] = [
    {"family": "lightgbm", "learning_rate": 0.1, "num_leaves": 7},
    {"family": "linear", "C": 0.1},
]
