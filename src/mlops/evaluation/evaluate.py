"""Evaluate: score the bundle itself on the holdout, and write the evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlops.base.files import read_json, whole_folder, write_json
from mlops.contract import bundle, dataset, project
from mlops.contract.paths import BUNDLE, EVIDENCE, FEATURES, RESULT, SEARCH
from mlops.contract.result import TRIALS, Result, Tuned
from mlops.evaluation.params import Params
from mlops.pipeline import stage

if TYPE_CHECKING:
    import pandas as pd

    from mlops.evaluation.metrics import Interval
    from mlops.evaluation.report.content import Content

METRICS = "metrics.json"
HOLDOUT = "holdout.parquet"
REPORT = "report.html"


class Evaluated(Result):
    """The main metric on the holdout with its 95 % interval, and the baselines' values of it.

    `few` says of what the holdout has too few for an interval; "" when it has enough.
    """

    metric: str
    value: float
    low: float
    high: float
    baselines: dict[str, float]
    rows: int
    few: str = ""


def run(params: Params, root: Path) -> Evaluated:
    """Write metrics with intervals, predictions, plot data, slices, importance and the report."""
    from mlops.evaluation.metrics import main_metric
    from mlops.evaluation.report import page
    from mlops.pipeline import tracking

    content, predictions = _evaluate(params, root)
    name, _ = main_metric(content.card.task)
    result = Evaluated(
        metric=name,
        **vars(content.metrics[name]),
        baselines={baseline: scores[name] for baseline, scores in content.baselines.items()},
        rows=content.rows,
        few=content.few,
    )
    with whole_folder(root / EVIDENCE) as folder:
        write_metrics(folder, content.metrics, content.baselines)
        predictions.to_parquet(folder / HOLDOUT, index=False)
        # The report's tables as CSV, for `dvc plots` and other tools.
        (folder / "plots").mkdir()
        for table, rows in content.tables.items():
            rows.to_csv(folder / "plots" / f"{table}.csv", index=False)
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


def _evaluate(params: Params, root: Path) -> tuple[Content, pd.DataFrame]:
    """The report's content; and each holdout row's key, day, outcome and prediction."""
    from mlops.evaluation import baselines, bounds, metrics, own_metrics
    from mlops.evaluation.report import curves
    from mlops.evaluation.report.content import Content

    settings, spec = params.evaluate, project.features(params.project)
    own = own_metrics.load(settings.metrics, "params.yaml: evaluate.metrics")
    scorer = bundle.Scorer(root / BUNDLE)
    task, threshold = scorer.card.task, scorer.card.threshold
    training = dataset.read(root / FEATURES / dataset.TRAINING)
    holdout = dataset.read(root / FEATURES / dataset.HOLDOUT)
    classes = scorer.card.class_names
    outcome = dataset.target(holdout, spec, classes)
    inputs = dataset.inputs(holdout, spec)
    scored = task, outcome, scorer.predict(inputs)
    clusters = dataset.clusters(holdout, spec)
    days = holdout[spec.day].dt.date if spec.day else None
    content = Content(
        card=scorer.card,
        digest=bundle.digest(root / BUNDLE),
        days=None if days is None else (str(days.min()), str(days.max())),
        rows=len(holdout),
        label_rate=float(outcome.mean()) if task == "binary" else None,
        sample=Tuned.load(root / SEARCH).sample,
        few=bounds.support(*scored[:2], [(scored[2], threshold)], clusters).few,
        metrics=metrics.intervals(
            *scored, threshold, clusters=clusters, draws=settings.draws, seed=params.seed, own=own
        ),
        baselines=baselines.score(training, holdout, spec, task, classes, own),
        tables={
            **curves.curves(*scored, threshold),
            "slices": metrics.by_slice(
                *scored, holdout[list(spec.slices)], threshold, clusters=clusters
            ),
            "importance": metrics.permutation_importance(
                scorer.predict, inputs, outcome, task, rows=settings.importance_rows,
                repeats=settings.importance_repeats, seed=params.seed,
            ),
            "search": _search_history(root),
        },
        dropped=read_json(root / FEATURES / RESULT)["dropped"],
    )  # fmt: skip
    table = holdout[list(dict.fromkeys([spec.key, *spec.order]))].assign(outcome=outcome)
    return content, dataset.with_prediction(table, scored[2])


def _search_history(root: Path) -> pd.DataFrame:
    import pandas as pd

    trials = pd.DataFrame(read_json(root / SEARCH / TRIALS))
    # The first look of a trial that was given up is no loss over the folds.
    trials["loss"] = trials["loss"].where(~trials["given_up"])
    trials["best_so_far"] = trials["loss"].cummin().ffill()
    trials["trial"] = range(len(trials))
    return trials.rename(columns={"loss": "score"})[["trial", "family", "score", "best_so_far"]]


if __name__ == "__main__":
    stage.main("evaluate", run, Params)
