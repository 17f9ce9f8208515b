"""The coming rows: scored for `mlops predict`, or published by key for `mlops features`."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops.base.errors import UserError, listed
from mlops.contract import bundle
from mlops.contract.paths import BUNDLE
from mlops.deploy import manifest
from mlops.forge import git
from mlops.registry import store
from mlops.registry.pin import Pin

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.contract.bundle import Card
    from mlops.contract.project import Features
    from mlops.serving.model import Model

TABLE = "predictions"


class Rows(NamedTuple):
    """The features of some days of the source, as of the first of them.

    `made` is when the source was read, in seconds since 1970; `note` is what to say of it.
    """

    spec: Features
    days: list[dt.date]
    features: pa.Table
    made: float
    note: str = ""


class Predicted(NamedTuple):
    """How many rows were scored and refused, of which days, by which pin, and where they are.

    `notes` are what to say of it besides.
    """

    rows: int
    refused: int
    days: list[dt.date]
    pin: Pin
    place: str
    notes: str

    @property
    def line(self) -> str:
        """The result in one line."""
        first, last = self.days[0], self.days[-1]
        span = str(first) if first == last else f"{first} to {last}"
        refused = f", {self.refused:,} refused (column `refused`)" if self.refused else ""
        done = f"{self.rows:,} rows of {span} predicted{refused}"
        return f"{self.pin.short}: {done}: {self.place}{self.notes}"


def rows(
    params: Any, root: Path, first: dt.date | None = None, last: dt.date | None = None
) -> Rows:
    """The features of some days, from the source as it is now; by default of those to come.

    Raises UserError, and NothingComing where there are no rows.
    """
    from mlops.data import coming
    from mlops.data.as_of import Span

    made = time.time()
    with coming.refreshed(params, root) as tables:
        days = tables.days(first, last)
        span = Span(days[0], min(days[-1], tables.last), days[0])
        ((spec, features),) = tables.features([span])
    if not len(features):
        raise tables.no_rows(days[0], days[-1])
    return Rows(spec, days, features, made, tables.note)


def predict(params: Any, root: Path, environment: str, made: Callable[[], Rows]) -> Predicted:
    """Score the rows that `made` gives with the pinned bundle, once all else is known to be there.

    Each day is replaced whole in the sink. Raises UserError, before anything is released too.
    """
    from mlops.data import sinks
    from mlops.serving import model

    pin = manifest.load(root, environment).pin
    if pin is None:
        raise UserError(f"{manifest.path(environment)}: pins nothing to predict with")
    replace = sinks.sink(params.predict.sink)
    loaded = model.load(store.fetch(pin, root) / BUNDLE, str(pin.version))
    spec, days, features, _, note = made()
    location = params.predict.location.replace("{environment}", environment)
    scored = refused = 0
    parts = {day: of_day(features, spec, day) for day in days}
    written = [day for day, own in parts.items() if len(own)]
    for day in written:
        table = predictions(parts[day], spec, loaded, pin, day)
        replace(location, TABLE, day, table.to_reader())
        good = table.column("refused").null_count
        scored, refused = scored + good, refused + len(table) - good
    empty = [str(day) for day in days if day not in written]
    nothing = f"; no rows on {listed(empty)}, whose predictions stay as they were" if empty else ""
    notes = note + nothing + _other_code(params.project, root, pin)
    return Predicted(scored, refused, written, pin, f"{location}/{TABLE}", notes)


def _other_code(project: str, root: Path, pin: Pin) -> str:
    """A note where the project's code is not that of the pinned commit; "" where nobody knows."""
    try:
        changed = git.changed(root, pin.commit)
    except UserError:
        return ""
    files = [name for name in changed if f"{name}/".startswith(f"src/{project}/")]
    if not files:
        return ""
    return f"; {listed(files)} changed since commit {pin.commit[:12]}, which trained the model"


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


def card(root: Path, environment: str) -> Card | None:
    """The card of the bundle that an environment pins; None where it pins nothing."""
    pin = manifest.load(root, environment).pin
    return bundle.read_card(store.fetch(pin, root) / BUNDLE) if pin else None


def publish(rows: Rows, kind: str, location: str, card: Card | None = None) -> str:
    """Publish features by key in a store of this kind; gives a line that says how many.

    Raises UserError where a column is missing that the bundle of this card needs.
    """
    from mlops.serving import stores

    spec, days, features, made, note = rows
    needed = [one.name for one in card.inputs if one.name not in card.optional] if card else []
    if missing := [name for name in needed if name not in spec.features]:
        raise UserError(
            f"features.py: FEATURES: found no {listed(missing)}, which the pinned bundle needs; "
            "what was published before stays"
        )
    texts = tuple(name for name in spec.features if spec.is_category(name))
    columns = stores.Columns(tuple(n for n in spec.features if n not in texts), texts)
    packed = stores.packed(features.to_batches(), spec.key, columns, made)
    stores.store(kind).publish(location, columns, packed, made)
    place = f"{kind}: {location}{note}"
    return f"features of {len(features):,} keys of {days[0]} to {days[-1]}: {place}"


def of_day(features: pa.Table, spec: Features, day: dt.date) -> pa.Table:
    """The rows of one day; they are in the order of days."""
    import pyarrow.compute as pc

    days = features.column(str(spec.day)).cast("date32")
    return features.filter(pc.equal(days, day))
