"""Past days are predicted as they would have been, and not credited where a model learnt them."""

import re
import signal
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.contract.bundle import Scorer, digest
from mlops.evaluation import metrics
from mlops.gitops.backtest import run
from mlops.gitops.backtest.content import Scope

PLACE = ".run/backtest/production"
BUNDLE = "models/bundle"


def pin(clone, day, pinned, monkeypatch):
    """What production pins from the noon of a day on."""
    with monkeypatch.context() as patched:
        patched.setenv("GIT_COMMITTER_DATE", f"{day}T12:00:00Z")
        clone.pin("production", pinned)


@pytest.fixture
def pinned(clone, monkeypatch):
    """Production has pinned one bundle since 5 March, another since 1 April."""
    first = clone.judged_pin()
    pin(clone, "2023-03-05", first, monkeypatch)
    clone.challenge()
    second = clone.judged_pin()
    pin(clone, "2023-04-01", second, monkeypatch)
    return clone, first, second


def backtest(clone, first, last, *options):
    return clone.command("backtest", "--from", first, "--to", last, *options)


def test_each_day_is_predicted_with_what_was_pinned_on_its_morning(pinned):
    clone, first, second = pinned
    code, out, err = backtest(clone, "2023-03-06", "2023-04-20")
    assert (code, err) == (0, "")
    rows = pd.read_parquet(clone.root / PLACE / "predictions.parquet")
    assert rows["day"].nunique() == 46
    assert set(rows.loc[rows["day"] <= date(2023, 4, 1), "digest"]) == {first.digest}
    assert set(rows.loc[rows["day"] > date(2023, 4, 1), "digest"]) == {second.digest}
    # The first one was trained on the days up to 10 March, the second one too.
    assert (rows["trained_on"] == (rows["day"] <= date(2023, 3, 10))).all()
    others = rows[~rows["trained_on"]]
    score = metrics.score("binary", others["outcome"], others["probability"], 0.5)["roc_auc"]
    trained = len(rows) - len(others)
    assert out.startswith(f"production: ROC AUC {score:.3f} (0.")
    assert f"on {len(others)} rows of 2023-03-06 to 2023-04-20; {trained} of days that" in out
    # What `mlops predict` says of a day is what the backtest says it would have said.
    assert clone.command("predict", "--from", "2023-04-12", "--to", "2023-04-12")[0] == 0
    place = clone.root / ".run/predictions/production/predictions/day=2023-04-12/part.parquet"
    day = rows[rows["day"] == date(2023, 4, 12)].set_index("key")["probability"]
    predicted = pd.read_parquet(place).set_index("key")["probability"]
    pd.testing.assert_series_equal(day, predicted[day.index], check_exact=True)


def test_metrics_over_time_are_of_one_model_and_apart_where_it_learnt(pinned):
    clone, first, second = pinned
    assert backtest(clone, "2023-03-06", "2023-04-20")[0] == 0
    table = pd.read_csv(clone.root / PLACE / "over_time.csv")
    assert table[["from", "to", "model", "trained_on"]].values.tolist() == [
        ["2023-03-06", "2023-03-10", first.digest[:12], True],
        ["2023-03-11", "2023-03-24", first.digest[:12], False],
        ["2023-03-25", "2023-04-01", first.digest[:12], False],
        ["2023-04-02", "2023-04-15", second.digest[:12], False],
        ["2023-04-16", "2023-04-20", second.digest[:12], False],
    ]
    rows = pd.read_parquet(clone.root / PLACE / "predictions.parquet")
    own = rows[rows["day"].between(date(2023, 4, 2), date(2023, 4, 15))]
    threshold = Scorer(clone.root / BUNDLE).card.threshold
    expected = metrics.score("binary", own["outcome"], own["probability"], threshold)
    line = table.iloc[3]
    assert line["rows"] == len(own)
    for name, value in expected.items():
        assert line[name] == pytest.approx(value)
    assert line["roc_auc_low"] < line["roc_auc"] < line["roc_auc_high"]
    # Five days are too few for an interval.
    assert np.isnan(table["roc_auc_low"][0])
    page = (clone.root / PLACE / "report.html").read_text()
    assert all(f"{d[:12]}</td>" in page for d in (first.digest, second.digest))
    assert "inside the model's training data" in page or "inside the model&#39;s" in page
    assert len(re.findall("<td[^>]*>yes</td>", page)) == 2


