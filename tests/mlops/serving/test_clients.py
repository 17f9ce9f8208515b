"""Triton's client works unchanged, and gets the bundle's own answers."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops.contract import bundle
from tests.conftest import REPOSITORY
from tests.served import served

pytestmark = [pytest.mark.slow, pytest.mark.nightly]


def test_tritons_client_gets_the_bundles_answers_and_raises_refusals(made, programs, tmp_path):
    folder = made("linear", "multiclass")
    names = [column.name for column in bundle.read_card(folder).inputs]
    rows = pd.read_parquet(folder / bundle.REFERENCE, columns=names).head(30)
    rows.iloc[3, rows.columns.get_loc("z")] = np.nan
    rows.iloc[4, rows.columns.get_loc("words")] = "never seen: ☃"
    python = programs(REPOSITORY / "examples/triton.lock") / "python"
    script = Path(__file__).with_name("triton_client.py")
    with served(folder, tmp_path, "--version=3") as service:
        done = subprocess.run(
            [python, script, service.url, "multiclass-model"],
            input=json.dumps(rows.to_dict("list")), capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *answers, refusal = json.loads(done.stdout)
    expected = bundle.Scorer(folder).predict(rows)
    for found in answers:
        assert list(found) == [f"probability_{place}" for place in range(3)]
        assert (np.column_stack(list(found.values())) == expected).all()
    assert refusal == ["422", "inputs: unknown column 'nothing'"]
