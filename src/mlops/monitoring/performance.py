"""How well the predictions came true, beside the evidence that the bundle was released on."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlops.base.files import read_json
from mlops.contract.bundle import Array, Card
from mlops.contract.paths import EVIDENCE
from mlops.evaluation.metrics import Interval
from mlops.monitoring.window import Quality

if TYPE_CHECKING:
    import duckdb

METRICS = EVIDENCE / "metrics.json"
# Labelled rows that a window is judged by, drawn evenly: an interval of more tells no more.
SAMPLE = 20_000
# The bounds of 95 % lie two standard deviations off; what is sure lies three off, as of drift.
SURELY = 3 / 1.96
# Outcomes drawn from the predictions, to see what calibration error chance alone makes.
DRAWS = 20
Evidence = dict[str, Interval]


def evidence(workspace: Path) -> Evidence:
    """The metrics of the bundle's holdout; none where its evidence could not be had."""
    path = workspace / METRICS
    if not path.exists():
        return {}
    holdout = read_json(path)["holdout"]
    return {
        name: Interval(**{bound: _number(value) for bound, value in bounds.items()})
        for name, bounds in holdout.items()
    }


def measure(
    database: duckdb.DuckDBPyConnection, where: str, card: Card, known: Evidence
) -> tuple[Quality, ...]:
    """The main metric and the calibration of the labelled rows that fit a condition of SQL.

    A metric that these rows, or the evidence, leave undefined is left out.
    """
    from mlops.evaluation import metrics

    names = [f"o{i}" for i in range(len(card.outputs))]
    outputs, given = ", ".join(names), " AND ".join(f"{name} IS NOT NULL" for name in names)
    table = database.execute(
        f"SELECT label, {outputs} FROM labelled WHERE {where} AND {given}"
        f" ORDER BY hash(time, request, row), time, request, row LIMIT {SAMPLE}"
    ).df()
    prediction = table.drop(columns="label").to_numpy(dtype="float64")
    if card.task != "multiclass":
        prediction = prediction[:, 0]
    now = metrics.intervals(card.task, table["label"].to_numpy(), prediction, card.threshold)
    found = _qualities(card, now, known, _chance(card, prediction))
    return tuple(quality for quality in found if not math.isnan(quality.worse))


def _qualities(card: Card, now: Evidence, before: Evidence, chance: float) -> list[Quality]:
    from mlops.evaluation.metrics import main_metric

    name, greater_is_better = main_metric(card.task)
    missing = Interval(math.nan, math.nan, math.nan)
    main = now[name], before.get(name, missing)
    found = [_quality("performance", name, *main, greater_is_better)]
    if card.task == "regression":
        rmse = before.get("rmse", missing).value
        bias = _size(now["bias"], rmse), _size(before.get("bias", missing), rmse)
        return [*found, _quality("calibration", "|bias| / rmse", *bias, False)]
    error = "calibration_error"
    calibration = _quality("calibration", error, now[error], before.get(error, missing), False)
    return [*found, replace(calibration, worse=calibration.worse - chance)]


def _chance(card: Card, prediction: Array) -> float:
    """The calibration error of predictions that are all true: few rows never come out even."""
    from mlops.evaluation import metrics

    if card.task == "regression":
        return 0.0
    random = np.random.default_rng(0)
    of_class = prediction if prediction.ndim == 2 else np.column_stack([1 - prediction, prediction])
    # The class whose share of the unit the dice fall into.
    ends = of_class.cumsum(axis=1)[:, :-1]
    errors = []
    for _ in range(DRAWS):
        outcome = (random.random((len(ends), 1)) > ends).sum(axis=1).astype(np.float64)
        scores = metrics.score(card.task, outcome, prediction, card.threshold)
        errors.append(scores["calibration_error"])
    return float(np.mean(errors))


def _quality(
    kind: str, name: str, now: Interval, before: Interval, greater_is_better: bool
) -> Quality:
    """Both are uncertain: their errors add up as those of independent samples do."""
    if greater_is_better:
        worse = before.value - now.value
        noise = math.hypot(before.value - before.low, now.high - now.value)
    else:
        worse = now.value - before.value
        noise = math.hypot(before.high - before.value, now.value - now.low)
    return Quality(
        "performance" if kind == "performance" else "calibration", name,
        now.value, now.low, now.high, before.value, worse - SURELY * noise,
    )  # fmt: skip


def _size(bias: Interval, rmse: float) -> Interval:
    """How far off the mean is in either direction, as a share of the usual error."""
    half = (bias.high - bias.low) / 2
    size = abs(bias.value)
    unit = rmse or math.nan
    return Interval(size / unit, (size - half) / unit, (size + half) / unit)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
