"""The page, the summary and the gauges show an assessment, whatever its columns are called."""

import re
from datetime import timedelta
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from mlops.monitoring import prometheus, report
from mlops.monitoring.assessment import Assessment, Bin, Column, Quality, Window
from mlops.monitoring.decision import decide
from mlops.monitoring.params import Monitoring
from tests.mlops.monitoring.place import LIMITS, NOW

HOSTILE = "<script>alert('|')</script>"
BINS = (Bin("to 1.0", 0.5, 0.25), Bin(HOSTILE, 0.5, 0.75))
DRIFTED = Column(HOSTILE, 0.9, 0.5, 0.1, 0.35, 0.2, BINS)
STABLE = Column("stable", None)
MONITORING = Monitoring(**LIMITS)


def assessment(*features, **changes):
    window = Window(
        NOW - timedelta(hours=24), NOW, rows=1000, features=features,
        scores=(Column("probability", drift=0.5, bins=BINS),),
    )  # fmt: skip
    worse = Quality("performance", "roc_auc", 0.7, 0.69, 0.71, 0.75, 0.03)
    labelled = Window(NOW - timedelta(hours=24), NOW, labels=800, qualities=(worse,))
    state, reasons = decide([window], [labelled], MONITORING)
    content = {
        "environment": "production", "model": "a-model 123456789abc", "digest": "1" * 64,
        "now": NOW, "state": state, "reasons": reasons, "notes": ("a note",),
        "lines": {"judged": 1000, "other": 0, "future": 0, "broken": 1}, "windows": (window,),
        "labelled": (labelled,), "folder": Path("monitoring/production"),
    }  # fmt: skip
    return Assessment(**{**content, **changes})


def test_the_page_shows_all_loads_nothing_and_no_name_becomes_markup():
    html = report.page(assessment(DRIFTED, STABLE), MONITORING)
    for text in ("watch", "predictions drift: probability 0.50, limit 0.2", "a note", "75.0%",
                 "roc_auc", "2026-03-28 12:00 to 2026-03-29 12:00", "1" * 64):  # fmt: skip
        assert text in html
    assert not re.search(r"<(script|link|img|iframe)|\s(src|href|onclick)=", html)
    few = Window(NOW - timedelta(hours=24), NOW, rows=3)
    assert "too few rows" in report.page(assessment(windows=(few,), labelled=()), MONITORING)


def test_the_summary_is_markdown_that_no_name_breaks():
    text = report.markdown(assessment(DRIFTED, STABLE), MONITORING)
    assert text.startswith("## production: watch\n")
    assert "| roc_auc | 0.7000 (0.6900 to 0.7100) | 0.7500 | yes |" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all("alert('\\|')" in line for line in tables if "alert" in line)


def test_prometheus_parses_the_gauges():
    text = prometheus.text(assessment(DRIFTED, STABLE)).decode()
    gauges = {
        (sample.name, *(v for k, v in sorted(sample.labels.items()) if k != "environment")):
            sample.value
        for family in text_string_to_metric_families(text) for sample in family.samples
    }  # fmt: skip
    assert ("mlops_monitoring_drift", "stable") not in gauges
    expected = {
        ("state", "watch"): 1, ("state", "retrain"): 0, ("drift", HOSTILE): 0.9,
        ("lines", "broken"): 1, ("quality", "roc_auc"): 0.7,
        ("timestamp_seconds",): NOW.timestamp(),
    }  # fmt: skip
    for (name, *labels), value in expected.items():
        assert gauges[(f"mlops_monitoring_{name}", *labels)] == value
