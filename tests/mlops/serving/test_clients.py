"""Clients of Triton, KServe and MLServer work unchanged, and get the bundle's own answers."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops.contract import bundle
from tests.served import served

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(600)]
HERE = Path(__file__).parent
CLIENTS = HERE / "clients.lock"
MLSERVER = HERE.parents[2] / "benchmarks" / "serving" / "rivals" / "mlserver.lock"
CASES = [
    ("triton", CLIENTS), ("triton_json", CLIENTS), ("kserve", CLIENTS),
    ("kserve_binary", CLIENTS), ("mlserver", MLSERVER),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(made):
    return made("linear", "multiclass")


@pytest.fixture(scope="module")
def service(folder, tmp_path_factory):
    with served(folder, tmp_path_factory.mktemp("service"), "--version", "3") as running:
        yield running


@pytest.fixture(scope="module")
def frame(folder):
    """Real rows; a number is missing, a word is new."""
    names = [column.name for column in bundle.read_card(folder).inputs]
    rows = pd.read_parquet(folder / bundle.REFERENCE, columns=names).head(30)
    rows.iloc[3, rows.columns.get_loc("z")] = np.nan
    rows.iloc[4, rows.columns.get_loc("words")] = "never seen: ☃"
    return rows


@pytest.fixture
def run(programs, service, frame):
    def call(client, lock):
        done = subprocess.run(
            [programs(lock) / "python", HERE / "real_clients.py", client, service.url,
             "multiclass-model"],
            input=json.dumps(frame.to_dict("list")), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return call


@pytest.mark.parametrize(("client", "lock"), CASES)
def test_a_client_gets_the_bundles_answers(run, folder, frame, client, lock):
    found = run(client, lock)
    expected = bundle.Scorer(folder).predict(frame)
    assert list(found) == [f"probability_{place}" for place in range(3)]
    assert (np.column_stack(list(found.values())) == expected).all()


def test_what_is_refused_is_the_clients_own_exception_with_the_reason(run):
    assert run("triton_refused", CLIENTS) == {
        "status": ["422"], "message": ["inputs: unknown column 'nothing'"]
    }  # fmt: skip
