"""The report stands alone, is the same twice, and shows only what its content has."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from mlops.contract.project import Task
from mlops.evaluation import metrics
from mlops.evaluation.metrics import Array, Interval
from mlops.evaluation.report.content import ModelFacts, ReportContent
from mlops.evaluation.report.curves import curves
from mlops.evaluation.report.page import render

HOSTILE = "<script>alert('x')</script>\"&"
THRESHOLD = 0.4
VOID = {"meta", "path", "br"}


def predicted(task: Task, rows: int = 600) -> tuple[Array, Array]:
    generator = np.random.default_rng(0)
    if task == "multiclass":
        shares = generator.dirichlet([1, 2, 3], rows)
        return (shares.cumsum(axis=1) < generator.random((rows, 1))).sum(axis=1), shares
    probability = generator.beta(2, 4, rows)
    if task == "binary":
        return (generator.random(rows) < probability).astype(int), probability
    return 90 * probability + generator.normal(0, 9, rows), 90 * probability


def facts(name: str = "flights-late", family: str = "lightgbm") -> ModelFacts:
    return ModelFacts(
        name=name,
        family=family,
        hyperparameters={"num_leaves": 31, "learning_rate": 0.05, name: name},
        bundle_digest="sha256:" + "0123abcd" * 8,
        train_dates=("2013-01-01", "2013-08-31"),
        holdout_dates=("2013-10-01", "2013-10-31"),
        train_rows=210_000,
        holdout_rows=600,
        label_rate=0.33,
        threshold=THRESHOLD,
    )


def content(task: Task, name: str = "hour") -> ReportContent:
    """A report of a task in which every name that a project chooses is `name`."""
    y, prediction = predicted(task)
    columns = pd.DataFrame({name: np.where(np.arange(len(y)) % 3 == 0, name, "other")})
    scores = [0.6, np.nan, 0.65]
    return ReportContent(
        title=f"Late flights {name}",
        task=task,
        model=facts(name, name),
        metrics=metrics.intervals(task, y, prediction, THRESHOLD, draws=10),
        baselines={name: metrics.score(task, y[::-1], prediction, THRESHOLD)},
        curves=curves(task, y, prediction, THRESHOLD),
        slices=metrics.by_slice(task, y, prediction, columns, THRESHOLD, draws=10),
        importance=pd.DataFrame(
            {
                "feature": [name, "noise"],
                "importance": [0.1, -0.01],
                "low": [0.09, -0.02],
                "high": [0.11, 0.0],
            }
        ),
        search=pd.DataFrame(
            {
                "trial": [0, 1, 2],
                "family": [name, name, "xgboost"],
                "score": scores,
                "best_so_far": [0.6, 0.6, 0.65],
                "seconds": [1.0, 2.0, 3.0],
            }
        ),
        dropped={name: 8255},
    )


@pytest.fixture(scope="module", params=get_args(Task))
def task(request: pytest.FixtureRequest) -> Task:
    chosen: Task = request.param
    return chosen


class Balance(HTMLParser):
    """Remembers the elements that are open, and refuses one closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_task_renders_as_well_formed_html(task: Task) -> None:
    balance = Balance()
    balance.feed(render(content(task)))
    assert balance.open == []


def test_the_page_needs_nothing_but_itself(task: Task) -> None:
    page = render(content(task))
    assert not re.search(r"https?://|//\w|<script|<link|<img|<iframe|url\(|@import", page)
    assert not re.search(r"\s(src|href)=", page)
    assert "default-src 'none'" in page


def test_equal_content_gives_equal_bytes(task: Task) -> None:
    assert render(content(task)).encode() == render(content(task)).encode()


def test_how_long_the_trials_took_does_not_change_the_page() -> None:
    whole = content("binary")
    assert whole.search is not None
    slower = replace(whole, search=whole.search.assign(seconds=[10.0, 20.0, 30.0]))
    assert render(slower) == render(whole)


def test_hostile_names_are_text_not_markup(task: Task) -> None:
    page = render(content(task, HOSTILE))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    balance = Balance()
    balance.feed(page)
    assert balance.open == []


def test_undefined_numbers_never_reach_the_page(task: Task) -> None:
    page = render(content(task))
    assert not re.search(r"\b(nan|inf|NaN|Infinity)\b", page)


def test_the_page_is_small() -> None:
    assert len(render(content("binary"))) < 100_000


@pytest.mark.parametrize(
    ("part", "empty", "heading"),
    [
        ("slices", None, "Slices"),
        ("importance", None, "Importance of the features"),
        ("search", None, "Search"),
        ("curves", {}, "Behaviour on the holdout"),
        ("dropped", {}, "Rows left out"),
    ],
)
def test_an_absent_part_leaves_its_section_out(part: str, empty: object, heading: str) -> None:
    whole = content("binary")
    assert f">{heading}</h" in render(whole)
    assert f">{heading}</h" not in render(replace(whole, **{part: empty}))


def test_each_task_shows_the_charts_that_apply_to_it() -> None:
    headings = {
        chosen: set(re.findall(r'<section class="card"><h3>(.*?)</h3>', render(content(chosen))))
        for chosen in get_args(Task)
    }
    assert headings["binary"] >= {"ROC", "Precision and recall", "Calibration", "Scores"}
    assert headings["multiclass"] >= {"Calibration", "Confusion"}
    assert headings["regression"] >= {"Predicted and actual", "Errors"}
    assert "ROC" not in headings["multiclass"] | headings["regression"]


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(0.73, 0.72, 0.74), "Better than the best baseline, one feature (0.650)"),
        (Interval(0.65, 0.64, 0.66), "Not clearly different from the best baseline"),
        (Interval(0.60, 0.59, 0.61), "Worse than the best baseline"),
    ],
)
def test_the_verdict_sets_the_interval_beside_the_best_baseline(
    interval: Interval, verdict: str
) -> None:
    judged = replace(
        content("binary"),
        metrics={"roc_auc": interval},
        baselines={"majority class": {"roc_auc": 0.5}, "one feature": {"roc_auc": 0.65}},
    )
    assert verdict in render(judged)


def test_where_lower_is_better_the_smallest_baseline_is_the_best() -> None:
    judged = replace(
        content("regression"),
        metrics={"rmse": Interval(9.0, 8.5, 9.5)},
        baselines={"mean": {"rmse": 12.0}, "one feature": {"rmse": 10.0}},
        slices=None,
    )
    assert "Better than the best baseline, one feature (10.00)" in render(judged)


def test_a_page_without_baselines_says_so() -> None:
    assert "no baseline" in render(replace(content("binary"), baselines={}))
