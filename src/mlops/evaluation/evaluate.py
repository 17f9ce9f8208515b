"""Evaluate: score the bundle, and nothing but the bundle, on the holdout; write the evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.base.files import read_json, whole_folder, write_json
from mlops.contract import bundle, dataset, project
from mlops.contract.bundle import Array
from mlops.contract.paths import BUNDLE, EVIDENCE, FEATURES, RESULT, SEARCH
from mlops.contract.result import Result
from mlops.contract.winner import TRIALS
from mlops.evaluation.params import Params
from mlops.pipeline import stage

if TYPE_CHECKING:
    import pandas as pd

    from mlops.evaluation.metrics import Interval
    from mlops.evaluation.report.content import ModelFacts, ReportContent

METRICS = "metrics.json"
HOLDOUT = "holdout.parquet"
REPORT = "report.html"


class Evaluated(Result):
    """The main metric on the holdout with its 95 % interval, and the baselines' values of it."""

    metric: str
    value: float
    low: float
    high: float
    baselines: dict[str, float]
    rows: int

    @property
    def line(self) -> str:
        known = ", ".join(f"{name} {value:.3f}" for name, value in self.baselines.items())
        return (
            f"holdout {self.metric} {self.value:.4f} ({self.low:.4f} to {self.high:.4f}) "
            f"on {self.rows:,} rows; {known}"
        )


@dataclass(frozen=True)
class Judgement:
    """The holdout's rows, what came of them, what the bundle said, and how well it said it."""

    holdout: pd.DataFrame
    outcome: Array
    prediction: Array
    metrics: dict[str, Interval]
    baselines: dict[str, dict[str, float]]
    importance: pd.DataFrame


def run(params: Params, root: Path) -> Evaluated:
    """Write metrics with intervals, predictions, plot data, slices, importance and the report."""
    from mlops.evaluation.report import page
    from mlops.pipeline import tracking

    spec = project.features(params.project)
    scorer = bundle.Scorer(root / BUNDLE)
    judged = _judged(scorer, spec, params, root)
    content = _report_content(judged, scorer.card, spec, root)
    result = _summary(judged, scorer.card.task)
    with whole_folder(root / EVIDENCE) as folder:
        _write_metrics(folder, judged.metrics, judged.baselines)
        _predictions(judged, spec).to_parquet(folder / HOLDOUT, index=False)
        _write_tables(folder, content)
        (folder / REPORT).write_text(page.render(content), encoding="utf-8")
        result.save(folder)
    tracking.tolerant(tracking.evidence, params.model, root)
    return result


def _judged(scorer: bundle.Scorer, spec: project.Features, params: Params, root: Path) -> Judgement:
    from mlops.evaluation import baselines, metrics

    task, threshold = scorer.card.task, scorer.card.threshold
    training = dataset.read(root / FEATURES / dataset.TRAINING)
    holdout = dataset.read(root / FEATURES / dataset.HOLDOUT)
    frame = dataset.inputs(holdout, spec)
    outcome = dataset.target(holdout, spec, task).to_numpy()
    prediction = scorer.predict(frame)
    return Judgement(
        holdout,
        outcome,
        prediction,
        metrics.intervals(
            task, outcome, prediction, threshold, draws=params.evaluate.draws, seed=params.seed
        ),
        baselines.score(training, holdout, spec, task, threshold),
        _importance(scorer, frame, outcome, params),
    )


def _report_content(
    judged: Judgement, card: bundle.Card, spec: project.Features, root: Path
) -> ReportContent:
    """All that the report shows."""
    from mlops.evaluation import metrics
    from mlops.evaluation.report import curves
    from mlops.evaluation.report.content import ReportContent

    outcome, prediction = judged.outcome, judged.prediction
    slices = judged.holdout[list(spec.slices)]
    return ReportContent(
        title=f"{card.name}: the holdout's verdict",
        task=card.task,
        model=_facts(judged, card, spec, root),
        metrics=judged.metrics,
        baselines=judged.baselines,
        curves=curves.curves(card.task, outcome, prediction, card.threshold),
        slices=metrics.by_slice(card.task, outcome, prediction, slices, card.threshold),
        importance=judged.importance,
        search=_search_history(root),
        dropped=read_json(root / FEATURES / RESULT)["dropped"],
    )


