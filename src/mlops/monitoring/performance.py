"""Metrics of the labelled rows, beside the evidence that the bundle was released on."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.base.files import read_json
from mlops.contract.bundle import Array, Card
from mlops.contract.paths import EVIDENCE
from mlops.evaluation.metrics import Interval
from mlops.monitoring import logs
from mlops.monitoring.assessment import Quality, Quantity

if TYPE_CHECKING:
    import duckdb

METRICS = EVIDENCE / "metrics.json"
# From the half width of a 95 % interval to three standard deviations, as for drift.
THREE_SIGMAS = 3 / 1.96
# Simulations of the calibration error that chance alone makes.
DRAWS = 20
UNDEFINED = Interval(math.nan, math.nan, math.nan)
Evidence = dict[str, Interval]


def evidence(workspace: Path) -> Evidence:
    """Read the metrics of the bundle's holdout; empty where its evidence is absent."""
    path = workspace / METRICS
    if not path.exists():
        return {}
    return {
        name: Interval(**{k: math.nan if v is None else float(v) for k, v in interval.items()})
        for name, interval in read_json(path)["holdout"].items()
    }


def measure(
    database: duckdb.DuckDBPyConnection, where: str, card: Card, evidence: Evidence
) -> dict[str, Any]:
    """Measure the main metric and the calibration of the labelled rows that meet an SQL condition:
    `qualities` of a window, and what is too `few` for them.

    A metric that these rows, or the evidence, leave undefined or without an interval is left out.
    """
    from mlops.evaluation import bounds, metrics

    outputs = [f"o{i}" for i in range(len(card.outputs))]
    complete = " AND ".join(f"{name} IS NOT NULL" for name in outputs)
    columns = ["label", "floor(time / 3600) AS hour", *outputs]
    table = logs.sample(database, columns, "labelled", f"{where} AND {complete}")
    prediction = table[outputs].to_numpy(dtype="float64")
    if card.task != "multiclass":
        prediction = prediction[:, 0]
    label, hours = table["label"].to_numpy(), table["hour"].to_numpy()
    # Rows of one hour depend on one another; a window has too few days to be clusters.
    now = metrics.intervals(card.task, label, prediction, card.threshold, clusters=hours)
    support = bounds.support(card.task, label, [(prediction, card.threshold)], hours)
    of_class = " of the rarest class" if support.whole >= bounds.FEWEST else ""
    few = f"labelled rows{of_class} in {support.rarest if of_class else support.whole} hours"
    return {
        "qualities": qualities(card, now, evidence, chance_calibration_error(card, prediction)),
        "few": f"{few}, at least {bounds.FEWEST} needed" if support.rarest < bounds.FEWEST else "",
    }


def qualities(card: Card, now: Evidence, before: Evidence, chance: float) -> tuple[Quality, ...]:
    """Compare the main metric and the calibration (less what chance makes) with the evidence."""
    from mlops.evaluation.metrics import main_metric

    name, greater_is_better = main_metric(card.task)
    main = now[name], before.get(name, UNDEFINED)
    error = "bias" if card.task == "regression" else "calibration_error"
    errors = now[error], before.get(error, UNDEFINED)
    if card.task == "regression":
        # Against the evidence's root mean squared error, the main metric of regression.
        error, rmse = "|bias| / rmse", main[1].value
        errors = _relative_size(errors[0], rmse), _relative_size(errors[1], rmse)
    calibration = _compare("calibration", error, *errors, False)
    measured = (
        _compare("performance", name, *main, greater_is_better),
        replace(calibration, worse=calibration.worse - chance),
    )
    return tuple(quality for quality in measured if not math.isnan(quality.worse))


def chance_calibration_error(card: Card, prediction: Array) -> float:
    """Simulate the calibration error of perfectly calibrated predictions: never 0 on few rows."""
    from mlops.evaluation import metrics

    if card.task == "regression":
        return 0.0
    generator = np.random.default_rng(0)
    binary = prediction.ndim == 1
    ends = 1 - prediction[:, None] if binary else prediction.cumsum(axis=1)[:, :-1]
    errors = []
    for _ in range(DRAWS):
        outcome = (generator.random((len(ends), 1)) > ends).sum(axis=1).astype(np.float64)
        scores = metrics.score(card.task, outcome, prediction, card.threshold)
        errors.append(scores["calibration_error"])
    return float(np.mean(errors))


def _compare(
    kind: Quantity, name: str, now: Interval, before: Interval, greater_is_better: bool
) -> Quality:
    """Both are uncertain: their errors add up as those of independent samples do."""
    less, more = (now, before) if greater_is_better else (before, now)
    noise = math.hypot(less.high - less.value, more.value - more.low)
    bound = more.value - less.value - THREE_SIGMAS * noise
    return Quality(kind, name, **vars(now), before=before.value, worse=bound)


def _relative_size(bias: Interval, rmse: float) -> Interval:
    """The absolute bias as a share of the root mean squared error."""
    size, half, unit = abs(bias.value), (bias.high - bias.low) / 2, rmse or math.nan
    return Interval(size / unit, (size - half) / unit, (size + half) / unit)
