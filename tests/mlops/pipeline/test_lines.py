"""A stage's line says what a user should look at."""

from mlops.pipeline.lines import NOTHING_COMPARED, screen_line

FEATURIZED = {
    "rows": {"training": 1000, "holdout": 200}, "dropped": {"without an outcome": 0},
    "features": 3, "rounded": {}, "unused_tables": (), "null_share": {"age": 0.5},
    "days": {}, "days_compared": 0,
}  # fmt: skip
TUNED = {
    "family": "linear", "trials": 10, "given_up": 2, "loss_name": "RMSE", "loss": 1.5,
    "constant_loss": 1.25, "no_better": 0, "sample": None,
}  # fmt: skip


def outcome(stage, result):
    return screen_line(stage, result, 1.0, "run").split("s   ", 1)[1]


def test_numbers_that_float32_rounds_are_named():
    plain = "3 features, 1,000 rows to train on, 200 held out; left out: none"
    assert outcome("featurize", FEATURIZED) == plain
    rounded = {**FEATURIZED, "rounded": {"account": (212, 1423)}}
    said = f"{plain}; float32 keeps less of: account (212 of 1,423 values)"
    assert outcome("featurize", rounded) == said


def test_features_without_any_value_are_named():
    empty = {**FEATURIZED, "null_share": {"age": 1.0, "name": 0.2}}
    assert outcome("featurize", empty).endswith("left out: none; without any value: age")


def test_where_no_outcome_of_rows_with_days_is_declared_nothing_is_compared():
    dated = {**FEATURIZED, "days": {"training": ("2020-01-01", "2020-01-09")}}
    assert outcome("featurize", dated).endswith(f"left out: none; {NOTHING_COMPARED}")
    assert outcome("featurize", {**dated, "days_compared": 1}).endswith("left out: none")


def test_the_positive_class_is_named_where_classes_have_names():
    trained = {"digest": "a" * 64, "family": "linear", "rows": 9, "bytes": 10, "parity": 1e-7}
    named = outcome("train", {**trained, "labels": ("gone", "stays")})
    assert named.endswith("native model; the positive class is 'stays'")
    assert outcome("train", {**trained, "labels": ()}).endswith("native model")


def test_trials_that_learnt_nothing_are_counted():
    plain = "linear won 10 trials (2 given up early), validation RMSE 1.5000"
    assert outcome("tune", TUNED) == plain
    said = f"{plain}; 8 no better than a constant prediction (1.2500)"
    assert outcome("tune", {**TUNED, "no_better": 8}) == said


def test_a_search_on_a_sample_says_on_how_many_rows():
    said = outcome("tune", {**TUNED, "sample": (1000, 20_000)})
    assert said.endswith("; searched on 1,000 of 20,000 training rows")


def test_a_table_without_days_has_no_span():
    result = {"rows": {"irises": 150}, "since": None, "until": "2013-12-31", "unknown": []}
    assert screen_line("ingest", result, 1.0, "run").endswith("   1 table, 150 irises")
    result |= {"rows": {"a": 1, "b": 2}, "since": "2013-01-01"}
    line = screen_line("ingest", result, 1.0, "run")
    assert line.endswith("   2 tables, 2 b, 2013-01-01 to 2013-12-31")
