"""The gate: champion and challenger on the same rows, and every way in which it must refuse."""

from __future__ import annotations

import dataclasses
import json
from contextlib import chdir
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from mlops.base.errors import Refused
from mlops.contract import dataset
from mlops.gitops import gate, gate_inputs, rules
from mlops.gitops.gate_inputs import Champion
from mlops.gitops.params import Gate

LIMITS = Gate(
    limits={"roc_auc": 0.6, "calibration_error": 0.2}, margin=0.01, slice_rows=100,
    slice_limit=0.5, slice_margin=0.02, latency_ms=100.0, size_mb=50.0, draws=50,
)  # fmt: skip


@pytest.fixture(scope="module")
def flights(finished):
    """The flights' bundle, read as a candidate; to give other scores to."""
    workspace = finished("flights")
    with chdir(workspace.root):
        return workspace.params(), gate_inputs.candidate(workspace.params(), Path())


class Contest:
    """A candidate and a champion whose scores are made up, on real rows and outcomes."""

    def __init__(self, params, candidate):
        rows = 6000
        generator = np.random.default_rng(7)
        self.params = params.model_copy(update={"gate": LIMITS})
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
        """Its column, its value and its rows; large enough to be judged."""
        columns = {name: self.base.holdout[name].astype(str) for name in self.base.spec.slices}
        counts = {
            (name, value): rows
            for name, values in columns.items()
            for value, rows in values.value_counts().items()
            if rows >= LIMITS.slice_rows
        }
        name, value = min(counts, key=counts.get)
        return name, value, (columns[name] == value).to_numpy()

    def candidate(self, scores):
        return dataclasses.replace(self.base, prediction=scores)

    def champion(self, scores):
        return Champion("c" * 64, self.base.card, scores, "its bundle")

    def decide(self, ours, theirs=None, **limits):
        params = self.params.model_copy(update={"gate": LIMITS.model_copy(update=limits)})
        champion = None if theirs is None else self.champion(theirs)
        return gate.decide(params, self.candidate(ours), champion, "0" * 40)


@pytest.fixture(scope="module")
def contestants(flights):
    return Contest(*flights)


def refused_for(verdict):
    return [rule.name for rule in verdict.refusals]


def test_champion_wins(contestants):
    verdict = contestants.decide(contestants.scores(0.5), contestants.scores(0.9))
    assert not verdict.accepted
    assert "roc_auc against the champion" in refused_for(verdict)
    assert "may be worse than the champion" in verdict.line


def test_challenger_wins(contestants):
    verdict = contestants.decide(contestants.scores(0.9), contestants.scores(0.5))
    assert verdict.accepted, verdict.line
    main = next(m for m in verdict.metrics if m.name == "roc_auc")
    assert main.low > 0
    assert main.difference == pytest.approx(main.candidate - main.champion)


def test_equal_is_accepted(contestants):
    scores = contestants.scores(0.7)
    verdict = contestants.decide(scores, scores)
    assert verdict.accepted, verdict.line
    assert {m.difference for m in verdict.metrics} == {0.0}


def test_better_on_average_but_a_slice_collapses_is_refused(contestants):
    ours, theirs = contestants.scores(0.9), contestants.scores(0.6)
    column, value, inside = contestants.smallest_slice()
    ours[inside] = 1 - ours[inside]
    verdict = contestants.decide(ours, theirs, slice_limit=None)
    assert next(m for m in verdict.metrics if m.name == "roc_auc").difference > 0
    assert f"roc_auc of {column} {value}" in refused_for(verdict)
    assert "collapsed" in verdict.line


def test_a_slice_below_its_limit_is_refused_without_any_champion(contestants):
    verdict = contestants.decide(contestants.scores(0.5), slice_limit=0.9)
    assert any(name.startswith("roc_auc of ") for name in refused_for(verdict))


def test_a_slice_with_few_rows_is_not_judged(contestants):
    verdict = contestants.decide(contestants.scores(0.5), slice_limit=0.9, slice_rows=10**6)
    assert verdict.accepted, verdict.line
    assert verdict.slices == ()


