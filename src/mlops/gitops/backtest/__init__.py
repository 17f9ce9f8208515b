"""`mlops backtest`: what an environment's models would have predicted on past days, and how well.

Days are predicted as `mlops predict` does it: features as of a morning, with what the environment
pinned then. Metrics of days that a model was trained on stand apart from all others.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError
from mlops.base.files import require_own, whole_folder
from mlops.contract import dataset
from mlops.contract.paths import BUNDLE
from mlops.data import coming
from mlops.data.as_of import ONE_DAY, Span
from mlops.deploy import manifest, predict
from mlops.evaluation import own_metrics
from mlops.gitops import pins
from mlops.gitops.backtest.content import PERIOD_DAYS, Content, Group, Scope
from mlops.registry import store

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from mlops.contract.bundle import Card
    from mlops.contract.project import Features
    from mlops.evaluation.metrics import Interval
    from mlops.registry.pin import Pin
    from mlops.serving.model import Model

FOLDER = Path(".run/backtest")
WRITTEN = r"report\.html|over_time\.csv|predictions\.parquet"


def run(params: Any, root: Path, scope: Scope) -> str:
    """Write the report, the metrics over time and the predictions; gives the result in one line.

    Raises UserError for days that are none, or without a pin, an outcome or a row, and for a file
    in the report's folder that is not its own.
    """
    from mlops.gitops.backtest import page

    if scope.first > scope.last:
        raise UserError(f"--from: found {scope.first}, expected a day up to --to, {scope.last}")
    folder = root / FOLDER / scope.environment
    require_own(folder, WRITTEN)
    chosen = _pins(root, scope)
    models = _models(root, chosen)
    own = own_metrics.load(params.evaluate.metrics, "params.yaml: evaluate.metrics")
    rows, counts = _predicted(params, root, scope, chosen, models)
    content = _content(params, scope, chosen, models, rows, counts, own)
    with whole_folder(folder, WRITTEN) as written:
        rows.to_parquet(written / "predictions.parquet", index=False)
        page.table(content.periods).to_csv(written / "over_time.csv", index=False)
        (written / "report.html").write_text(page.render(content), encoding="utf-8")
    return f"{page.summary(content)}: {folder / 'report.html'}"


def _pins(root: Path, scope: Scope) -> list[Pin]:
    """What the environment pinned on the morning of each span, or pins now.

    Raises UserError where that is nothing.
    """
    place = manifest.path(scope.environment)
    now = manifest.load(root, scope.environment).pin
    if scope.current:
        if now is None:
            raise UserError(f"{place}: pins nothing to predict with")
        return [now] * len(scope.spans)
    history, found = list(pins.history(root, "HEAD", scope.environment)), []
    for day in (span.known for span in scope.spans):
        morning = dt.datetime.combine(day, dt.time(), dt.UTC).timestamp()
        pinned = next((pin for change, pin in history if change.time < morning), None)
        if pinned is None:
            first = min((change.day for change, pin in history if pin), default=None)
            since = f"its first pin is of {first}" if first else "it never pinned anything"
            cure = "--current predicts with what it pins now"
            raise UserError(f"{place}: pinned nothing on the morning of {day}; {since}; {cure}")
        found.append(pinned)
    return found


def _models(root: Path, chosen: Sequence[Pin]) -> dict[str, Model]:
    """The bundles of these pins, by digest. Raises UserError where their metrics would differ."""
    from mlops.serving import model

    models = {
        digest: model.load(store.fetch(pin, root) / BUNDLE, str(pin.version))
        for digest, pin in {pin.digest: pin for pin in chosen}.items()
    }
    first, *others = (one.card for one in models.values())
    for card in others:
        if (card.task, card.class_names) != (first.task, first.class_names):
            found = f"{card.task} {', '.join(card.class_names)}"
            expected = f"{first.task} {', '.join(first.class_names)} as of the first pin"
            raise UserError(f"backtest: found a model of {found}, expected {expected}")
    return models


def _predicted(
    params: Any, root: Path, scope: Scope, chosen: Sequence[Pin], models: dict[str, Model]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Each row's key, day, outcome, prediction, model, and whether that was trained on its day.

    Rows without a prediction or an outcome are counted alone.
    """
    import pyarrow as pa

    with coming.refreshed(params, root) as tables:
        since = tables.ingested.since
        if scope.last > tables.known:
            expected = f"expected at most {tables.known}, the last day with outcomes"
            raise UserError(f"--to: found {scope.last}, {expected}")
        if since and scope.first < since:
            raise UserError(
                f"--from: found {scope.first}, expected at least {since}, the first day"
            )
        whole = Span(scope.first, scope.last, tables.known + ONE_DAY)
        made = tables.features([whole, *scope.spans])
        spec, later = next(made)
        outcomes = later.select([spec.key, spec.target]).to_pandas().set_index(spec.key)
        scored = [
            table
            for pin, (_, features) in zip(chosen, made, strict=True)
            for table in _scored(features, spec, models[pin.digest], pin)
        ]
    if not scored:
        raise UserError(f"no rows from {scope.first} to {scope.last}; expected days with rows")
    frame = pa.concat_tables(scored).to_pandas()
    refused = frame.pop("refused").notna()
    frame.insert(2, "outcome", frame["key"].map(outcomes[spec.target]))
    unknown = frame["outcome"].isna() & ~refused
    counts = {
        "predicted": len(frame), "refused": int(refused.sum()),
        "without an outcome": int(unknown.sum()),
        "there only later": int((~outcomes.index.isin(frame["key"])).sum()),
    }  # fmt: skip
    frame = frame[~refused & ~unknown].reset_index(drop=True)
    if frame.empty:
        raise UserError(f"no rows from {scope.first} to {scope.last} have a known outcome")
    card = next(iter(models.values())).card
    values = frame.rename(columns={"outcome": spec.target})
    frame["outcome"] = dataset.target(values, spec, card.class_names)
    return frame, counts


