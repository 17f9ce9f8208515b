"""The gate: champion and challenger on the same rows, and every way in which it must refuse."""

from __future__ import annotations

import dataclasses
import json
import sys
from contextlib import chdir
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from mlops.base.errors import Refused, UserError
from mlops.contract import dataset
from mlops.forge import git
from mlops.gitops import gate, gate_inputs
from mlops.gitops.gate_inputs import Champion
from mlops.gitops.params import RULES, Gate

LIMITS = Gate(
    limits={"roc_auc": 0.6, "calibration_error": 0.2}, margin=0.01, slice_rows=100,
    slice_limit=0.5, slice_margin=0.02, latency_ms=100.0, size_mb=50.0, draws=50,
)  # fmt: skip


def candidate_of(workspace):
    with chdir(workspace.root):
        return workspace.params(), gate_inputs.candidate(workspace.params(), Path())


class Contest:
    """A candidate and a champion whose scores are made up, on real rows and outcomes."""

    def __init__(self, params, candidate):
        rows = 6000
        generator = np.random.default_rng(7)
        self.params = params
        self.outcome = generator.integers(0, 2, rows)
        holdout = candidate.holdout.iloc[generator.integers(0, len(candidate.holdout), rows)]
        self.base = dataclasses.replace(
            candidate, holdout=holdout.reset_index(drop=True), outcome=self.outcome
        )
        self._noise = generator.normal(size=rows)

    def scores(self, skill):
        """Calibrated probabilities: the greater the skill, the surer and the better."""
        signal = skill * (2 * self.outcome - 1) + self._noise
        return 1 / (1 + np.exp(-2 * skill * signal))

    def smallest_slice(self):
        """Its name in the verdict and its rows; large enough to be judged."""
        columns = {name: self.base.holdout[name].astype(str) for name in self.base.spec.slices}
        counts = {
            (name, value): rows
            for name, values in columns.items()
            for value, rows in values.value_counts().items()
            if rows >= LIMITS.slice_rows
        }
        name, value = min(counts, key=counts.get)
        return f"{name} {value}", (columns[name] == value).to_numpy()

    def decide(self, ours, theirs=None, **limits):
        params = self.params.model_copy(update={"gate": LIMITS.model_copy(update=limits)})
        champion = None if theirs is None else Champion("c" * 64, self.base.card, theirs, "")
        candidate = dataclasses.replace(self.base, prediction=ours)
        return gate.decide(params, candidate, champion, "0" * 40)


@pytest.fixture(scope="module")
def contest(finished):
    return Contest(*candidate_of(finished("trips")))


def refused_for(verdict):
    return [rule.name for rule in verdict.refusals]


def test_a_worse_candidate_is_refused(contest):
    verdict = contest.decide(contest.scores(0.5), contest.scores(0.9))
    assert not verdict.accepted
    assert "roc_auc against the champion" in refused_for(verdict)
    assert "may be worse than the champion" in verdict.line


def test_a_better_candidate_is_accepted(contest):
    verdict = contest.decide(contest.scores(0.9), contest.scores(0.5))
    assert verdict.accepted, verdict.line
    main = next(m for m in verdict.metrics if m.name == "roc_auc")
    assert main.low > 0
    assert main.difference == pytest.approx(main.candidate - main.champion)


def test_an_equal_candidate_is_accepted(contest):
    scores = contest.scores(0.7)
    verdict = contest.decide(scores, scores)
    assert verdict.accepted, verdict.line
    assert {m.difference for m in verdict.metrics} == {0.0}


def test_better_on_average_but_a_slice_collapses_is_refused(contest):
    ours, theirs = contest.scores(2.0), contest.scores(0.3)
    name, inside = contest.smallest_slice()
    ours[inside] = 1 - ours[inside]
    verdict = contest.decide(ours, theirs, slice_limit=None)
    assert next(m for m in verdict.metrics if m.name == "roc_auc").difference > 0
    assert f"roc_auc of {name}" in refused_for(verdict)
    assert "collapsed" in verdict.line


