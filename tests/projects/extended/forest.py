"""A model family: a random forest, which has no rounds to stop early."""

from typing import Any

ENCODING, ROUNDS = "dense", None


def build(task: str, hyperparameters: dict[str, Any], seed: int, threads: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(**hyperparameters, random_state=seed, n_jobs=threads)


def fit(estimator: Any, train: Any, validation: Any) -> None:
    estimator.fit(*train)
