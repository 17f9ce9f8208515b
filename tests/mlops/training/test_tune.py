"""The search is repeatable, never worse than the hand-set model, and blind to the holdout."""

import numpy as np
import pandas as pd
import pytest

from mlops.base.errors import UserError
from mlops.base.files import read_json, write_json
from mlops.contract.result import Tuned

pytestmark = pytest.mark.slow


@pytest.fixture
def wines(finished, tmp_path):
    return finished("wine").copy(tmp_path)


def trials(workspace):
    return read_json(workspace.root / "models/search/trials.json")


def test_the_seed_alone_decides_the_bytes(trained, tmp_path):
    wines = trained("wine").copy(tmp_path)
    before, tried = wines.digest("models/search"), trials(wines)
    result = wines.run("tune")
    assert wines.digest("models/search") == before
    assert Tuned.load(wines.root / "models/search") == result
    wines.change({"seed": 1}).run("tune")
    assert [t["hyperparameters"] for t in trials(wines)] != [t["hyperparameters"] for t in tried]


def test_hand_set_candidates_come_first_and_a_loss_is_the_mean_over_the_periods(trained):
    from wine.models import FIRST

    wines = trained("wine")
    first = trials(wines)[: len(FIRST)]
    assert [trial["family"] for trial in first] == [candidate["family"] for candidate in FIRST]
    winner = Tuned.load(wines.root / "models/search")
    for trial in [trial for trial in trials(wines) if not trial["given_up"]]:
        assert winner.loss <= trial["loss"] == pytest.approx(sum(trial["fold_losses"]) / 2)


def test_one_trial_of_the_wanted_family_is_its_hand_set_candidate(wines):
    from wine.models import FIRST

    result = wines.change({"tune.max_evals": 1, "tune.families": ["linear"]}).run("tune")
    assert (result.trials, result.family) == (1, "linear")
    hand_set = next(candidate for candidate in FIRST if candidate["family"] == "linear")
    assert hand_set.items() <= {"family": result.family, **result.hyperparameters}.items()


def test_a_hopeless_trial_is_judged_on_one_look_only(wines):
    wines.change({"tune.give_up": 1000.0}).run("tune")
    assert [len(trial["fold_losses"]) for trial in trials(wines)] == [2, 2, 2, 2]
    wines.change({"tune.give_up": 0.0, "tune.max_evals": 8}).run("tune")
    given_up = [trial for trial in trials(wines) if trial["given_up"]]
    whole = [trial for trial in trials(wines) if not trial["given_up"]]
    assert not [trial for trial in given_up if "fold_losses" in trial]
    assert min(t["first_look"] for t in given_up) > max(t["first_look"] for t in whole)


def test_a_class_that_only_the_holdout_has_is_refused_before_the_search(wines):
    path = wines.root / "data/features/result.json"
    write_json(path, {**read_json(path), "unseen": ["3"]})
    with pytest.raises(UserError) as error:
        wines.run("tune")
    assert str(error.value) == (
        "features: grower: found the class 3 in the holdout alone, expected training rows of it; "
        "move the split (params.yaml: split), or leave its rows out"
    )


def test_trials_that_are_no_better_than_a_constant_are_counted(wines):
    path = wines.root / "data/features/training.parquet"
    rows = pd.read_parquet(path)
    # Nothing to learn: the classes in turn.
    rows.assign(grower=np.arange(len(rows)) % 3, alcohol=1.0).to_parquet(path)
    result = wines.change({"tune.max_evals": 2}).run("tune")
    assert result.no_better == sum(t["loss"] >= result.constant_loss for t in trials(wines))
    assert result.constant_loss == pytest.approx(np.log(3), abs=0.01)