def test_a_slice_below_its_limit_is_refused_unless_it_has_few_rows(contest):
    verdict = contest.decide(contest.scores(0.5), slice_limit=0.9)
    assert any(name.startswith("roc_auc of ") for name in refused_for(verdict))
    verdict = contest.decide(contest.scores(0.5), slice_limit=0.9, slice_rows=10**6)
    assert verdict.accepted, verdict.line
    assert verdict.slices == ()


def test_at_a_first_release_the_limits_alone_decide(contest):
    good, bad = (contest.decide(contest.scores(skill)) for skill in (0.7, 0.02))
    assert good.accepted
    assert (good.champion, good.champion_by) == (None, gate.NO_CHAMPION)
    assert "roc_auc" in refused_for(bad)


@pytest.mark.parametrize(
    ("limit", "rule"),
    [({"latency_ms": 1e-6}, "latency, one row, 99 %"), ({"size_mb": 1e-6}, "model.onnx"),
     ({"limits": {"calibration_error": 1e-6}}, "calibration_error")],
)  # fmt: skip
def test_a_model_beyond_a_limit_is_refused_for_that_alone(contest, limit, rule):
    scores = contest.scores(0.7)
    assert refused_for(contest.decide(scores, scores, **limit)) == [rule]


def test_a_limit_on_no_metric_is_refused_with_the_nearest_name(contest):
    verdict = contest.decide(contest.scores(0.7), limits={"roc_uac": 0.5})
    assert not verdict.accepted
    assert "gate.limits: roc_uac: no metric; did you mean 'roc_auc'?" in verdict.line


@pytest.mark.parametrize("whose", ["candidate", "champion"])
def test_scores_that_are_not_numbers_are_refused(contest, whose):
    good, bad = contest.scores(0.7), contest.scores(0.7)
    bad[3] = np.nan
    with pytest.raises(ValueError, match="missing or infinite values"):
        contest.decide(*((bad, good) if whose == "candidate" else (good, bad)))


def broken(case):
    raise ZeroDivisionError("by nothing")


@pytest.mark.parametrize(
    ("judge", "reason"),
    [(broken, "ZeroDivisionError: by nothing"), (lambda case: [], "it has judged nothing"),
     (lambda case: None, "TypeError: ")],
)  # fmt: skip
def test_a_rule_that_fails_or_answers_nothing_is_a_refusal(contest, monkeypatch, judge, reason):
    module = ModuleType("acme.rule")
    vars(module)["judge"] = judge
    monkeypatch.setitem(sys.modules, "acme", ModuleType("acme"))
    monkeypatch.setitem(sys.modules, "acme.rule", module)
    scores = contest.scores(0.7)
    verdict = contest.decide(scores, scores, rules=(*RULES, "acme.rule"))
    assert refused_for(verdict) == ["acme.rule"]
    assert reason in verdict.line


@pytest.mark.parametrize(
    ("rules", "reason"),
    [((), "params.yaml: gate.rules: found [], expected at least one rule"),
     (("limit",), "params.yaml: gate.rules: found 'limit'; did you mean 'limits'?"),
     (("acme.nothing",), "gate.rules: found 'acme.nothing', no such module")],
)  # fmt: skip
def test_without_rules_or_with_an_unknown_one_nothing_is_accepted(contest, rules, reason):
    verdict = contest.decide(contest.scores(0.9), rules=rules)
    assert not verdict.accepted
    assert reason in verdict.line


def test_only_the_rules_that_are_named_judge(contest):
    verdict = contest.decide(contest.scores(0.9), rules=("size",), limits={"roc_auc": 1.0})
    assert [rule.name for rule in verdict.rules] == ["model.onnx"]
    assert verdict.accepted


