"""Evidently's index on bins of the reference, less what chance makes of it; and its silence."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mlops.monitoring import bins, drift

# Evidently alone takes longer to be imported.
pytestmark = pytest.mark.slow
QUIET = """
import os, socket, sys
sys.addaudithook(lambda event, said: event in {"socket.connect", "socket.getaddrinfo"}
                 and not print("asked:", event, said))
import numpy as np
from mlops.monitoring import drift
print(drift.stability_index(np.array([0, 1] * 50), np.array([0, 1, 1] * 40)))
print([file for _, _, files in os.walk(os.environ["HOME"]) for file in files])
"""


def test_the_index_is_what_evidentlys_own_report_says():
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    random = np.random.default_rng(0)
    before, now = random.integers(0, 6, 3000), random.integers(0, 5, 800)
    kind = DataDefinition(categorical_columns=["bin"])
    sides = [
        Dataset.from_pandas(pd.DataFrame({"bin": side}), data_definition=kind)
        for side in (now, before)
    ]
    report = Report([ValueDrift(column="bin", method="psi")]).run(*sides)
    assert drift.stability_index(before, now) == report.dict()["metrics"][0]["value"]


def test_two_samples_of_one_population_have_no_drift_however_small():
    random = np.random.default_rng(1)
    found = [
        drift.beyond_chance(random.integers(0, 10, 5000), random.integers(0, 10, size))
        for size in (drift.VALUES, 500, 5000) for _ in range(200)
    ]  # fmt: skip
    assert np.mean([index > 0 for index in found]) < 0.05
    assert max(found) < 0.1


def test_a_shift_of_one_deviation_is_far_beyond_any_limit():
    random = np.random.default_rng(2)
    cut = bins.numeric(pd.Series(random.normal(size=5000)))
    sides = [cut.codes(pd.Series(random.normal(at, size=500))) for at in (0, 1)]
    assert drift.beyond_chance(*sides) > 0.5


def test_nothing_is_asked_of_the_network_and_nothing_kept_at_home(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", QUIET],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    index, kept = done.stdout.splitlines()
    assert float(index) > 0
    assert kept == "[]"
