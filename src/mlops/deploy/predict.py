"""The coming rows: scored for `mlops predict`, or published by key for `mlops features`."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops.base.errors import UserError
from mlops.contract.paths import BUNDLE
from mlops.data.coming import NothingComing as NothingComing
from mlops.deploy import manifest
from mlops.registry import store
from mlops.registry.pin import Pin

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.contract.project import Features
    from mlops.serving.model import Model

TABLE = "predictions"


class NothingPinned(UserError):
    """The environment pins no bundle yet."""


class Predicted(NamedTuple):
    """How many rows were scored and refused, of which days, by which pin, and where they are."""

    rows: int
    refused: int
    days: tuple[dt.date, dt.date]
    pin: Pin
    place: str

    @property
    def line(self) -> str:
        """The result in one line."""
        first, last = self.days
        span = str(first) if first == last else f"{first} to {last}"
        refused = f", {self.refused:,} refused (column `refused`)" if self.refused else ""
        return f"{self.pin.short}: {self.rows:,} rows of {span} predicted{refused}: {self.place}"


def predict(
    params: Any,
    root: Path,
    environment: str,
    first: dt.date | None = None,
    last: dt.date | None = None,
) -> Predicted:
    """Score the rows of some days with the pinned bundle; by default of those to come.

    Features are as of the first day, from the source as it is now. Each day is replaced whole in
    the sink. Raises UserError, and NothingPinned before anything is released.
    """
    from mlops.data import coming, sinks
    from mlops.serving import model

    pin = _pin(root, environment)
    replace = sinks.sink(params.predict.sink)
    loaded = model.load(store.fetch(pin, root) / BUNDLE, str(pin.version))
    tables = coming.refresh(params, root)
    days = tables.days(first, last)
    spec, features = tables.features(days[0], days[-1])
    _require_columns(features.column_names, loaded)
    location = params.predict.location.replace("{environment}", environment)
    rows = refused = 0
    for day in days:
        own = _of(features, spec, day)
        if not len(own):
            continue
        table = predictions(own, spec, loaded, pin, day)
        replace(location, TABLE, day, table.to_reader())
        scored = table.column("refused").null_count
        rows, refused = rows + scored, refused + len(table) - scored
    if not rows + refused:
        last_rows = f"the source's last are of {tables.last}"
        raise NothingComing(f"no rows from {days[0]} to {days[-1]}; {last_rows}")
    return Predicted(rows, refused, (days[0], days[-1]), pin, f"{location}/{TABLE}")


def predictions(rows: pa.Table, spec: Features, model: Model, pin: Pin, day: dt.date) -> pa.Table:
    """The predictions of a day's features, in the columns that every sink has.

    `key`, `day`, the bundle's outputs, its decision or class, `refused`, `model`, `version`,
    `digest`, `made_at`.
    """
    import pyarrow as pa

    from mlops.serving import batch

    made = dt.datetime.now(dt.UTC)
    read = (*model.numeric, *model.categorical)
    inputs = rows.select([name for name in rows.column_names if name in read])
    scored = [table for table, _ in batch.scored(inputs.to_batches(), model, "features")]
    outputs = pa.concat_tables(scored)
    columns: dict[str, Any] = {
        "key": rows.column(spec.key),
        "day": pa.array([day] * len(rows), pa.date32()),
    }
    columns |= {n: outputs.column(n) for n in outputs.column_names if n not in inputs.column_names}
    for name, value in (
        ("model", pin.model), ("version", pin.version), ("digest", pin.digest), ("made_at", made),
    ):  # fmt: skip
        scalar = pa.scalar(value, pa.timestamp("us", "UTC") if name == "made_at" else None)
        columns[name] = pa.repeat(scalar, len(rows))
    return pa.table(columns)


def publish(params: Any, root: Path, kind: str, location: str) -> str:
    """Publish the features of the coming rows by key; gives a line that says how many."""
    from mlops.data import coming
    from mlops.serving import stores

    target, made = stores.store(kind), time.time()
    tables = coming.refresh(params, root)
    days = tables.days(None, None)
    spec, features = tables.features(days[0], days[-1])
    texts = tuple(name for name in spec.features if spec.is_category(name))
    columns = stores.Columns(tuple(n for n in spec.features if n not in texts), texts)
    rows = stores.packed(features.to_batches(), spec.key, columns, made)
    target.publish(location, columns, rows, made)
    return f"features of {len(features):,} keys of {days[0]} to {days[-1]}: {kind}: {location}"


def _pin(root: Path, environment: str) -> Pin:
    pin = manifest.load(root, environment).pin
    if pin is None:
        raise NothingPinned(f"{manifest.path(environment)}: pins nothing to predict with")
    return pin


def _of(features: pa.Table, spec: Features, day: dt.date) -> pa.Table:
    """The rows of one day; they are in the order of days."""
    import pyarrow.compute as pc

    days = features.column(str(spec.day)).cast("date32")
    return features.filter(pc.equal(days, day))


def _require_columns(names: list[str], model: Model) -> None:
    """Raise UserError for a column that the bundle reads and this code does not make."""
    for name in (*model.numeric, *model.categorical):
        if name not in names and name not in model.card.optional:
            raise UserError(
                f"features: no column {name!r}, which bundle {model.digest[:12]} reads; predict "
                "with the code of the commit that released it"
            )