def test_a_champion_is_compared_on_errors_the_right_way_round(finished):
    """For a regression the RMSE falls as the model gets better."""
    params, candidate = candidate_of(finished("diabetes"))
    limits = {"limits": {"rmse": 200.0}, "slice_limit": None, "margin": 2.0}
    params = params.model_copy(update={"gate": LIMITS.model_copy(update=limits)})
    noise = np.random.default_rng(1).normal(size=len(candidate.outcome))
    good, bad = candidate.prediction, candidate.prediction + 150 * noise

    def decide(ours, theirs):
        champion = Champion("c" * 64, candidate.card, theirs, "its bundle")
        return gate.decide(params, dataclasses.replace(candidate, prediction=ours), champion, "")

    assert decide(good, bad).accepted
    assert "rmse against the champion" in refused_for(decide(bad, good))


# What follows judges real bundles in a real repository.


@pytest.fixture
def released(clone):
    """A clone whose production pins the bundle in its workspace."""
    pin = clone.judged_pin()
    clone.pin("production", pin)
    return clone, pin


def test_a_real_bundle_is_accepted_as_its_own_champion(released):
    clone, pin = released
    verdict = clone.judge()
    assert verdict.accepted, verdict.line
    assert (verdict.champion, verdict.champion_by) == (pin.digest, "its bundle")


def test_the_champion_is_what_git_pins_at_the_base_and_not_what_the_registry_says(released):
    from mlflow import MlflowClient

    clone, pin = released
    clone.challenge()
    client = MlflowClient(f"sqlite:///{clone.root / 'mlruns/mlflow.db'}")
    client.set_registered_model_alias("trips-model", "production", "2")
    verdict = clone.judge()
    assert verdict.candidate != pin.digest
    assert verdict.champion == pin.digest


def test_a_champion_that_no_store_has_is_refused_with_every_place_searched(released, monkeypatch):
    clone, pin = released
    clone.pin_what_no_store_has("production", pin)
    verdict = clone.judge()
    assert refused_for(verdict) == ["champion"]
    assert "DVC: 1111" in verdict.line
    assert "MLflow: no run of it" in verdict.line
    secret = "her-word"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://maria:{secret}@127.0.0.1:9")
    verdict = clone.judge()
    assert "MLFLOW_TRACKING_URI: http://127.0.0.1:9 does not answer" in verdict.line
    assert secret not in verdict.model_dump_json()


def test_a_champion_whose_bytes_are_not_the_pinned_ones_is_refused(released):
    clone, pin = released
    clone.pin("production", pin, digest="2" * 64)
    verdict = clone.judge()
    assert refused_for(verdict) == ["champion"]
    assert f"found digest {pin.digest[:12]}, expected 222222222222" in verdict.line


@pytest.mark.parametrize("name", ["models/bundle/model.onnx", "reports/holdout.parquet"])
def test_a_fetched_champion_that_was_changed_is_fetched_again(released, name):
    clone, pin = released
    clone.judge()
    path = clone.root / ".run/bundles" / pin.digest / name
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole + b"!")
    assert clone.judge().accepted
    assert path.read_bytes() == whole


def test_a_manifest_that_is_not_one_is_refused(released):
    clone, _ = released
    (clone.root / "environments/production.yaml").write_text("target: local\n")
    clone.commit("Break it")
    verdict = clone.judge()
    assert refused_for(verdict) == ["pins"]
    assert "endpoint: missing" in verdict.line


def test_a_base_that_is_not_there_is_refused(clone):
    assert refused_for(clone.judge(base="nowhere")) == ["pins"]


def test_a_changed_holdout_is_refused(clone):
    path = clone.root / "data/features" / dataset.HOLDOUT
    table = pd.read_parquet(path)
    path.unlink()
    table.iloc[:-1].to_parquet(path, index=False)
    verdict = clone.judge()
    assert refused_for(verdict) == ["candidate"]
    assert "holdout.parquet: found digest" in verdict.line