def _scored(features: pa.Table, spec: Features, model: Model, pin: Pin) -> Iterator[pa.Table]:
    """The predictions of each day of these features, as `mlops predict` makes them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for day in pc.unique(features.column(str(spec.day)).cast("date32")).to_pylist():
        own = predict.of_day(features, spec, day)
        table = predict.predictions(own, spec, model, pin, day)
        is_trained = pa.scalar(was_trained_on(model.card, day))
        table = table.select(["key", "day", *model.card.outputs, "refused", "digest"])
        yield table.append_column("trained_on", pa.repeat(is_trained, len(table)))


def was_trained_on(card: Card, day: dt.date) -> bool:
    """Whether a day lies inside a model's training data; where its card says no days, it may."""
    since, until = (card.trained_on.get(name) for name in ("since", "until"))
    return not (since and until) or str(since) <= str(day) <= str(until)


def _content(
    params: Any, scope: Scope, chosen: Sequence[Pin], models: dict[str, Model],
    rows: pd.DataFrame, counts: dict[str, int], own: Sequence[own_metrics.OwnMetric],
) -> Content:  # fmt: skip
    """Measure the rows of each period, of each model, and all that no model was trained on."""
    from mlops.evaluation import metrics

    last = models[chosen[-1].digest].card

    def measured(group: pd.DataFrame, card: Card) -> dict[str, Interval]:
        prediction = group[list(card.outputs)].to_numpy()
        return metrics.intervals(
            card.task, group["outcome"].to_numpy(),
            prediction if card.task == "multiclass" else prediction[:, 0], card.threshold,
            clusters=group["day"].to_numpy(), draws=params.evaluate.draws, seed=params.seed,
            own=own,
        )  # fmt: skip

    def grouped(by: Any) -> list[Group]:
        return [
            Group(group["day"].min(), group["day"].max(), digest, bool(is_trained), len(group),
                  measured(group, models[digest].card))
            for (digest, is_trained, *_), group in rows.groupby(by, sort=False)
        ]  # fmt: skip

    of_model = [rows["digest"], rows["trained_on"]]
    changes = (rows[["digest", "trained_on"]] != rows[["digest", "trained_on"]].shift()).any(axis=1)
    run = changes.cumsum()
    day = rows["day"].ne(rows["day"].shift()).groupby(run).cumsum()
    others = rows[~rows["trained_on"]]
    # The main metric needs no threshold, which models may differ in.
    main = measured(others, last)[metrics.main_metric(last.task)[0]] if len(others) else None
    return Content(
        scope, last, {pin.digest: pin for pin in chosen},
        grouped([*of_model, run, (day - 1) // PERIOD_DAYS]), grouped(of_model), main, counts,
    )  # fmt: skip