def test_first_release_with_no_champion_the_limits_alone_decide(contestants):
    good, bad = (contestants.decide(contestants.scores(skill)) for skill in (0.7, 0.02))
    assert good.accepted
    assert good.champion is None
    assert good.champion_by == "none yet: the limits alone decide"
    assert "roc_auc" in refused_for(bad)


def test_a_model_that_is_not_calibrated_is_refused(contestants):
    verdict = contestants.decide(contestants.scores(0.7) ** 4, limits={"calibration_error": 0.05})
    assert refused_for(verdict) == ["calibration_error"]


@pytest.mark.parametrize(
    ("limit", "rule"),
    [({"latency_ms": 1e-6}, "latency, one row, 99 %"), ({"size_mb": 1e-6}, "model.onnx")],
)
def test_a_model_that_is_too_slow_or_too_large_is_refused(contestants, limit, rule):
    scores = contestants.scores(0.7)
    assert refused_for(contestants.decide(scores, scores, **limit)) == [rule]


def test_a_limit_on_no_metric_is_refused_with_the_nearest_name(contestants):
    verdict = contestants.decide(contestants.scores(0.7), limits={"roc_uac": 0.5})
    assert not verdict.accepted
    assert "gate.limits: roc_uac: no metric; did you mean 'roc_auc'?" in verdict.line


@pytest.mark.parametrize("whose", ["candidate", "champion"])
def test_scores_that_are_not_numbers_are_refused(contestants, whose):
    good, bad = contestants.scores(0.7), contestants.scores(0.7)
    bad[3] = np.nan
    with pytest.raises(ValueError, match="missing or infinite values"):
        contestants.decide(*((bad, good) if whose == "candidate" else (good, bad)))


def test_an_exception_in_a_rule_is_a_refusal_with_its_reason(contestants, monkeypatch):
    def broken_rule(case):
        raise ZeroDivisionError("by nothing")
        yield

    monkeypatch.setattr(rules, "RULES", (*rules.RULES, broken_rule))
    scores = contestants.scores(0.7)
    verdict = contestants.decide(scores, scores)
    assert refused_for(verdict) == ["broken rule"]
    assert "ZeroDivisionError: by nothing" in verdict.line


def test_no_rule_at_all_is_no_acceptance(contestants, monkeypatch):
    monkeypatch.setattr(rules, "RULES", ())
    scores = contestants.scores(0.7)
    assert not contestants.decide(scores, scores).accepted


def test_a_champion_is_compared_on_errors_the_right_way_round(finished):
    """For a regression the RMSE falls as the model gets better."""
    workspace = finished("diabetes")
    with chdir(workspace.root):
        candidate = gate_inputs.candidate(workspace.params(), Path())
    params = workspace.params()
    params = params.model_copy(
        update={
            "gate": LIMITS.model_copy(
                update={"limits": {"rmse": 200.0}, "slice_limit": None, "margin": 2.0}
            )
        }
    )
    worse = candidate.prediction + 150 * np.random.default_rng(1).normal(
        size=len(candidate.outcome)
    )

    def decide(ours, theirs):
        champion = Champion("c" * 64, candidate.card, theirs, "its bundle")
        return gate.decide(params, dataclasses.replace(candidate, prediction=ours), champion, "")

    better = decide(candidate.prediction, worse)
    assert better.accepted, better.line
    refused = decide(worse, candidate.prediction)
    assert "rmse against the champion" in refused_for(refused)


# What follows judges real bundles in a real repository.


@pytest.fixture
def released(clone):
    """A clone whose production pins the bundle in its workspace."""
    made = clone.judged_pin()
    clone.pin("production", made)
    return clone, made


def test_a_real_bundle_is_accepted_as_its_own_champion(released):
    clone, pinned = released
    verdict = clone.judge()
    assert verdict.accepted, verdict.line
    assert (verdict.champion, verdict.champion_by) == (pinned.digest, "its bundle")


