"""Spark wherever it runs: a real cluster of two workers, and a real Spark Connect server."""

import shutil
import time

import pytest

from mlops.base.files import read_json
from tests import spark_servers
from tests.conftest import PROJECTS, Done

pytestmark = [pytest.mark.nightly, pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(1800)]
PARALLEL = {"tune.parallelism": 2, "tune.max_evals": 4}
SEARCH, BUNDLE, FEATURES = "models/search", "models/bundle", "data/features"
NOT_LEARNT = """\
from hyperopt import hp

TASK = "binary"
RATE = hp.uniform("lightgbm.learning_rate", -2, -1)
SPACE = {"lightgbm": {"n_estimators": 20, "learning_rate": RATE}}
FIRST = [{"family": "lightgbm", "learning_rate": 0.1}]
"""


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """A folder that is empty for Spark's servers."""
    return tmp_path_factory.mktemp("unseen")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, unseen):
    with spark_servers.cluster(tmp_path_factory.mktemp("spark") / "cluster", unseen) as made:
        yield made


@pytest.fixture(scope="module")
def places(cluster, tmp_path_factory, unseen):
    """How a stage is pointed at each place."""
    with spark_servers.connect(tmp_path_factory.mktemp("spark") / "connect", unseen) as url:
        yield {"cluster": cluster.environment, "connect": {"SPARK_REMOTE": url}}


@pytest.fixture
def made(tracked, tmp_path):
    """Make a workspace of a project with its features, as DuckDB makes them."""

    def make(project, root=tmp_path / "w"):
        workspace = tracked(project, root)
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


@pytest.mark.parametrize("project", ["trips", "shops"])
def test_features_over_connect_are_duckdb_s_bytes(made, places, project):
    workspace = made(project).change({"engine": "spark"})
    before = workspace.digest(FEATURES)
    succeed(workspace, "featurize", **places["connect"])
    assert workspace.digest(FEATURES) == before


def test_features_whose_executors_are_killed_are_the_same(made, cluster):
    workspace = made("trips").change({"engine": "spark"})
    before = workspace.digest(FEATURES)
    assert killed_executors(cluster, workspace, "featurize").code == 0
    assert workspace.digest(FEATURES) == before


def test_a_search_whose_executors_are_killed_goes_on_to_the_same_winner(made, places, cluster):
    """And over Connect, and in processes here: the same search anywhere."""
    workspace = made("trips").change(PARALLEL)
    workspace.run("tune")
    before = workspace.digest(SEARCH)
    assert len(read_json(workspace.root / SEARCH / "trials.json")) == 4
    workspace.change({"engine": "spark"})
    succeed(workspace, "tune", **places["connect"])
    assert workspace.digest(SEARCH) == before
    assert killed_executors(cluster, workspace, "tune").code == 0
    assert workspace.digest(SEARCH) == before


def test_a_failing_trial_ends_the_search_with_its_own_cause(made, places):
    workspace = made("trips")
    (workspace.root / "src/trips").unlink()
    shutil.copytree(PROJECTS / "trips", workspace.root / "src/trips")
    (workspace.root / "src/trips/models.py").write_text(NOT_LEARNT)
    workspace.change({**PARALLEL, "tune.families": ["lightgbm"], "engine": "spark"})
    line = error(workspace.command("tune", **places["connect"]))
    assert line.startswith("error: models.py: lightgbm with {'learning_rate': -1.")
    assert "LightGBMError: Check failed: (learning_rate) > (0.0)" in line
    assert not (workspace.root / SEARCH).exists()


def test_two_workers_fit_the_same_bundle_twice_and_killed_executors_leave_it_whole(made, cluster):
    workspace = made("wine").change({"tune.families": ["xgboost"], "tune.max_evals": 1})
    workspace.run("tune")
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
def test_raw_tables_that_spark_does_not_see_are_refused(made, places, place, unseen):
    if not spark_servers.can_hide():
        pytest.skip("only root may hide a folder")
    workspace = made("shops", unseen / place).change({"engine": "spark"})
    before = workspace.digest(FEATURES)
    line = error(workspace.command("featurize", **places[place]))
    assert line.startswith("error: data/raw/sales: found ")
    assert "expected 1,452 rows as on this machine; share the folder" in line
    assert workspace.digest(FEATURES) == before
