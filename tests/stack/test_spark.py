"""Spark wherever it runs: a real cluster of two workers, and a real Spark Connect server."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from mlops.base.files import read_json
from tests import spark_servers
from tests.conftest import PROJECTS, Done

pytestmark = [pytest.mark.nightly, pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(1800)]
PARALLEL = {"tune.parallelism": 2, "tune.max_evals": 6}
SEARCH, BUNDLE, FEATURES = "models/search", "models/bundle", "data/features"
NOT_LEARNT = """\
from hyperopt import hp

TASK = "binary"
RATE = hp.uniform("lightgbm.learning_rate", -2, -1)
SPACE = {"lightgbm": {"n_estimators": 20, "learning_rate": RATE}}
FIRST = [{"family": "lightgbm", "learning_rate": 0.1}]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with spark_servers.cluster(tmp_path_factory.mktemp("spark") / "cluster") as made:
        yield made


@pytest.fixture(scope="module")
def places(cluster, tmp_path_factory):
    """How a stage is pointed at each place, and the engine that makes it look there."""
    with spark_servers.connect(tmp_path_factory.mktemp("spark") / "connect") as url:
        yield {"here": {}, "cluster": cluster.environment, "connect": {"SPARK_REMOTE": url}}


@pytest.fixture
def made(tracked, tmp_path):
    """Make a workspace of a project with its features, as DuckDB makes them."""

    def make(project):
        workspace = tracked(project, tmp_path / "w")
        workspace.run("ingest", "featurize")
        return workspace

    return make


def succeed(workspace, stage, **environment):
    done = workspace.command(stage, **environment)
    assert done.code == 0, done.err
    return done


def error(done):
    """The one line of a stage that was refused, below Spark's own."""
    assert done.code == 2, done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.err
    return line


@pytest.mark.parametrize("place", ["cluster", "connect"])
@pytest.mark.parametrize("project", ["trips", "shops"])
def test_features_are_duckdb_s_bytes(made, places, cluster, project, place):
    workspace = made(project).change({"engine": "spark"})
    before = workspace.digest(FEATURES)
    succeed(workspace, "featurize", **places[place])
    assert workspace.digest(FEATURES) == before
    if place == "cluster":
        # Each worker's folder has one of an application: both had an executor.
        assert all(list(cluster.folder.glob(f"work-{n}/app-*/*/stderr")) for n in (1, 2))


@pytest.mark.parametrize("searcher", ["hyperopt", "optuna"])
def test_a_search_has_the_same_trials_wherever_they_run(made, places, searcher):
    workspace = made("trips").change({**PARALLEL, "tune.searcher": searcher})
    digests = {}
    for place, environment in places.items():
        workspace.change({"engine": "duckdb" if place == "here" else "spark"})
        succeed(workspace, "tune", **environment)
        digests[place] = workspace.digest(SEARCH)
    assert len(set(digests.values())) == 1, digests
    assert len(read_json(workspace.root / SEARCH / "trials.json")) == 6


@pytest.mark.parametrize("place", ["here", "cluster", "connect"])
def test_a_failing_trial_ends_the_search_with_its_own_cause(made, places, place):
    workspace = made("trips")
    (workspace.root / "src/trips").unlink()
    shutil.copytree(PROJECTS / "trips", workspace.root / "src/trips")
    (workspace.root / "src/trips/models.py").write_text(NOT_LEARNT)
    workspace.change({**PARALLEL, "tune.families": ["lightgbm"]})
    workspace.change({"engine": "duckdb" if place == "here" else "spark"})
    line = error(workspace.command("tune", **places[place]))
    assert line.startswith("error: models.py: lightgbm with {'learning_rate': -1.")
    assert "LightGBMError: Check failed: (learning_rate) > (0.0)" in line
    assert not (workspace.root / SEARCH).exists()


def killed_executors(cluster, workspace, stage):
    """A stage on the cluster whose two executors are killed, of Python's as soon as it works."""
    process = workspace.start(stage, **cluster.environment)
    while process.poll() is None:
        executors = cluster.executors()
        working = stage == "featurize" or all(each.children() for each in executors)
        if len(executors) == 2 and working:
            for each in executors:
                each.kill()
            break
        time.sleep(0.1)
    else:
        pytest.fail("it ended before its executors worked")
    out, err = process.communicate(timeout=1500)
    return Done(process.returncode, out, err)


def test_features_whose_executors_are_killed_are_the_same(made, cluster):
    workspace = made("shops").change({"engine": "spark"})
    before = workspace.digest(FEATURES)
    assert killed_executors(cluster, workspace, "featurize").code == 0
    assert workspace.digest(FEATURES) == before


def test_a_search_whose_executors_are_killed_goes_on_to_the_same_winner(made, cluster):
    workspace = made("trips").change(PARALLEL)
    succeed(workspace, "tune")
    before = workspace.digest(SEARCH)
    workspace.change({"engine": "spark"})
    assert killed_executors(cluster, workspace, "tune").code == 0
    assert workspace.digest(SEARCH) == before


def test_two_workers_fit_the_same_bundle_twice_and_killed_executors_leave_it_whole(made, cluster):
    workspace = made("wine").change({"tune.families": ["xgboost"]})
    succeed(workspace.change({"tune.max_evals": 1}), "tune")
    succeed(workspace.change({"train.workers": 2}), "train", **cluster.environment)
    before = workspace.digest(BUNDLE)
    line = error(killed_executors(cluster, workspace, "train"))
    assert line.startswith("error: params.yaml: train.workers: xgboost with {'learning_rate': ")
    assert "barrier" in line
    assert workspace.digest(BUNDLE) == before
    # Local Spark is another place, and the same result.
    succeed(workspace, "train")
    assert workspace.digest(BUNDLE) == before


@pytest.mark.parametrize("place", ["cluster", "connect"])
def test_raw_tables_that_spark_does_not_see_are_refused(made, place, tmp_path):
    workspace = made("shops").change({"engine": "spark"})
    before = workspace.digest(FEATURES)
    raw = workspace.root / "data/raw"
    with spark_servers.pointed_at(place, tmp_path / "servers", hidden=raw) as environment:
        line = error(workspace.command("featurize", **environment))
    assert line.startswith("error: data/raw/sales: found ")
    assert "expected 1,452 rows as on this machine; share the folder" in line
    assert workspace.digest(FEATURES) == before


def test_on_a_cluster_spark_s_own_settings_stand(cluster):
    code = (
        "from mlops.data import engine; session = engine.start('spark')\n"
        "names = ('spark.sql.shuffle.partitions', 'spark.sql.warehouse.dir',\n"
        "         'spark.driver.bindAddress', 'spark.sql.session.timeZone')\n"
        "print(*(session.sparkContext.getConf().get(name) for name in names))"
    )
    environment = {**os.environ, **cluster.environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "4 None None UTC"


def test_training_on_workers_over_connect_is_refused_in_one_line(made, places):
    workspace = made("wine").change({"tune.families": ["xgboost"]})
    succeed(workspace.change({"tune.max_evals": 1}), "tune")
    workspace.change({"train.workers": 2})
    assert error(workspace.command("train", **places["connect"])) == (
        "error: params.yaml: train.workers: found 2 and SPARK_REMOTE, over which xgboost.spark "
        "can't train; expected 1, or a cluster by spark.master"
    )
