"""The report loads nothing, is the same twice, and shows only what its content has."""

import re
from dataclasses import replace
from functools import cache
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from mlops.contract.bundle import Card
from mlops.evaluation import metrics
from mlops.evaluation.metrics import Interval
from mlops.evaluation.report import tables
from mlops.evaluation.report.content import Content
from mlops.evaluation.report.curves import curves
from mlops.evaluation.report.page import render
from mlops.evaluation.report.wording import number
from tests.mlops.evaluation.cases import CASES, THRESHOLD

pytestmark = pytest.mark.slow
HOSTILE = "<script>alert('x')</script>\"&$"
every_task = pytest.mark.parametrize("task", CASES)


def content(task, name="hour"):
    """A report of a task in which every name that a project chooses is `name`."""
    y, prediction = (values[:600] for values in CASES[task])
    columns = pd.DataFrame({name: np.where(np.arange(len(y)) % 3 == 0, name, "other")})
    card = Card(
        name, task, "late", 2, (), {}, (), THRESHOLD, name, {"learning_rate": 0.05, name: name},
        {"since": "2013-01-01", "until": "2013-08-31", "rows": 210_000}, 0.0, {}, {},
    )  # fmt: skip
    importance = {"feature": [name, "noise"], "importance": [0.1, -0.01], "low": [0.09, -0.02],
                  "high": [0.11, 0.0]}  # fmt: skip
    search = {"trial": [0, 1, 2], "family": [name, name, "xgboost"], "score": [0.6, np.nan, 0.65],
              "best_so_far": [0.6, 0.6, 0.65]}  # fmt: skip
    return Content(
        card=card,
        digest="0123abcd" * 8,
        days=("2013-10-01", "2013-10-31"),
        rows=600,
        label_rate=0.33,
        metrics=metrics.intervals(task, y, prediction, THRESHOLD, draws=10),
        baselines={name: metrics.score(task, y[::-1], prediction, THRESHOLD)},
        tables={
            **curves(task, y, prediction, THRESHOLD),
            "slices": metrics.by_slice(task, y, prediction, columns, THRESHOLD, draws=10),
            "importance": pd.DataFrame(importance),
            "search": pd.DataFrame(search),
        },
        dropped={name: 8255},
    )


@cache
def page_of(task):
    return render(content(task, HOSTILE))


@every_task
def test_the_page_is_small_loads_nothing_and_has_hostile_names_as_text(task):
    page = page_of(task)
    assert "&lt;script&gt;" in page
    assert len(page) < 100_000
    assert not re.search(r"https?://|//\w|<script|<link|<img|<iframe|url\(|@import", page)
    assert not re.search(r"\s(src|href)=", page)
    assert "default-src 'none'" in page
    assert not re.search(r"\b(nan|inf|NaN|Infinity)\b", page)
    # Raises ParseError for an element that is not closed, or a name that is not escaped.
    ElementTree.fromstring(re.sub(r"<!doctype html>|<meta [^>]*>|xlink:", "", page))


def test_the_same_content_is_the_same_page():
    assert render(content("regression", HOSTILE)) == page_of("regression")


def test_a_chart_has_a_description_its_text_as_text_and_the_pages_colours():
    chart = re.search(r'<svg [^>]*aria-label="roc_curve: .*?</svg>', page_of("binary"), re.S)[0]
    assert 'role="img" aria-label="roc_curve: true positive rate by false positive rate"' in chart
    assert ">false positive rate</text>" in chart
    assert "var(--accent)" in chart
    assert "#1f5fa8" not in chart


def test_a_part_without_content_has_no_section():
    whole, empty = content("binary"), {"tables": {}, "dropped": {}, "baselines": {}}
    headings = ("Slices", "Importance of the features", "Search", "Predictions", "Rows left out")
    pages = page_of("binary"), render(replace(whole, **empty))
    assert [sum(f">{heading}" in page for heading in headings) for page in pages] == [5, 0]
    assert "no baseline" in pages[1]


def test_trials_that_were_given_up_are_counted_and_win_nothing():
    """Losses fall; a family all of whose trials were given up has no best one."""
    search = {"trial": [0, 1, 2], "family": ["a", "b", "a"], "score": [0.6, np.nan, 0.7],
              "best_so_far": [0.6, 0.6, 0.6]}  # fmt: skip
    table = tables.search(replace(content("binary"), tables={"search": pd.DataFrame(search)}))
    assert table["families"] == [("a", "0.600", 2), ("b", "–", 1)]
    assert (table["trials"], table["given_up"]) == (3, 1)


def test_each_task_shows_its_own_charts():
    headings = {
        task: set(re.findall(r'<section class="card"><h3>(.*?)</h3>', page_of(task)))
        for task in CASES
    }
    assert headings["binary"] >= {"ROC", "Precision and recall", "Calibration", "Scores"}
    assert headings["multiclass"] >= {"Calibration", "Confusion"}
    assert headings["regression"] >= {"Predicted and actual", "Errors"}
    assert "ROC" not in headings["multiclass"] | headings["regression"]


@pytest.mark.parametrize(
    ("task", "metric", "interval", "baselines", "verdict"),
    [
        ("binary", "roc_auc", (0.73, 0.72, 0.74), (0.5, 0.65), "Better than the best baseline"),
        ("binary", "roc_auc", (0.65, 0.64, 0.66), (0.5, 0.65), "Not clearly different from the"),
        ("binary", "roc_auc", (0.60, 0.59, 0.61), (0.5, 0.65), "Worse than the best baseline"),
        ("regression", "rmse", (9.0, 8.5, 9.5), (12.0, 10.0), "Better than the best baseline"),
    ],
)
def test_the_verdict_compares_the_interval_with_the_best_baseline(
    task, metric, interval, baselines, verdict
):
    mean, feature = baselines
    page = render(
        replace(
            content(task),
            metrics={metric: Interval(*interval)},
            baselines={"mean": {metric: mean}, "one feature": {metric: feature}},
            tables={},
        )
    )
    assert verdict in page
    assert f"the best baseline, one feature ({number(feature)})" in page


def test_too_few_to_judge_is_said_in_place_of_an_interval():
    few = "rows outside the most frequent class: 1, at least 10 needed"
    nan = float("nan")
    page = render(
        replace(
            content("binary"),
            few=few,
            metrics={"roc_auc": Interval(0.638, nan, nan)},
            baselines={"mean": {"roc_auc": 0.5}},
            tables={},
        )
    )
    assert f"no 95 % interval: {few}" in page
    assert f"Too few to judge against the best baseline, mean (0.500): {few}." in page
    assert "– to –" not in page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.73149, "0.731"), (34.343, "34.34"), (1234567.8, "1,234,568"), (-12.5, "−12.50"),
        (3e-17, "0.000"), (0.00012, "1.2e−04"), (float("nan"), "–"), (None, "–"),
    ],
)  # fmt: skip
def test_numbers_have_three_or_four_significant_digits(value, text):
    assert number(value) == text
