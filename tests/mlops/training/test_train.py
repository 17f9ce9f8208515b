"""Equal inputs are an equal bundle, and nothing of the holdout is in it."""

from types import SimpleNamespace

import msgspec
import pandas as pd
import pytest

from mlops.base.errors import UserError
from mlops.base.files import sha256
from mlops.contract import bundle
from mlops.training import distributed, train
from tests.conftest import STAGES

pytestmark = pytest.mark.slow
BUNDLE, HOLDOUT = "models/bundle", "data/features/holdout.parquet"


@pytest.fixture
def copy(trained, tmp_path):
    return lambda project: trained(project).copy(tmp_path / project)


def test_fresh_processes_say_one_line_each_and_make_the_same_digest_of_shuffled_rows(copy):
    workspace = copy("trips")
    before = bundle.digest(workspace.root / BUNDLE)
    workspace.edit_table("trips", lambda rows: rows.sample(frac=1, random_state=5))
    for number, stage in enumerate(STAGES):
        done = workspace.command(stage, PYTHONHASHSEED=str(number + 1))
        assert (done.code, done.err) == (0, "")
        assert len(done.out.splitlines()) == 1
        assert done.out.startswith(f"{stage} ")
    assert bundle.digest(workspace.root / BUNDLE) == before


def test_nothing_of_the_holdout_is_in_the_model_its_threshold_or_its_reference(copy):
    workspace = copy("trips")
    before = bundle.read_card(workspace.root / BUNDLE)
    rows = pd.read_parquet(workspace.root / HOLDOUT)
    outcome = rows["late"].sample(frac=1, random_state=1).to_numpy()
    changed = rows.assign(late=outcome, line="violet")
    changed.to_parquet(workspace.root / HOLDOUT, index=False)
    workspace.run("tune", "train")
    after = bundle.read_card(workspace.root / BUNDLE)
    assert after.hashes["holdout"] != before.hashes["holdout"]
    hashes = before.hashes | {"holdout": after.hashes["holdout"]}
    assert after == msgspec.structs.replace(before, hashes=hashes, parity=after.parity)


@pytest.fixture
def fitted(finished, tmp_path):
    return finished("diabetes").copy(tmp_path)


def test_training_takes_every_row_before_the_holdout_and_hashes_the_very_files(fitted):
    features = fitted.root / "data/features"
    rows = len(pd.read_parquet(features / "training.parquet"))
    card = bundle.read_card(fitted.root / BUNDLE)
    assert card.trained_on == {"rows": rows, "since": "2020-01-01", "until": "2020-04-27"}
    assert card.hashes["data"] == sha256(features / "training.parquet")
    assert card.hashes["holdout"] == sha256(features / "holdout.parquet")


@pytest.mark.parametrize(
    ("change", "hashed"),
    [
        ({"seed": 7}, {"parameters"}),
        ({"train.reference_rows": 50}, {"parameters"}),
        # Where the rows lie is not in the model.
        ({"evaluate.draws": 30, "data.source": "package", "data.location": "cellar"}, set()),
    ],
)
def test_the_card_hashes_what_makes_it_and_nothing_else(fitted, change, hashed):
    before = train.hashes(fitted.params(), fitted.root)
    after = train.hashes(fitted.change(change).params(), fitted.root)
    assert {name for name in after if after[name] != before[name]} == hashed


def test_training_on_workers_over_connect_is_refused_in_one_line(monkeypatch):
    monkeypatch.setenv("SPARK_REMOTE", "sc://127.0.0.1:9")
    tuned, params = SimpleNamespace(family="xgboost"), SimpleNamespace(workers=2)
    with pytest.raises(UserError) as error:
        distributed.fit(([], []), tuned, SimpleNamespace(train=params))
    assert str(error.value) == (
        "params.yaml: train.workers: found 2 and SPARK_REMOTE, over which xgboost.spark "
        "can't train; expected 1, or a cluster by spark.master"
    )
