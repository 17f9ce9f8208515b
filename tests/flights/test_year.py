"""The simulated year: months, answers by key and picture, without running it."""

import datetime as dt
import json

import pandas as pd
import pytest

from benchmarks.year import picture, policies, source
from benchmarks.year.policies import Month
from benchmarks.year.source import Source
from mlops.contract import bundle
from mlops.contract.project import Features
from tests.mlops.serving import bundles

APRIL, MAY = dt.date(2013, 4, 30), dt.date(2013, 5, 31)


def test_only_the_tables_of_the_months_so_far_have_arrived(tmp_path):
    for name in ("flights/2013-03", "flights/2013-04", "flights/2013-05", "planes/all"):
        file = tmp_path / "whole/data/raw" / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    year = Source(tmp_path / "whole", tmp_path / "arrived")
    for _ in range(2):
        year.arrive(APRIL)
        tables = sorted(f"{f.parent.name}/{f.stem}" for f in year.arrived.rglob("*.parquet"))
        assert tables == ["flights/2013-03", "flights/2013-04", "planes/all"]


@pytest.mark.slow
def test_a_day_is_asked_by_key_in_parts_that_are_logged_at_their_hours(tmp_path):
    days = pd.to_datetime(["2013-05-01"] * 3 + ["2013-05-02"] * 2)
    rows = bundles.frame(5).assign(date=days, id=list("vwxyz"))
    units = dict.fromkeys(bundles.NUMBERS, "unit") | dict.fromkeys(bundles.WORDS, "category")
    spec = Features(None, "id", "date", "late", units, (), "")
    made = bundles.make(tmp_path / "bundle", "lightgbm", "binary")
    (made / bundle.CARD).unlink()
    bundle.write_card(made, bundles.card(bundles.frame(), "lightgbm", "binary") | {"key": "id"})
    place = f"{tmp_path}/features.sqlite"
    source.publish(rows, spec, place)
    probability, lines = source.ask(made, rows, spec, place, tmp_path / "service")
    logged = sorted(map(json.loads, lines), key=lambda line: line["key"])
    moments = [(1, 6), (1, 12), (1, 18), (2, 6), (2, 12)]
    times = [dt.datetime(2013, 5, *moment, tzinfo=dt.UTC).timestamp() for moment in moments]
    assert [line["time"] for line in logged] == times
    assert [line["key"] for line in logged] == list("vwxyz")
    assert [line["outputs"]["probability"] for line in logged] == probability.tolist()


@pytest.mark.slow
def test_the_picture_is_drawn_from_the_table(tmp_path):
    months = [Month(policy, end, 0.7) for policy in policies.POLICIES for end in (APRIL, MAY)]
    picture.draw(pd.DataFrame([vars(month) for month in months]), tmp_path / "year.png")
    assert (tmp_path / "year.png").read_bytes().startswith(b"\x89PNG")
    assert set(picture.STYLES) == set(policies.POLICIES)
