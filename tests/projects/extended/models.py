"""A search space with a family of the project's own."""

from typing import Any

from hyperopt import hp

TASK = "binary"
SPACE: dict[str, dict[str, Any]] = {
    "extended.forest": {
        "n_estimators": 20,
        "max_depth": hp.uniformint("extended.forest.max_depth", 2, 6),
    }
}
FIRST: list[dict[str, Any]] = [{"family": "extended.forest", "max_depth": 4}]
