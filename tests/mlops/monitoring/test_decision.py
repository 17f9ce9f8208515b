"""The decision is pure: it follows from the windows and the limits alone."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.monitoring.assessment import Column, Quality, Window
from mlops.monitoring.decision import decide
from mlops.monitoring.params import Monitoring
from tests.mlops.monitoring.place import LIMITS, NOW

SHARES = st.floats(0, 1)
STATES = ("ok", "watch", "retrain")


def limits(**changes):
    return Monitoring(**{**LIMITS, **changes})


def quality(kind, worse):
    return Quality(kind, f"a {kind}", 0.7, 0.69, 0.71, 0.75, worse)


def window(drift=(), scores=0.0, worse=None, rows=1000, **damage):
    """A window with features of the given drift, beside nine without drift."""
    features = [Column(f"f{i}", drift=value, **damage) for i, value in enumerate(drift)]
    stable = [Column(f"stable{i}", drift=0.0) for i in range(9)]
    return Window(
        NOW - timedelta(hours=24), NOW, rows=rows, labels=rows,
        features=(*features, *stable), scores=(Column("probability", drift=scores),),
        qualities=tuple(quality(kind, value) for kind, value in (worse or {}).items()),
    )  # fmt: skip


def state(*windows, **changes):
    return decide(windows, windows, limits(**changes))[0]


GOOD = window(worse={"performance": -0.1})
ONE = window(drift=[0.9])
MANY = window(drift=[0.9] * 9)
SCORES = window(scores=0.9)
WORSE = window(worse={"performance": 0.05})
UNCALIBRATED = window(worse={"calibration": 0.05})
MISSING = window(drift=[0.0], missing=0.6, missing_before=0.1, missing_rise=0.45)
UNSEEN = window(drift=[0.0], unseen=0.3)


# Arguments of `window`.
DRAWN = st.fixed_dictionaries({
    "drift": st.lists(st.floats(0, 2), max_size=9), "scores": st.floats(0, 2),
    "worse": st.fixed_dictionaries(dict.fromkeys(["performance", "calibration"], st.floats(-1, 1))),
    "rows": st.integers(0, 2000), "missing_rise": SHARES, "unseen": SHARES,
})  # fmt: skip


def test_good_windows_are_ok_and_give_no_reason():
    assert decide([GOOD, GOOD], [GOOD, GOOD], limits()) == ("ok", ())


@pytest.mark.parametrize("few", ["labelled rows in 4 hours, at least 10 needed", ""])
def test_why_performance_is_not_judged_is_said(few):
    reason = few or "too few rows of a class in the evidence"
    labelled = replace(window(), few=few)
    assert decide([GOOD], [labelled], limits())[1] == (f"performance not judged: {reason}",)


@pytest.mark.parametrize("bad", [MANY, SCORES, WORSE, UNCALIBRATED])
def test_what_retraining_repairs_calls_for_it_once_all_windows_agree(bad):
    assert state(bad, bad) == "retrain"
    assert state(bad, GOOD) == state(bad) == "watch"
    assert state(GOOD, bad) == "ok"
    assert state(bad, bad, windows=3) == "watch"
    assert state(bad, windows=1) == "retrain"


def test_windows_that_exceed_different_limits_do_not_agree():
    assert state(SCORES, WORSE) == "watch"


@pytest.mark.parametrize("damaged", [ONE, MISSING, UNSEEN])
def test_what_retraining_can_not_repair_is_watched_however_long_it_lasts(damaged):
    assert state(damaged, damaged) == "watch"


def test_the_drift_of_an_ignored_feature_is_left_out_of_all_counts():
    assert state(ONE, ONE, ignore=("f?",)) == "ok"
    assert state(MANY, MANY, ignore=("f[0-7]",)) == "watch"
    assert state(MISSING, ignore=("f*",)) == "watch"


@pytest.mark.parametrize(
    ("requests", "labelled", "reasons"),
    [
        ([window(drift=[0.9, 1.5], scores=0.31)] * 2, [], (
            "predictions drift: probability 0.31, limit 0.2; 2 windows in a row",
            "features drift: f1 1.50, f0 0.90, limit 0.2",
        )),
        ([MANY], [], (
            "9 of 18 features drift (50%), limit 30%",
            "features drift: f0 0.90, f1 0.90, f2 0.90, f3 0.90, f4 0.90 and 4 more, limit 0.2",
        )),
        ([MISSING], [], ("values are missing: f0 60%, was 10%, limit +10%",)),
        ([UNSEEN], [], ("categories never seen: f0 30.0%, limit 2.0%",)),
        ([GOOD], [WORSE], (
            "a performance 0.7000 (0.6900 to 0.7100), was 0.7500: surely worse by 0.0500,"
            " limit 0.02",
        )),
    ],
)  # fmt: skip
def test_a_reason_names_what_was_measured_and_the_limit(requests, labelled, reasons):
    assert decide(requests, labelled, limits())[1] == reasons


def test_too_few_rows_are_ok_with_a_reason():
    few = window(drift=[9.0] * 9, scores=9.0, worse={"performance": 1.0}, rows=12)
    assert decide([few, few], [few, few], limits()) == ("ok", (
        "12 of 500 rows: too few to judge drift",
        "12 of 500 labels: too few to judge performance",
    ))  # fmt: skip


@given(DRAWN, DRAWN)
def test_one_window_never_calls_for_retraining_and_every_alarm_has_a_reason(noisy, labelled):
    noisy, labelled = window(**noisy), window(**labelled)
    state, reasons = decide([noisy, GOOD, GOOD], [labelled, GOOD, GOOD], limits())
    assert state != "retrain"
    assert state == "ok" or any("limit" in reason for reason in reasons)


@given(st.lists(DRAWN, min_size=2, max_size=2), SHARES)
def test_more_drift_or_damage_never_gives_less_alarm(drawn, more):
    worse = [
        {
            "drift": [value + more for value in each["drift"]],
            "worse": {kind: value + more for kind, value in each["worse"].items()},
            "rows": each["rows"],
            **{name: each[name] + more for name in ("scores", "missing_rise", "unseen")},
        }
        for each in drawn
    ]
    before, after = (state(*(window(**each) for each in side)) for side in (drawn, worse))
    assert STATES.index(before) <= STATES.index(after)
