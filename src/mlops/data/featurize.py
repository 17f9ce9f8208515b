"""Featurize: run the project's PySpark code on the raw tables, and set the holdout apart."""

from __future__ import annotations

import datetime as dt
from collections import UserDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError
from mlops.base.files import whole_folder
from mlops.contract import dataset, project
from mlops.contract.dataset import HOLDOUT, TRAINING, names, rounded, typed, write
from mlops.contract.paths import FEATURES, RAW, not_found
from mlops.contract.result import Result
from mlops.data import engine
from mlops.data.ingest import Ingested
from mlops.data.params import Params
from mlops.pipeline import stage

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# A regression has more values than these that only its holdout has.
MOST_UNSEEN = 5


class Featurized(Result):
    """Rows of each part, what was left out and why, null shares and the target's mean.

    `rounded`: of how many different values of a feature float32 keeps how many. `unseen`: the
    target's values that only the holdout has, where they may be classes.
    `unused_tables` are the raw tables that the project's features did not look at.
    """

    rows: dict[str, int]
    dropped: dict[str, int]
    days: dict[str, tuple[dt.date, dt.date]]
    null_share: dict[str, float]
    target_mean: dict[str, float]
    features: int
    rounded: dict[str, tuple[int, int]]
    unseen: tuple[str, ...]
    unused_tables: tuple[str, ...] = ()


def run(params: Params, root: Path) -> Featurized:
    """Write `training.parquet` and `holdout.parquet`, rows ordered by day and key."""
    spec, rows, unused = _built(params, root)
    table = typed(rows, spec)
    known = table[table[spec.target].notna()]
    _require_unique(table, spec.key)
    _require_two_outcomes(known, spec)
    held_out, place = _held_out(known, spec, params, Ingested.load(root / RAW).until)
    parts = {"training": known[~held_out], "holdout": known[held_out]}
    for name, part in parts.items():
        if part.empty:
            raise UserError(f"{place} leaves the {name} part without rows")
        if part[spec.target].nunique() < 2:
            raise UserError(
                f"{place} leaves the {name} part with one outcome of {spec.target}, "
                f"{part[spec.target].iloc[0]}, expected at least two"
            )
    result = _summary(parts, spec, len(table) - len(known), rounded(rows, spec), unused)
    with whole_folder(root / FEATURES) as folder:
        write(parts["training"], folder / TRAINING)
        write(parts["holdout"], folder / HOLDOUT)
        result.save(folder)
    return result


def _held_out(
    known: pd.DataFrame, spec: project.Features, params: Params, until: dt.date | None
) -> tuple[dataset.Array, str]:
    """Which rows are held out, and how a refusal of it begins."""
    days, share = params.split.holdout_days, params.split.holdout_share
    if spec.day is None:
        by = spec.group or spec.key
        return (
            known[by].map(str).pipe(dataset.share, "holdout") < share,
            f"params.yaml: split.holdout_share: found {share:g}; a holdout by a hash of {by}",
        )
    if until is None:
        raise UserError(f"params.yaml: data.until: missing; expected the last known {spec.day}")
    first = until - dt.timedelta(days=days - 1)
    place = f"params.yaml: split.holdout_days: found {days}; a holdout from {first} to {until}"
    return (known[spec.day].dt.date >= first).to_numpy(), place


class _Tables(UserDict[str, Any]):
    """The raw tables by their names; it remembers those that were not asked for."""

    def __init__(self, tables: dict[str, Any]) -> None:
        super().__init__(tables)
        self.unused = sorted(tables)

    def __getitem__(self, name: str) -> Any:
        self.unused = [other for other in self.unused if other != name]
        return super().__getitem__(name)


def _built(params: Params, root: Path) -> tuple[project.Features, pa.Table, list[str]]:
    """The project's features as the engine makes them, in no order, and the tables not used."""
    session = engine.start(params.engine)
    # The folders that ingest wrote, one for each table.
    folders = sorted(path for path in (root / RAW).glob("*") if path.is_dir())
    if not folders:
        raise UserError(not_found(root / RAW))
    raw = _Tables({folder.name: engine.read(session, folder) for folder in folders})
    project.forget(params.project)
    with engine.engine_as_pyspark(params.engine):
        spec = project.features(params.project)
        with project.own_code(params.project, "features"):
            return spec, engine.collect(spec.build(raw)), raw.unused


def _require_unique(table: pd.DataFrame, key: str) -> None:
    twice = table[key][table[key].duplicated()]
    if len(twice):
        raise UserError(
            f"features: {key}: {len(twice)} rows share a key, such as {twice.iloc[0]!r}"
        )


def _require_two_outcomes(known: pd.DataFrame, spec: project.Features) -> None:
    outcomes = known[spec.target].unique()
    if len(outcomes) < 2:
        found = f"only {outcomes[0]}" if len(outcomes) else "no outcome"
        raise UserError(
            f"features: {spec.target}: found {found}, expected at least two different outcomes"
        )


def _summary(
    parts: dict[str, pd.DataFrame],
    spec: project.Features,
    unknown: int,
    rounded: dict[str, tuple[int, int]],
    unused: list[str],
) -> Featurized:
    training, day, target = parts["training"], spec.day, spec.target
    dated = parts.items() if day else ()
    outcomes = {name: set(names(part[target])) for name, part in parts.items()}
    counted = training[target].dtype != object
    return Featurized(
        rows={n: len(rows) for n, rows in parts.items()},
        dropped={"without an outcome": unknown},
        days={n: (p[day].min().date(), p[day].max().date()) for n, p in dated},
        null_share={f: round(float(training[f].isna().mean()), 6) for f in spec.features},
        target_mean={
            n: round(float(part[target].mean()), 6) for n, part in parts.items() if counted
        },
        features=len(spec.features),
        rounded=rounded,
        unseen=tuple(sorted(outcomes["holdout"] - outcomes["training"])[:MOST_UNSEEN]),
        unused_tables=tuple(unused),
    )


if __name__ == "__main__":
    stage.main("featurize", run, Params)