def test_evidence_of_another_bundle_is_refused(clone):
    path = clone.root / "reports/holdout.parquet"
    table = pd.read_parquet(path)
    table["prediction"] += 0.01
    path.unlink()
    table.to_parquet(path, index=False)
    verdict = clone.judge()
    assert refused_for(verdict) == ["candidate"]
    assert "is of another bundle" in verdict.line


def test_a_champion_that_has_seen_the_holdout_is_refused(released):
    clone, pin = released
    days = json.loads((clone.root / "models/bundle/bundle.json").read_text())["trained_on"]
    clone.pin_with_card(pin, trained_on={**days, "until": "2023-03-20"})
    verdict = clone.judge()
    assert refused_for(verdict) == ["champion"]
    assert "has seen this holdout" in verdict.line


def test_a_champion_of_another_task_is_refused(released):
    clone, pin = released
    clone.pin_with_card(pin, target="early")
    assert "its task is binary of early (2), the candidate's binary of late" in clone.judge().line


def gone(clone):
    """The champion's columns, with one that the candidate's features no longer have."""
    card = json.loads((clone.root / "models/bundle/bundle.json").read_text())
    return card, [*card["inputs"], {"name": "gone", "type": "float", "unit": "g"}]


def test_a_champion_that_cannot_read_the_features_is_compared_by_its_evidence(released):
    clone, pin = released
    clone.pin_with_card(pin, inputs=gone(clone)[1])
    verdict = clone.judge()
    assert verdict.accepted, verdict.line
    assert verdict.champion_by == "its evidence"


def test_a_champion_without_predictions_is_refused_with_what_to_do(released):
    clone, pin = released
    card, inputs = gone(clone)
    clone.pin_with_card(pin, inputs=inputs, hashes={**card["hashes"], "holdout": "a" * 64})
    verdict = clone.judge()
    assert refused_for(verdict) == ["champion"]
    assert "it reads gone" in verdict.line
    assert "keep the columns for one release" in verdict.line


def test_the_command_writes_the_verdict_and_raises_when_it_refuses(clone):
    (clone.root / "models/bundle/model.onnx").unlink()
    with chdir(clone.root), pytest.raises(Refused, match="candidate"):
        gate.run(clone.params(), Path(), "HEAD")
    assert json.loads((clone.root / "verdict/verdict.json").read_text())["accepted"] is False


# Pins that a branch moves by hand.


def test_a_pin_that_nobody_judged_is_refused_whatever_the_candidate(released):
    clone, pin = released
    clone.pin("production", pin, digest="9" * 64)
    verdict = clone.judge(base="HEAD~1")
    assert refused_for(verdict) == ["pin of production"]
    assert "nobody has judged these bytes" in verdict.line


def test_a_branch_that_only_puts_back_an_earlier_pin_is_accepted_without_scores(released):
    """The champion's bytes may be gone: the way back must not depend on them."""
    clone, pin = released
    clone.pin("production", pin, digest="1" * 64)
    clone.pin("production", pin)
    verdict = clone.judge(base="HEAD~1")
    assert verdict.accepted, verdict.line
    assert [rule.name for rule in verdict.rules] == ["pin of production"]
    assert verdict.champion_by == "not asked: only pins change"


def test_a_branch_that_pins_its_own_candidate_is_judged_as_any_other(clone):
    clone.pin("staging", clone.judged_pin())
    (clone.root / "README.md").write_text("More than a pin.\n")
    clone.commit("And a word")
    verdict = clone.judge(base="HEAD~2")
    assert verdict.accepted, verdict.line
    assert "pin of staging" in [rule.name for rule in verdict.rules]
    assert len(verdict.rules) > 2


def test_without_the_remote_s_main_line_no_base_is_guessed(clone):
    clone.git("update-ref", "-d", "refs/remotes/origin/main")
    with pytest.raises(UserError, match="origin/main: not here; `git fetch origin`"):
        git.base(clone.root)
    clone.git("remote", "remove", "origin")
    assert git.base(clone.root) == "HEAD"
