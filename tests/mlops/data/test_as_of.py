"""Features as of a day are those that training has for it; what leaks is refused, and named."""

import datetime as dt
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.contract import project
from mlops.contract.dataset import HOLDOUT
from mlops.data import as_of, coming
from tests.conftest import chdir

FEATURES = "data/features"


@pytest.fixture
def trips(repository, tmp_path, monkeypatch):
    """A workspace with project files of its own, which this process imports."""
    workspace = repository("trips", tmp_path / "trips")
    source = workspace.root / "src/trips"
    if source.is_symlink():
        real = source.resolve()
        source.unlink()
        shutil.copytree(real, source)
    monkeypatch.syspath_prepend(source.parent)
    project.forget("trips")
    yield workspace
    project.forget("trips")


def edit(workspace, file, old, new):
    path = workspace.root / "src/trips" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    project.forget("trips")


@contextmanager
def refreshed(workspace):
    with chdir(workspace.root), coming.refreshed(workspace.params(), Path()) as tables:
        yield tables


def features(tables, first, last):
    ((spec, rows),) = tables.features([as_of.Span(first, last, first)])
    return spec, rows


def compared(workspace, days):
    with chdir(workspace.root):
        return as_of.run(workspace.params(), Path(), days)


def test_every_day_has_the_features_that_training_has(trips):
    result = trips.run("ingest", "featurize")
    assert result.days_compared == 1
    assert compared(trips, 12) == 12


def test_a_table_that_no_feature_needs_is_named_though_days_are_compared(trips):
    edit(trips, "features.py", '.join(tables["lines"], "line")', "")
    for name in ("kind", "stops", "km"):
        edit(trips, "features.py", f'    "{name}": ', f'    # "{name}": ')
    result = trips.run("ingest", "featurize")
    assert (result.days_compared, result.unused_tables) == (1, ("lines",))


@pytest.mark.parametrize("words", [[], ["x"], ["-1"]])
def test_a_number_of_days_that_is_none_is_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        as_of.main(words)
    assert ended.value.code == 2
    assert "days" in capsys.readouterr().err


def test_what_is_known_of_a_day_leaves_later_outcomes_out(trips):
    trips.run("ingest", "featurize")
    with refreshed(trips) as tables:
        spec, rows = features(tables, dt.date(2023, 4, 3), dt.date(2023, 4, 4))
    assert (tables.known, tables.last) == (dt.date(2023, 4, 30), dt.date(2023, 4, 30))
    assert len(rows) == 24
    assert rows.column(spec.target).null_count == 24