def test_the_champion_is_what_git_pins_at_the_base_and_not_what_the_registry_says(released):
    from mlops.pipeline import tracking

    clone, pinned = released
    clone.retrain(seed=5)
    with chdir(clone.root):
        client, _ = tracking.connect(clone.params().model, Path())
        client.set_registered_model_alias("wine-model", "production", "2")
    verdict = clone.judge()
    assert verdict.candidate != pinned.digest
    assert verdict.champion == pinned.digest


def test_a_champion_that_is_nowhere_is_refused_with_where_it_was_looked_for(released):
    clone, pinned = released
    clone.pin_what_no_store_has("production", pinned)
    verdict = clone.judge()
    assert refused_for(verdict) == ["champion"]
    assert "DVC: 1111" in verdict.line
    assert "MLflow: no run of it" in verdict.line


def test_a_champion_that_was_tampered_with_is_refused(released):
    """Its bytes are there under its name, but they are not the bytes that were pinned."""
    clone, pinned = released
    claimed = pinned.model_copy(update={"digest": "2" * 64})
    clone.pin("production", claimed)
    verdict = clone.judge()
    assert refused_for(verdict) == ["champion"]
    assert f"found digest {pinned.digest[:12]}, expected 222222222222" in verdict.line


def test_a_champion_in_the_cache_whose_bytes_changed_is_fetched_from_elsewhere(released):
    clone, pinned = released
    clone.judge()
    kept = clone.root / ".run" / "bundles" / pinned.digest / "models" / "bundle" / "model.onnx"
    kept.chmod(0o644)
    kept.write_bytes(kept.read_bytes() + b"!")
    assert clone.judge().accepted
    assert not kept.read_bytes().endswith(b"!")


def test_a_manifest_that_is_not_one_is_refused(released):
    clone, _ = released
    (clone.root / "environments" / "production.yaml").write_text("target: local\n")
    clone.commit("Break it")
    verdict = clone.judge()
    assert refused_for(verdict) == ["pins"]
    assert "endpoint: missing" in verdict.line


def test_a_base_that_is_not_there_is_refused(released):
    clone, _ = released
    verdict = clone.judge(base="nowhere")
    assert refused_for(verdict) == ["pins"]


def test_a_changed_holdout_is_refused(released):
    clone, _ = released
    path = clone.root / "data" / "features" / dataset.HOLDOUT
    table = pd.read_parquet(path)
    path.unlink()
    table.iloc[:-1].to_parquet(path, index=False)
    verdict = clone.judge()
    assert refused_for(verdict) == ["candidate"]
    assert "holdout.parquet: found digest" in verdict.line


def test_evidence_that_speaks_of_another_bundle_is_refused(released):
    clone, _ = released
    path = clone.root / "reports" / "holdout.parquet"
    table = pd.read_parquet(path)
    table["prediction_0"] += 0.01
    path.unlink()
    table.to_parquet(path, index=False)
    verdict = clone.judge()
    assert refused_for(verdict) == ["candidate"]
    assert "speaks of another bundle" in verdict.line


def test_a_champion_that_has_seen_the_holdout_is_refused(released):
    """The holdout moves back to days that the champion was trained on."""
    clone, _ = released
    clone.workspace.change({"data.until": "2021-05-20"})
    clone.workspace.run("ingest", "featurize")
    clone.retrain()
    verdict = clone.judge(base="HEAD")
    assert refused_for(verdict) == ["champion"]
    assert "has seen this holdout" in verdict.line


@pytest.fixture
def narrower(released, monkeypatch):
    """A champion that reads a column which the candidate's features no longer have."""
    clone, pinned = released
    from mlops.contract import bundle

    read = bundle.read_card

    def with_another_column(folder):
        card = read(folder)
        if ".run" not in folder.parts:
            return card
        column = bundle.Input(name="gone", type="float", unit="g")
        return msgspec.structs.replace(card, inputs=(*card.inputs, column))

    monkeypatch.setattr(bundle, "read_card", with_another_column)
    return clone, pinned


