"""A stage's line says what a user should look at."""

import pytest

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


DATED = {**FEATURIZED, "days": {"training": ("2020-01-01", "2020-01-09")}}
TRAINED = {"digest": "a" * 64, "family": "linear", "rows": 9, "bytes": 10, "parity": 1e-7}
INGESTED = {"rows": {"irises": 150}, "since": None, "until": "2013-12-31", "unknown": []}
PLAIN = {
    "ingest": "1 table, 150 irises",
    "featurize": "3 features, 1,000 rows to train on, 200 held out; left out: none",
    "tune": "linear won 10 trials (2 given up early), validation RMSE 1.5000",
}


@pytest.mark.parametrize(
    ("stage", "result", "end"),
    [
        ("ingest", INGESTED, PLAIN["ingest"]),
        ("ingest", INGESTED | {"rows": {"a": 1, "b": 2}, "since": "2013-01-01"},
         "2 tables, 2 b, 2013-01-01 to 2013-12-31"),
        ("ingest", INGESTED | {"unknown": ["wines.a", "wines.b"]},
         f"{PLAIN['ingest']}; in no schema, left out: wines.a, wines.b"),
        ("featurize", FEATURIZED, PLAIN["featurize"]),
        ("featurize", FEATURIZED | {"rounded": {"account": (212, 1423)}},
         f"{PLAIN['featurize']}; float32 keeps less of: account (212 of 1,423 values)"),
        ("featurize", FEATURIZED | {"unused_tables": tuple("abcdefg")},
         f"{PLAIN['featurize']}; tables not used: a, b, c, d, e and 2 more"),
        ("featurize", FEATURIZED | {"null_share": {"age": 1.0, "name": 0.2}},
         "left out: none; without any value: age"),
        ("featurize", DATED, f"left out: none; {NOTHING_COMPARED}"),
        ("featurize", DATED | {"days_compared": 1}, "left out: none"),
        ("tune", TUNED, PLAIN["tune"]),
        ("tune", TUNED | {"no_better": 8},
         f"{PLAIN['tune']}; 8 no better than a constant prediction (1.2500)"),
        ("tune", TUNED | {"sample": (1000, 20_000)},
         "; searched on 1,000 of 20,000 training rows"),
        ("train", TRAINED | {"labels": ()}, "native model"),
        ("train", TRAINED | {"labels": ("gone", "stays")},
         "native model; the positive class is 'stays'"),
    ],
)  # fmt: skip
def test_what_a_user_should_look_at_is_in_the_line(stage, result, end):
    line = screen_line(stage, result, 1.0, "run")
    assert line.startswith(f"{stage:<10} run          1.0 s   ")
    assert line.endswith(end)
