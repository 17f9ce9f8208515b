"""Evaluate: score the bundle itself on the holdout, and write the evidence."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Evaluation:
    """The holdout's rows, their outcomes and predictions, and the metrics of these."""

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
    evaluation = _evaluate(scorer, spec, params, root)
    content = _report_content(evaluation, scorer.card, spec, root)
    result = _summary(evaluation, scorer.card.task)
    with whole_folder(root / EVIDENCE) as folder:
        write_metrics(folder, evaluation.metrics, evaluation.baselines)
        _predictions(evaluation, spec).to_parquet(folder / HOLDOUT, index=False)
        _write_tables(folder, content)
        (folder / REPORT).write_text(page.render(content), encoding="utf-8")
        result.save(folder)
    tracking.tolerant(tracking.evidence, params.model, root)
    return result


def write_metrics(
    folder: Path, measured: dict[str, Interval], baselines: dict[str, dict[str, float]]
) -> None:
    """Write the metrics as JSON; one that the rows leave undefined is null."""
    import msgspec

    content = {"holdout": measured, "baselines": baselines}
    write_json(folder / METRICS, msgspec.json.decode(msgspec.json.encode(content)))


def _evaluate(
    scorer: bundle.Scorer, spec: project.Features, params: Params, root: Path
) -> Evaluation:
    from mlops.evaluation import baselines, metrics, own_metrics

    own = own_metrics.load(params.evaluate.metrics, "params.yaml: evaluate.metrics")
    task, threshold = scorer.card.task, scorer.card.threshold
    training = dataset.read(root / FEATURES / dataset.TRAINING)
    holdout = dataset.read(root / FEATURES / dataset.HOLDOUT)
    frame = dataset.inputs(holdout, spec)
    outcome = dataset.target(holdout, spec, task).to_numpy()
    prediction = scorer.predict(frame)
    return Evaluation(
        holdout,
        outcome,
        prediction,
        metrics.intervals(
            task,
            outcome,
            prediction,
            threshold,
            draws=params.evaluate.draws,
            seed=params.seed,
            own=own,
        ),
        baselines.score(training, holdout, spec, task, threshold, own),
        _importance(scorer, frame, outcome, params),
    )


def _importance(
    scorer: bundle.Scorer, frame: pd.DataFrame, outcome: Array, params: Params
) -> pd.DataFrame:
    """Importance on evenly spread rows: on all of them it would take long and differ little."""
    import numpy as np

    from mlops.evaluation import metrics

    count = min(len(frame), params.evaluate.importance_rows)
    rows = np.unique(np.linspace(0, len(frame) - 1, count, dtype=int))
    return metrics.permutation_importance(
        scorer.predict,
        frame.iloc[rows],
        outcome[rows],
        scorer.card.task,
        repeats=params.evaluate.importance_repeats,
        seed=params.seed,
    )


def _report_content(
    evaluation: Evaluation, card: bundle.Card, spec: project.Features, root: Path
) -> ReportContent:
    from mlops.evaluation import metrics
    from mlops.evaluation.report import curves
    from mlops.evaluation.report.content import ReportContent

    scored = card.task, evaluation.outcome, evaluation.prediction
    slices = evaluation.holdout[list(spec.slices)]
    return ReportContent(
        title=f"{card.name}: evaluation on the holdout",
        task=card.task,
        model=_facts(evaluation, card, spec, root),
        metrics=evaluation.metrics,
        baselines=evaluation.baselines,
        curves=curves.curves(*scored, card.threshold),
        slices=metrics.by_slice(*scored, slices, card.threshold),
        importance=evaluation.importance,
        search=_search_history(root),
        dropped=read_json(root / FEATURES / RESULT)["dropped"],
    )


def _facts(
    evaluation: Evaluation, card: bundle.Card, spec: project.Features, root: Path
) -> ModelFacts:
    from mlops.evaluation.report.content import ModelFacts

    days = evaluation.holdout[spec.day].dt.date
    return ModelFacts(
        name=card.name,
        family=card.family,
        hyperparameters=card.hyperparameters,
        bundle_digest=bundle.digest(root / BUNDLE),
        train_dates=(card.trained_on["since"], card.trained_on["until"]),
        holdout_dates=(str(days.min()), str(days.max())),
        train_rows=card.trained_on["rows"],
        holdout_rows=len(evaluation.holdout),
        label_rate=float(evaluation.outcome.mean()) if card.task == "binary" else None,
        threshold=card.threshold,
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


def _summary(evaluation: Evaluation, task: project.Task) -> Evaluated:
    from mlops.evaluation.metrics import main_metric

    name, _ = main_metric(task)
    return Evaluated(
        metric=name,
        **vars(evaluation.metrics[name]),
        baselines={baseline: scores[name] for baseline, scores in evaluation.baselines.items()},
        rows=len(evaluation.holdout),
    )


def _predictions(evaluation: Evaluation, spec: project.Features) -> pd.DataFrame:
    """One row per holdout row: its key, its outcome and its prediction."""
    table = evaluation.holdout[[spec.key, spec.day]].assign(outcome=evaluation.outcome)
    return dataset.with_prediction(table, evaluation.prediction)


def _write_tables(folder: Path, content: ReportContent) -> None:
    """The report's tables as CSV, for `dvc plots` and other tools."""
    tables = {**content.curves, "slices": content.slices, "importance": content.importance,
              "search": content.search}  # fmt: skip
    (folder / "plots").mkdir()
    for name, table in tables.items():
        if table is not None:
            table.to_csv(folder / "plots" / f"{name}.csv", index=False)


if __name__ == "__main__":
    stage.main("evaluate", run, Params)
