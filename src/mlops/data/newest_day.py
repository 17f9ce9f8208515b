"""The newest day that a source knows all of: how far `data.until` may move."""

from __future__ import annotations

import datetime as dt

from mlops.base.errors import UserError
from mlops.contract import params, project
from mlops.data import sources
from mlops.data.params import Params
from mlops.pipeline import stage


def newest(params: Params, today: dt.date | None = None) -> dt.date:
    """The last day that every dated table has rows of; yesterday at the latest."""
    from mlops.data.validation import day_column, validated

    schemas = project.tables(params.project)
    days = {name: day_column(schema) for name, schema in schemas.items()}
    dated = {name: schemas[name] for name, day in days.items() if day}
    if not dated:
        raise UserError(f"project {params.project}: no table has a day; say which: --until DAY")
    source = sources.source(params.data.source)
    # All of them: the dated ones refer to the others.
    tables = validated(source.read(params.data.location, schemas), schemas)
    last: dt.date = min(tables[name][days[name]].max().date() for name in dated)
    return min(last, (today or dt.date.today()) - dt.timedelta(days=1))


def main() -> int:
    """Print the newest day of this folder's source; the exit code."""
    return stage.guarded(lambda: print(newest(params.load(Params))))


if __name__ == "__main__":
    raise SystemExit(main())