LEAKS = {
    "the same day's outcome": (
        ("features.py", '"km": "kilometre",', '"km": "kilometre",\n    "late_by": "minute",'),
        ("features.py", '*("day", "line", "hour", "vehicle"),',
         '*("day", "line", "hour", "vehicle"),\n        F.col("delay").alias("late_by"),'),
        r"features: late_by: 2023-\d\d-\d\d-\d+ of 2023-\d\d-\d\d: found None as of that day, and",
    ),
    "a window that has the row itself": (
        ("features.py", "order.rangeBetween(-days, -1)", "order.rangeBetween(-days, 0)"),
        r"features: line_late_7d: .*: found 0\.\d+ as of that day, and 0\.\d+ in training",
    ),
    "a join with what is known only later": (
        ("tables.py", 'unique = ["day"]\n        metadata = {"day": "day"}',
         'unique = ["day"]\n        metadata = {"day": "day", "outcome": True}'),
        r"features: (temp|rain): .*: found None as of that day, and .* in training; a feature may "
        "not need what is known only later",
    ),
    "a target of which nothing is declared": (
        ("tables.py", "nullable=True, metadata=DELAY)", "nullable=True)"),
        ("tables.py", 'unique = ["day"]\n        metadata = {"day": "day"}',
         'unique = ["day"]\n        metadata = {"day": "day", "outcome": True}'),
        r"features: late: .*: found [01] as of that day, expected it missing; declare",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_refused_with_feature_key_and_values(trips, name):
    *edits, message = LEAKS[name]
    for one in edits:
        edit(trips, *one)
    with pytest.raises(UserError) as error:
        trips.run("ingest", "featurize")
    assert re.search(message, str(error.value))
    assert "\n" not in str(error.value)
    assert not (trips.root / FEATURES).exists()


def test_what_the_features_ask_the_engine_for_themselves_is_as_of_each_day(trips):
    """No query can be compiled once for all days then: it would have the numbers of one."""
    edit(trips, "features.py", "    trips = timetable(tables[\"trips\"])\n",
         "    trips = timetable(tables[\"trips\"])\n"
         "    known = trips.where(F.col(TARGET).isNotNull()).agg(F.max('day_number'))\n"
         "    last = F.lit(known.collect()[0][0] or 19357)\n"
         "    soon = trips.groupBy('line', 'day_number').agg(F.count('*').alias('all'))\n"
         "    soon = soon.where(F.col('day_number') <= last + 1)\n")  # fmt: skip
    edit(trips, "features.py", 'history(trips), ["line", "day_number"], "left")',
         'history(trips), ["line", "day_number"], "left")\n'
         '        .join(soon, ["line", "day_number"], "left")')  # fmt: skip
    edit(trips, "features.py", '"km": "kilometre",', '"km": "kilometre",\n    "all": "trip",')
    trips.run("ingest", "featurize")
    assert compared(trips, 3) == 3
    edit(trips, "features.py", "last + 1", "last")
    with pytest.raises(UserError, match=r"features: all: .*: found None as of that day, and"):
        trips.run("featurize")


def test_a_table_without_days_has_no_outcomes(trips):
    edit(trips, "tables.py", "km: Series[float] = pa.Field(gt=0)",
         'km: Series[float] = pa.Field(gt=0, metadata={"outcome": True})')  # fmt: skip
    with pytest.raises(UserError, match=r"tables\.py: lines: outcome: found no day"):
        trips.run("ingest", "featurize")


def test_without_outcomes_nothing_is_compared_and_nothing_can_come(trips):
    edit(trips, "tables.py", "nullable=True, metadata=DELAY)", "nullable=True)")
    assert trips.run("ingest", "featurize").days_compared == 0
    with pytest.raises(UserError, match="no column of a table with days is an"), refreshed(trips):
        pass


def test_rows_after_the_last_day_known_may_lack_outcomes_alone(trips):
    """`delay` must be there up to `data.until`, and all other columns always."""
    edit(trips, "tables.py", "le=240, nullable=True, metadata=DELAY)", "le=240, metadata=DELAY)")
    trips.change({"data.until": "2023-04-20"})

    def arrived(rows):
        rows = rows.assign(delay=rows["delay"].fillna(0).astype("Int64"))
        return rows.assign(delay=rows["delay"].mask(rows["day"] > "2023-04-25"))

    trips.edit_table("trips", arrived)
    with refreshed(trips) as tables:
        assert (tables.known, tables.last) == (dt.date(2023, 4, 25), dt.date(2023, 4, 30))
        assert tables.days(None, None) == [dt.date(2023, 4, n) for n in range(26, 31)]
        with pytest.raises(coming.NothingComing, match="outcomes are known to 2023-04-25"):
            tables.days(dt.date(2023, 5, 1), None)
    for column, value, message in (
        ("delay", "2023-04-19", "trips  delay   no missing values up to 2023-04-20  12"),
        ("hour", "2023-04-29", "trips  hour    no missing values"),
    ):
        trips.edit_table(
            "trips", lambda rows, c=column, v=value: rows.assign(**{c: rows[c].mask(rows.day == v)})
        )
        with pytest.raises(UserError) as error, refreshed(trips):
            pass
        assert re.sub(" +", " ", message) in re.sub(" +", " ", str(error.value))


def test_the_coming_rows_have_the_features_that_training_gives_them_later(trips):
    trips.change({"data.until": "2023-04-20"})
    with refreshed(trips) as tables:
        spec, before = features(tables, dt.date(2023, 4, 30), dt.date(2023, 4, 30))
    trips.change({"data.until": "2023-04-30"}).run("ingest", "featurize")
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    later = pq.read_table(trips.root / FEATURES / HOLDOUT)
    later = later.filter(pc.equal(later.column("day").cast("date32"), dt.date(2023, 4, 30)))
    known = before.filter(pc.is_in(before.column("trip"), later.column("trip")))
    assert known.select(list(spec.features)).equals(later.select(list(spec.features)))