def test_the_current_model_may_be_asked_of_days_before_it_was_pinned(pinned):
    clone, _, second = pinned
    code, out, _ = backtest(clone, "2023-02-01", "2023-02-05", "--current")
    assert code == 0
    assert "every day lies inside its model's training data" in out
    rows = pd.read_parquet(clone.root / PLACE / "predictions.parquet")
    assert set(rows["digest"]) == {second.digest} == {digest(clone.root / BUNDLE)}
    assert rows["trained_on"].all()
    code, out, _ = backtest(clone, "2023-04-02", "2023-04-20", "--every", "7")
    assert (code, "training data" in out) == (0, False)
    page = (clone.root / PLACE / "report.html").read_text()
    assert "predicted every 7 days" in page
    weekly = pd.read_parquet(clone.root / PLACE / "predictions.parquet")
    assert weekly["day"].nunique() == 19
    # The days after the first of each week are predicted with less than a day later was known.
    assert backtest(clone, "2023-04-02", "2023-04-20")[0] == 0
    daily = pd.read_parquet(clone.root / PLACE / "predictions.parquet")
    same = weekly["probability"] == daily["probability"]
    assert same[weekly["day"].isin([date(2023, 4, 2), date(2023, 4, 9)])].all()
    assert not same.all()


REFUSED = {
    ("production", "2023-04-20", "2023-04-02"):
    "--from: found 2023-04-20, expected a day up to --to, 2023-04-02",
    ("production", "2023-04-20", "2023-05-01"):
    "--to: found 2023-05-01, expected at most 2023-04-30, the last",
    ("production", "2022-12-31", "2023-01-05", 1, True):
    "--from: found 2022-12-31, expected at least 2023",
    ("production", "2023-03-01", "2023-04-01"): "environments/production.yaml: pinned nothing on "
    "the morning of 2023-03-01; its first pin is of 2023-03-05; --current predicts with what it",
    ("prodction", "2023-04-01", "2023-04-02"):
    "environments/prodction.yaml: not found; did you mean 'production'?",
    ("staging", "2023-04-01", "2023-04-02"):
    "environments/staging.yaml: pinned nothing on the morning of 2023-04-01; it never pinned",
    ("staging", "2023-04-01", "2023-04-02", 1, True):
    "environments/staging.yaml: pins nothing to predict with",
}  # fmt: skip


def test_what_cannot_be_backtested_is_one_line(pinned, monkeypatch):
    clone, *_ = pinned
    monkeypatch.chdir(clone.root)
    for (environment, first, last, *how), message in REFUSED.items():
        days = date.fromisoformat(first), date.fromisoformat(last)
        with pytest.raises(UserError) as refused:
            run(clone.params(), Path(), Scope(environment, *days, *how))
        assert message in str(refused.value)
        assert not (clone.root / PLACE).exists()


def test_a_file_of_somebody_else_beside_the_report_is_not_removed(pinned):
    clone, *_ = pinned
    notes = clone.root / PLACE / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    code, out, err = backtest(clone, "2023-04-02", "2023-04-05")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{PLACE}/notes.txt: found a file that is none of the results here" in err
    assert notes.read_text() == "mine"


def test_a_bundle_that_no_store_has_or_a_source_that_is_away_is_one_line(pinned, monkeypatch):
    clone, _, second = pinned
    assert backtest(clone, "2023-04-02", "2023-04-05")[0] == 0
    before = digest(clone.root / PLACE)
    (clone.root / "csv").rename(clone.root / "away")
    code, out, err = backtest(clone, "2023-04-02", "2023-04-05")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "csv" in err
    with monkeypatch.context() as patched:
        patched.setenv("GIT_COMMITTER_DATE", "2023-04-03T12:00:00Z")
        clone.pin_what_no_store_has("production", second)
    code, out, err = backtest(clone, "2023-04-02", "2023-04-05")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: bundle 111111111111: ")
    assert digest(clone.root / PLACE) == before


@pytest.mark.nightly
def test_a_backtest_that_is_killed_leaves_the_earlier_one_whole(pinned):
    clone, *_ = pinned
    assert backtest(clone, "2023-04-02", "2023-04-05")[0] == 0
    before = digest(clone.root / PLACE)
    words = ("backtest", "--from", "2023-03-06", "--to", "2023-04-20")
    for stop in (signal.SIGKILL, signal.SIGTERM):
        process = clone.start(*words)
        tables = clone.root / ".run/coming/tables"
        is_read = lambda folder=tables: any(folder.glob("*/*.parquet"))  # noqa: E731
        assert processes.wait(is_read, lambda p=process: p.poll() is None, 100)
        process.send_signal(stop)
        assert process.wait(60) != 0
        assert digest(clone.root / PLACE) == before
    assert backtest(clone, "2023-03-06", "2023-04-20")[0] == 0
    assert digest(clone.root / PLACE) != before
    assert not list(Path(clone.root / ".run/coming").iterdir())