def test_a_champion_that_cannot_read_the_features_speaks_by_its_evidence(narrower):
    clone, _ = narrower
    verdict = clone.judge()
    assert verdict.accepted, verdict.line
    assert verdict.champion_by == "its evidence"


def test_a_champion_that_can_speak_neither_way_is_refused_with_what_to_do(narrower):
    clone, _ = narrower
    clone.workspace.change({"data.until": "2021-05-31"})
    clone.workspace.run("ingest", "featurize")
    clone.retrain()
    verdict = clone.judge()
    assert refused_for(verdict) == ["champion"]
    assert "it reads gone" in verdict.line
    assert "keep the columns for one release" in verdict.line


def test_the_command_writes_the_verdict_and_raises_when_refused(released):
    clone, _ = released
    (clone.root / "models" / "bundle" / "model.onnx").unlink()
    with chdir(clone.root), pytest.raises(Refused, match="candidate"):
        gate.run(clone.params(), Path(), "HEAD")
    said = json.loads((clone.root / "verdict" / "verdict.json").read_text())
    assert said["accepted"] is False
    assert "| ❌ | candidate |" in (clone.root / "verdict" / "verdict.md").read_text()


# Pins that a branch moves by hand.


def test_a_pin_that_nobody_judged_is_refused_whatever_the_candidate(released):
    clone, pinned = released
    forged = pinned.model_copy(update={"digest": "9" * 64})
    clone.pin("production", forged)
    clone.workspace.change({"seed": 2013})
    verdict = clone.judge(base="HEAD~1")
    assert refused_for(verdict) == ["pin of production"]
    assert "nobody has judged these bytes" in verdict.line


def test_a_branch_that_only_puts_back_an_earlier_pin_is_accepted_without_scores(released):
    """The champion's bytes may be gone: the way back must not depend on them."""
    clone, pinned = released
    lost = pinned.model_copy(update={"digest": "1" * 64})
    clone.pin("production", lost)
    clone.pin("production", pinned)
    verdict = clone.judge(base="HEAD~1")
    assert verdict.accepted, verdict.line
    assert [rule.name for rule in verdict.rules] == ["pin of production"]
    assert verdict.champion_by == "not asked: only pins change"


def test_a_branch_that_pins_what_it_has_trained_is_judged_as_any_other(clone):
    made = clone.judged_pin()
    clone.pin("staging", made)
    (clone.root / "README.md").write_text("More than a pin.\n")
    clone.commit("And a word")
    verdict = clone.judge(base="HEAD~2")
    assert verdict.accepted, verdict.line
    assert "pin of staging" in [rule.name for rule in verdict.rules]
    assert len(verdict.rules) > 2


def test_without_the_remote_s_main_line_no_base_is_guessed(clone):
    from mlops.base.errors import UserError
    from mlops.forge import git

    clone.git("update-ref", "-d", "refs/remotes/origin/main")
    with pytest.raises(UserError, match="origin/main: not here; `git fetch origin`"):
        git.base(clone.root)
    clone.git("remote", "remove", "origin")
    assert git.base(clone.root) == "HEAD"


def test_evidence_that_was_tampered_with_after_it_was_fetched_is_fetched_again(narrower):
    clone, pinned = narrower
    assert clone.judge().accepted
    path = clone.root / ".run" / "bundles" / pinned.digest / "reports" / "holdout.parquet"
    before = path.read_bytes()
    path.unlink()
    path.write_bytes(before + b"!")
    assert clone.judge().accepted
    assert path.read_bytes() == before


def test_the_credentials_of_a_server_are_in_no_verdict(released, monkeypatch):
    clone, pinned = released
    clone.pin_what_no_store_has("production", pinned)
    word = "her-word"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://maria:{word}@127.0.0.1:9")
    verdict = clone.judge()
    assert "MLFLOW_TRACKING_URI: http://127.0.0.1:9 does not answer" in verdict.line
    assert word not in verdict.model_dump_json()