def _facts(judged: Judgement, card: bundle.Card, spec: project.Features, root: Path) -> ModelFacts:
    from mlops.evaluation.report.content import ModelFacts

    days = judged.holdout[spec.day].dt.date
    return ModelFacts(
        name=card.name,
        family=card.family,
        hyperparameters=card.hyperparameters,
        bundle_digest=bundle.digest(root / BUNDLE),
        train_dates=(card.trained_on["since"], card.trained_on["until"]),
        holdout_dates=(str(days.min()), str(days.max())),
        train_rows=card.trained_on["rows"],
        holdout_rows=len(judged.holdout),
        label_rate=float(judged.outcome.mean()) if card.task == "binary" else None,
        threshold=card.threshold,
    )


def _importance(
    scorer: bundle.Scorer, frame: pd.DataFrame, outcome: Array, params: Params
) -> pd.DataFrame:
    """Importance on evenly spread rows: all of them would cost more than they would tell."""
    import numpy as np

    from mlops.evaluation import metrics

    wanted = min(len(frame), params.evaluate.importance_rows)
    rows = np.unique(np.linspace(0, len(frame) - 1, wanted, dtype=int))
    return metrics.permutation_importance(
        scorer.predict,
        frame.iloc[rows],
        outcome[rows],
        scorer.card.task,
        repeats=params.evaluate.importance_repeats,
        seed=params.seed,
    )


def _search_history(root: Path) -> pd.DataFrame:
    import pandas as pd

    trials = pd.DataFrame(read_json(root / SEARCH / TRIALS))
    best = trials["loss"].where(~trials["given_up"]).cummin()
    return pd.DataFrame(
        {
            "trial": range(len(trials)),
            "family": trials["family"],
            "score": trials["loss"],
            "best_so_far": best,
        }
    )


def _summary(judged: Judgement, task: project.Task) -> Evaluated:
    from mlops.evaluation.metrics import main_metric

    name, _ = main_metric(task)
    main = judged.metrics[name]
    return Evaluated(
        metric=name,
        value=main.value,
        low=main.low,
        high=main.high,
        baselines={baseline: scores[name] for baseline, scores in judged.baselines.items()},
        rows=len(judged.holdout),
    )


def _write_metrics(
    folder: Path, measured: dict[str, Interval], baselines: dict[str, dict[str, float]]
) -> None:
    write_json(
        folder / METRICS,
        {
            "holdout": {name: _defined(asdict(interval)) for name, interval in measured.items()},
            "baselines": {name: _defined(scores) for name, scores in baselines.items()},
        },
    )


def _defined(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN: a number that the rows leave undefined is null."""
    return {name: None if math.isnan(number) else number for name, number in numbers.items()}


def _predictions(judged: Judgement, spec: project.Features) -> pd.DataFrame:
    """One row per holdout row: its key, its outcome, and what the bundle said of it."""
    table = judged.holdout[[spec.key, spec.day]].assign(outcome=judged.outcome)
    return dataset.with_prediction(table, judged.prediction)


def _write_tables(folder: Path, content: ReportContent) -> None:
    """The report's tables as CSV, for `dvc plots` and for whoever wants the numbers."""
    tables = {**content.curves, "slices": content.slices, "importance": content.importance,
              "search": content.search}  # fmt: skip
    (folder / "plots").mkdir()
    for name, table in tables.items():
        if table is not None:
            table.to_csv(folder / "plots" / f"{name}.csv", index=False)


if __name__ == "__main__":
    stage.main("evaluate", run, Params)
