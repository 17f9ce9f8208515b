"""The simulated year: months, figures, clock and picture, without playing it."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.year import picture, policies, service
from benchmarks.year.policies import POLICIES, Played
from benchmarks.year.service import Scored
from benchmarks.year.source import Source
from mlops.contract import project

MARCH, APRIL, MAY = dt.date(2013, 3, 31), dt.date(2013, 4, 30), dt.date(2013, 5, 31)


def played(monthly=0.75, monitored=0.75, often=1):
    """Two months under each policy; monitoring retrains `often` times."""
    ends = policies.months(MARCH, MAY)
    return [
        *(Played("never", end, 0.70) for end in ends),
        *(Played("monthly", end, monthly, True, end == MAY) for end in ends),
        *(Played("monitored", end, monitored, n < often, True) for n, end in enumerate(ends)),
    ]


def verdicts(months):
    return {f.name: f.reached for f in policies.figures(months, 60.0, 15.0) if f.goal}


def test_the_months_after_one_are_named_by_their_last_days():
    assert policies.months(dt.date(2013, 11, 30), dt.date(2014, 3, 31)) == [
        dt.date(2013, 12, 31), dt.date(2014, 1, 31), dt.date(2014, 2, 28), dt.date(2014, 3, 31),
    ]  # fmt: skip
    assert policies.months(MAY, MAY) == []


def test_half_as_many_retrainings_at_the_same_auc_reach_the_goals():
    assert all(verdicts(played()).values())


def test_too_many_retrainings_fall_short():
    assert verdicts(played(often=2))["retrainings, monitored / monthly"] is False


@pytest.mark.parametrize(("auc", "reached"), [(0.7471, True), (0.7469, False), (0.80, True)])
def test_an_auc_too_far_below_monthlys_falls_short(auc, reached):
    assert verdicts(played(monitored=auc))["mean AUC, monitored less monthly"] is reached


def test_a_year_that_takes_too_long_falls_short():
    slow = policies.figures(played(), 901.0, 15.0)
    assert [f.name for f in slow if f.reached is False] == ["the year, min"]


def test_a_candidate_that_was_refused_was_trained_all_the_same():
    assert policies.retrainings(played(), "monthly") == 2
    assert played()[2].line.endswith("refused")


def test_a_line_says_what_was_done_and_why():
    line = Played("monitored", MAY, 0.75, True, True, "scores drift").line
    assert line == "2013-05 monitored AUC 0.7500 merged (scores drift)"


def test_only_what_has_happened_is_known(tmp_path):
    for name in ("flights/2013-03", "flights/2013-04", "flights/2013-05", "planes/all"):
        file = tmp_path / "whole" / "data" / "raw" / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    source = Source(tmp_path / "whole", tmp_path / "known")
    for _ in range(2):
        source.arrive(APRIL)
        known = sorted(f"{f.parent.name}/{f.stem}" for f in source.known.rglob("*.parquet"))
        assert known == ["flights/2013-03", "flights/2013-04", "planes/all"]


def test_samples_are_kept_at_noon_of_the_day_that_they_speak_of(tmp_path):
    samples = tmp_path / "samples"
    samples.mkdir()
    lines = [{"time": 1.5, "request": f"2013-05-0{day}", "row": 0} for day in (1, 2)]
    (samples / "predictions-7.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    service.keep(Scored(np.zeros(2), samples), tmp_path / "logs" / "predictions-1.jsonl")
    kept = (tmp_path / "logs" / "predictions-1.jsonl").read_text().splitlines()
    times = [dt.datetime.fromtimestamp(json.loads(line)["time"], dt.UTC) for line in kept]
    assert times == [dt.datetime(2013, 5, day, 12, tzinfo=dt.UTC) for day in (1, 2)]


def test_a_label_is_found_by_the_day_asked_about_and_the_place_in_it():
    rows = pd.DataFrame({"date": pd.to_datetime(["2013-05-01"] * 2 + ["2013-05-02"]),
                         "late": [0, 1, 1]})  # fmt: skip
    made = service.labels(rows, project.features("flights"))
    assert made.to_dict("list") == {
        "request": ["2013-05-01", "2013-05-01", "2013-05-02"], "row": [0, 1, 0], "late": [0, 1, 1],
    }  # fmt: skip


def test_the_picture_is_drawn_from_the_table(tmp_path):
    table = pd.DataFrame([vars(one) for one in played()])
    picture.draw(table, tmp_path / "year.png")
    assert (tmp_path / "year.png").read_bytes().startswith(b"\x89PNG")
    assert set(picture.LOOK) == set(POLICIES)
