"""The simulated year: months, figures, samples and picture, without running it."""

import datetime as dt
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks.year import picture, policies, service
from benchmarks.year.policies import Month
from benchmarks.year.service import Scored
from benchmarks.year.source import Source

MARCH, APRIL, MAY = dt.date(2013, 3, 31), dt.date(2013, 4, 30), dt.date(2013, 5, 31)


def months(monitored=0.75, often=1):
    """Two months under each policy; monitoring retrains `often` times."""
    ends = policies.month_ends(MARCH, MAY)
    return [
        *(Month("never", end, 0.70) for end in ends),
        *(Month("monthly", end, 0.75, True, end == MAY) for end in ends),
        *(Month("monitored", end, monitored, n < often, True) for n, end in enumerate(ends)),
    ]


def test_months_are_named_by_their_last_days():
    assert policies.month_ends(dt.date(2013, 2, 28), APRIL) == [MARCH, APRIL]
    assert policies.month_ends(MAY, MAY) == []


@pytest.mark.parametrize(
    ("changes", "seconds", "missed"),
    [
        ({}, 60, []),
        ({"often": 2}, 60, ["retrainings, monitored / monthly"]),
        ({"monitored": 0.7471}, 60, []),
        ({"monitored": 0.7469}, 60, ["mean AUC, monitored less monthly"]),
        ({}, 901, ["the year, min"]),
    ],
)
def test_each_goal_is_judged_by_its_own_figure(changes, seconds, missed):
    figures = policies.figures(months(**changes), seconds, 15.0)
    assert [figure.name for figure in figures if figure.reached is False] == missed


def test_only_the_tables_of_the_months_so_far_have_arrived(tmp_path):
    for name in ("flights/2013-03", "flights/2013-04", "flights/2013-05", "planes/all"):
        file = tmp_path / "whole/data/raw" / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    source = Source(tmp_path / "whole", tmp_path / "arrived")
    for _ in range(2):
        source.arrive(APRIL)
        tables = sorted(f"{f.parent.name}/{f.stem}" for f in source.arrived.rglob("*.parquet"))
        assert tables == ["flights/2013-03", "flights/2013-04", "planes/all"]


def test_samples_are_dated_noon_of_the_requested_day(tmp_path):
    samples = tmp_path / "samples"
    samples.mkdir()
    lines = [{"time": 1.5, "request": f"2013-05-0{day}", "row": 0} for day in (1, 2)]
    (samples / "predictions-7.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    log = tmp_path / "logs" / "predictions-1.jsonl"
    service.append_samples(Scored(np.zeros(2), samples), log)
    times = [json.loads(line)["time"] for line in log.read_text().splitlines()]
    noons = [dt.datetime(2013, 5, day, 12, tzinfo=dt.UTC) for day in (1, 2)]
    assert [dt.datetime.fromtimestamp(time, dt.UTC) for time in times] == noons


def test_a_label_has_the_requested_day_and_the_row_in_it():
    rows = pd.DataFrame({"date": pd.to_datetime(["2013-05-01"] * 2 + ["2013-05-02"]),
                         "late": [0, 1, 1]})  # fmt: skip
    labels = service.labels(rows, SimpleNamespace(day="date", target="late"))
    assert labels.to_dict("list") == {
        "request": ["2013-05-01", "2013-05-01", "2013-05-02"], "row": [0, 1, 0], "late": [0, 1, 1],
    }  # fmt: skip


def test_the_picture_is_drawn_from_the_table(tmp_path):
    picture.draw(pd.DataFrame([vars(month) for month in months()]), tmp_path / "year.png")
    assert (tmp_path / "year.png").read_bytes().startswith(b"\x89PNG")
    assert set(picture.STYLES) == set(policies.POLICIES)
