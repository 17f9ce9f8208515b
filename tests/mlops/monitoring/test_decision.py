"""The decision is pure: what it says follows from the windows and the limits alone."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from mlops.monitoring.decision import decide
from mlops.monitoring.params import Monitoring
from mlops.monitoring.window import Column, Quality, Window
from tests.mlops.monitoring.place import LIMITS, NOW

RANK = {"ok": 0, "watch": 1, "retrain": 2}
DAMAGE = ("missing_rise", "unseen")
SHARES = st.floats(0, 1)


def limits(**changes):
    return Monitoring(**{**LIMITS, **changes})


def quality(kind, worse):
    return Quality(kind, f"a {kind}", 0.7, 0.69, 0.71, 0.75, worse)


def window(drift=(), scores=0.0, worse=None, rows=1000, **damage):
    """A window whose features drift by so much, beside nine that don't drift at all."""
    features = [Column(f"f{i}", drift=value, **damage) for i, value in enumerate(drift)]
    still = [Column(f"still{i}", drift=0.0) for i in range(9)]
    return Window(
        NOW - timedelta(hours=24), NOW, rows=rows, labels=rows,
        features=(*features, *still), scores=(Column("probability", drift=scores),),
        qualities=tuple(quality(kind, value) for kind, value in (worse or {}).items()),
    )  # fmt: skip


def state(*windows, **changes):
    return decide(windows, windows, limits(**changes)).state


GOOD = window()
ONE = window(drift=[0.9])
MANY = window(drift=[0.9] * 9)
SCORES = window(scores=0.9)
WORSE = window(worse={"performance": 0.05})
UNSURE = window(worse={"calibration": 0.05})


@st.composite
def windows(draw):
    rows, values = st.integers(0, 2000), st.floats(0, 2)
    features = tuple(
        Column(f"f{i}", drift=draw(st.none() | values), missing_rise=draw(SHARES),
               unseen=draw(SHARES))
        for i in range(draw(st.integers(1, 6)))
    )  # fmt: skip
    kinds = draw(st.lists(st.sampled_from(["performance", "calibration"]), max_size=2))
    return Window(
        NOW - timedelta(hours=24), NOW, draw(rows), draw(rows), features,
        (Column("score", drift=draw(values)),),
        tuple(quality(kind, draw(st.floats(-1, 1))) for kind in kinds),
    )  # fmt: skip


SERIES = st.lists(windows(), max_size=4)


def test_good_windows_are_ok_and_give_no_reason():
    decision = decide([GOOD, GOOD], [GOOD, GOOD], limits())
    assert (decision.state, decision.reasons) == ("ok", ())


def test_what_training_can_mend_calls_for_it_when_it_lasts():
    for bad in (MANY, SCORES, WORSE, UNSURE):
        assert state(bad, bad) == "retrain"
        assert state(bad, GOOD) == "watch"
        assert state(GOOD, bad) == "ok"
        assert state(bad) == "watch"


def test_as_many_windows_as_asked_for_must_agree():
    assert state(SCORES, SCORES, windows=3) == "watch"
    assert state(SCORES, SCORES, SCORES, windows=3) == "retrain"
    assert state(SCORES, windows=1) == "retrain"


def test_windows_that_exceed_different_limits_do_not_agree():
    assert state(SCORES, WORSE) == "watch"


def test_what_training_can_not_mend_is_watched_however_long_it_lasts():
    for damage in DAMAGE:
        broken = window(drift=[0.0], **{damage: 0.9})
        assert state(broken, broken) == "watch"
    assert state(ONE, ONE) == "watch"


def test_a_feature_whose_drift_is_no_news_is_left_out_of_all_counts():
    assert state(ONE, ONE, ignore=("f?",)) == "ok"
    assert state(MANY, MANY, ignore=("f[0-7]",)) == "watch"
    broken = window(drift=[0.0], missing_rise=0.9)
    assert state(broken, ignore=("f*",)) == "watch"


def test_a_reason_names_what_was_found_and_the_limit():
    said = decide([window(drift=[0.9, 1.5], scores=0.31)] * 2, [], limits()).reasons
    assert said == (
        "predictions drift: probability 0.31, limit 0.2; 2 windows in a row",
        "features drift: f1 1.50, f0 0.90, limit 0.2",
    )
    assert decide([MANY], [], limits()).reasons == (
        "9 of 18 features drift (50%), limit 30%",
        "features drift: f0 0.90, f1 0.90, f2 0.90, f3 0.90, f4 0.90 and 4 more, limit 0.2",
    )
    broken = window(drift=[0.0], missing=0.6, missing_before=0.1, missing_rise=0.45, unseen=0.3)
    assert decide([broken], [], limits()).reasons == (
        "values are missing: f0 60%, was 10%, limit +10%",
        "categories never seen: f0 30.0%, limit 2.0%",
    )
    assert decide([GOOD], [WORSE], limits()).reasons == (
        "a performance 0.7000 (0.6900 to 0.7100), was 0.7500: surely worse by 0.0500, limit 0.02",
    )


def test_too_few_rows_are_ok_and_it_says_so():
    few = window(drift=[9.0] * 9, scores=9.0, worse={"performance": 1.0}, rows=12)
    decision = decide([few, few], [few, few], limits())
    assert (decision.state, decision.reasons) == ("ok", (
        "12 of 500 rows: too few to judge drift",
        "12 of 500 labels: too few to judge performance",
    ))  # fmt: skip


@given(SERIES, SERIES)
def test_no_alarm_on_too_few_rows(asked, labelled):
    few = [[replace(w, rows=99, labels=99) for w in series] for series in (asked, labelled)]
    assert decide(few[0], few[1], limits(rows=100)).state == "ok"


@given(windows(), windows())
def test_no_alarm_on_one_noisy_window(noisy, labelled):
    still = [replace(GOOD, rows=1000)] * 2
    assert decide([noisy, *still], [labelled, *still], limits()).state != "retrain"


@given(SERIES, SERIES, st.floats(0, 1), st.integers(0, 3))
def test_more_drift_never_gives_less_alarm(asked, labelled, more, at):
    def worse(series):
        return [
            replace(
                w,
                features=tuple(
                    replace(f, drift=None if f.drift is None else f.drift + more,
                            missing_rise=f.missing_rise + more, unseen=f.unseen + more)
                    for f in w.features
                ),
                scores=tuple(replace(s, drift=s.drift + more) for s in w.scores),
                qualities=tuple(replace(q, worse=q.worse + more) for q in w.qualities),
            ) if i == at else w
            for i, w in enumerate(series)
        ]  # fmt: skip

    before = decide(asked, labelled, limits())
    after = decide(worse(asked), worse(labelled), limits())
    assert RANK[after.state] >= RANK[before.state]


@given(SERIES, SERIES, st.sampled_from(["drift", "share", "scores", "missing", "performance"]),
       st.floats(0.01, 1), st.floats(0.01, 1))  # fmt: skip
def test_a_tighter_limit_never_gives_less_alarm(asked, labelled, name, one, other):
    tight, loose = sorted((one, other))
    assert (
        RANK[decide(asked, labelled, limits(**{name: tight})).state]
        >= RANK[decide(asked, labelled, limits(**{name: loose})).state]
    )


@given(SERIES, SERIES)
def test_every_alarm_has_a_reason(asked, labelled):
    decision = decide(asked, labelled, limits())
    assert decision.state == "ok" or any("limit" in reason for reason in decision.reasons)
