"""How far a source goes: the last day that all its dated tables have, and that is over."""

import datetime as dt

import pytest

from mlops.base.errors import UserError
from mlops.data import newest_day


@pytest.fixture
def wine(repository, tmp_path, monkeypatch):
    made = repository("wine", tmp_path / "wine")
    monkeypatch.chdir(made.root)
    return made


def test_it_is_the_last_day_of_the_source_that_is_over(wine, capsys):
    assert newest_day.newest(wine.params(), today=dt.date(2021, 5, 10)) == dt.date(2021, 5, 9)
    assert newest_day.main() == 0
    assert capsys.readouterr().out == "2021-05-28\n"


def test_the_table_that_lags_behind_decides(repository, tmp_path, monkeypatch):
    trips = repository("trips", tmp_path / "trips")
    monkeypatch.chdir(trips.root)
    trips.edit_table("weather", lambda rows: rows[rows["day"] < "2023-04-09"])
    assert newest_day.newest(trips.params()) == dt.date(2023, 4, 8)


def test_only_the_days_are_read_and_one_that_is_none_is_refused(wine):
    wine.edit_table("wines", lambda rows: rows.assign(alcohol="strong", shade=None))
    assert newest_day.newest(wine.params()) == dt.date(2021, 5, 28)
    wine.edit_table("wines", lambda rows: rows.assign(day="soon"))
    with pytest.raises(UserError, match="wines +day +is a day or instant .* 178 +soon"):
        newest_day.newest(wine.params())
