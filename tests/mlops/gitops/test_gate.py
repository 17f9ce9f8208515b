"""The gate: champion and challenger on the same rows, and every way in which it must refuse."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import sys
from contextlib import chdir
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
import pandas as pd
import pytest

from mlops.base.errors import Refused
from mlops.base.files import folder_digest
from mlops.contract import dataset
from mlops.gitops import gate, gate_inputs, report
from mlops.gitops.gate_inputs import Champion
from mlops.gitops.params import RULES, Gate
from mlops.gitops.pins import pin_at

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
        rows, generator = 6000, np.random.default_rng(7)
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
        slices = {
            f"{column} {value}": self.base.holdout[column].astype(str) == value
            for column in self.base.spec.slices
            for value in self.base.holdout[column].astype(str).unique()
        }
        judged = {name: rows for name, rows in slices.items() if rows.sum() >= LIMITS.slice_rows}
        return min(judged.items(), key=lambda item: item[1].sum())

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


def test_a_worse_candidate_is_refused_and_a_better_or_equal_one_accepted(contest):
    verdict = contest.decide(contest.scores(0.5), contest.scores(0.9))
    assert "roc_auc against the champion" in refused_for(verdict)
    assert "may be worse than the champion" in verdict.line
    verdict = contest.decide(contest.scores(0.9), contest.scores(0.5))
    assert verdict.accepted, verdict.line
    main = next(m for m in verdict.metrics if m.name == "roc_auc")
    assert main.low > 0
    assert main.difference == pytest.approx(main.candidate - main.champion)
    verdict = contest.decide(contest.scores(0.7), contest.scores(0.7))
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
    ("limits", "rule", "reason"),
    [
        ({"latency_ms": 1e-6}, "latency, one row, 99 %", "above the limit"),
        ({"size_mb": 1e-6}, "model.onnx", "above the limit"),
        ({"limits": {"calibration_error": 1e-6}}, "calibration_error", "above the limit"),
        (
            {"limits": {"roc_uac": 0.5}},
            "limits",
            "found 'roc_uac', which is no metric of this task; did you mean 'roc_auc'?; a binary "
            "has roc_auc, average_precision, log_loss",
        ),
        ({"limits": {"roc_auc": 0.999}}, "roc_auc", "expected at least 0.999 (below the limit"),
        ({"rules": ()}, "rules", "gate.rules: found [], expected at least one rule"),
        ({"rules": ("limit",)}, "limit", "gate.rules: found 'limit'; did you mean 'limits'?"),
        ({"rules": ("acme.nothing",)}, "acme.nothing", "found 'acme.nothing', no such module"),
    ],
)
def test_a_limit_or_rule_that_is_broken_or_unknown_is_refused_for_that_alone(
    contest, limits, rule, reason
):
    verdict = contest.decide(contest.scores(0.7), contest.scores(0.7), **limits)
    assert refused_for(verdict) == [rule]
    assert reason in verdict.line


def test_without_limits_a_model_must_be_better_than_chance(contest):
    assert contest.decide(contest.scores(0.7), limits=None).accepted
    verdict = contest.decide(1 - contest.scores(0.2), limits=None, slice_limit=None)
    assert refused_for(verdict) == ["roc_auc"]
    value = next(metric.candidate for metric in verdict.metrics if metric.name == "roc_auc")
    assert f"roc_auc: found {value:.4f}, expected at least 0.5 (below" in verdict.line


def test_without_a_margin_only_a_surely_worse_model_is_refused(contest):
    rows = slice(0, 36)
    few = copy.copy(contest)
    holdout = contest.base.holdout[rows].assign(day=pd.date_range("2020-01-01", periods=36))
    few.base = dataclasses.replace(
        contest.base, holdout=holdout, outcome=contest.base.outcome[rows]
    )
    champion = contest.scores(0.7)
    other = 0.8 * champion + 0.2 * np.random.default_rng(5).uniform(size=len(champion))
    loose = {"slice_limit": None, "limits": {}}
    strict = few.decide(other[rows], champion[rows], **loose)
    assert refused_for(strict) == ["roc_auc against the champion"]
    verdict = few.decide(other[rows], champion[rows], margin=None, **loose)
    assert verdict.accepted, verdict.line
    verdict = contest.decide(other, champion, margin=None, **loose)
    assert "roc_auc against the champion" in refused_for(verdict)
    assert "expected not surely worse (surely worse than the champion)" in verdict.line


@pytest.mark.parametrize("positives", [1, 9])
def test_too_few_positives_are_judged_by_the_declared_rule(contest, positives):
    few = copy.copy(contest)
    few.base = dataclasses.replace(
        contest.base,
        outcome=(np.arange(6000) < positives).astype(int),
        holdout=contest.base.holdout.assign(day=pd.date_range("2020-01-01", periods=6000)),
    )
    ours, theirs = contest.scores(0.7), contest.scores(0.9)
    loose = {"slice_limit": None, "limits": {}}
    refused = few.decide(ours, theirs, **loose)
    assert refused_for(refused) == ["roc_auc against the champion"]
    assert (
        "roc_auc against the champion: found too few to judge (rows outside the most frequent "
        f"class: {positives}, at least 10 needed), expected enough, or gate.too_few: accept"
    ) in refused.line
    accepted = few.decide(ours, theirs, too_few="accept", **loose)
    assert accepted.accepted, accepted.line
    assert accepted.metrics[0].interval == "–"


def test_a_slice_of_one_class_is_undefined_and_no_refusal(contest):
    name, inside = contest.smallest_slice()
    alone = copy.copy(contest)
    outcome = np.where(inside, 1, contest.outcome)
    alone.base = dataclasses.replace(contest.base, outcome=outcome)
    signal = contest.scores(0.9)
    verdict = alone.decide(signal, signal, slice_limit=0.4)
    assert next(part for part in verdict.slices if part.name == name).candidate is None
    assert verdict.accepted, verdict.line
    judged = next(rule.found for rule in verdict.rules if rule.name == "slices")
    assert judged == f"{len(verdict.slices) - 1} judged, 1 undefined"


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
    verdict = contest.decide(contest.scores(0.7), rules=(*RULES, "acme.rule"))
    assert refused_for(verdict) == ["acme.rule"]
    assert reason in verdict.line


@pytest.mark.parametrize("reason", [None, "clients send no fare_code since May"])
def test_a_candidate_that_refuses_what_clients_send_needs_a_reason(contest, reason):
    candidate = dataclasses.replace(contest.base, prediction=contest.scores(1.0))
    card = msgspec.structs.replace(candidate.card, retired=("fare_code",))
    champion = Champion("c" * 64, card, contest.scores(1.0), "", breaking=reason)
    params = contest.params.model_copy(update={"gate": LIMITS})
    (rule,) = [
        rule for rule in gate.decide(params, candidate, champion, "0" * 40).rules
        if rule.name == "inputs"
    ]  # fmt: skip
    assert (rule.passed, rule.found) == (reason is not None, "fare_code: refused, was ignored")


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


def test_the_champion_is_what_git_pins_at_the_base_and_not_what_the_registry_says(released):
    from mlflow import MlflowClient

    clone, pin = released
    clone.challenge()
    client = MlflowClient(f"sqlite:///{clone.root / 'mlruns/mlflow.db'}")
    client.set_registered_model_alias("trips-model", "production", "2")
    verdict = clone.judge()
    assert verdict.candidate != pin.digest
    assert (verdict.champion, verdict.champion_by) == (pin.digest, "its bundle")


def test_a_token_in_the_address_of_a_store_is_not_in_the_verdict(released, monkeypatch):
    clone, pin = released
    clone.pin_what_no_store_has("production", pin)
    word = "her-word"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://maria:{word}@127.0.0.1:9")
    verdict = clone.judge()
    assert "MLFLOW_TRACKING_URI: http://127.0.0.1:9 does not answer" in verdict.line
    assert word not in verdict.model_dump_json()


def test_a_fetched_champion_that_was_changed_is_fetched_again(released):
    clone, pin = released
    clone.judge()
    for name in ("models/bundle/model.onnx", "reports/holdout.parquet"):
        path = clone.root / ".run/bundles" / pin.digest / name
        whole = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(whole + b"!")
        assert clone.judge().accepted
        assert path.read_bytes() == whole


def edit(clone, name, change):
    path = clone.root / name
    table = pd.read_parquet(path)
    path.unlink()
    change(table).to_parquet(path, index=False)


def break_manifest(clone, pin):
    (clone.root / "environments/production.yaml").write_text("target: local\n")
    clone.commit("Break it")


def card_of(clone):
    return json.loads((clone.root / "models/bundle/bundle.json").read_text())


def see_the_holdout(clone, pin):
    clone.pin_with_card(pin, trained_on={**card_of(clone)["trained_on"], "until": "2023-03-20"})


def merge_wrongly(clone, pin):
    """The parameters of one side, and of the other the lock with what it made."""
    clone.challenge()
    clone.git("checkout", "--quiet", "HEAD^", "--", "params.yaml")


def leave_a_conflict(clone, pin):
    lock = clone.root / "dvc.lock"
    lock.write_text(f"<<<<<<< HEAD\n{lock.read_text()}=======\n>>>>>>> theirs\n")


def read_what_is_gone(clone, pin):
    """The champion reads a column that the candidate's features no longer have."""
    card = card_of(clone)
    inputs = [*card["inputs"], {"name": "gone", "type": "float", "unit": "g"}]
    # With a column less, the holdout is another file.
    hashes = card["hashes"] | {"holdout": "a" * 64}
    return clone.pin_with_card(pin, inputs=inputs, hashes=hashes)


def read_what_is_gone_on_other_rows(clone, pin):
    folder = read_what_is_gone(clone, pin)
    evidence = folder / "reports/holdout.parquet"
    pd.read_parquet(evidence)[:-1].to_parquet(evidence)
    digest = folder_digest(folder / "reports")
    clone.pin("production", pin, digest=folder.name, evidence=digest)


@pytest.mark.parametrize(
    ("spoil", "rule", "reasons"),
    [
        (lambda clone, pin: clone.pin_what_no_store_has("production", pin),
         "champion", ["DVC's cache: not there", "Git: not there",
                      "MLflow: no run of it"]),
        (lambda clone, pin: clone.pin("production", pin, digest="2" * 64),
         "champion", ["found digest ", ", expected 222222222222"]),
        (see_the_holdout, "champion", ["has seen this holdout"]),
        (lambda clone, pin: clone.pin_with_card(pin, target="early"),
         "champion", ["its task is binary of early (2), the candidate's binary of late"]),
        (read_what_is_gone_on_other_rows,
         "champion", ["it reads gone", "its rows are not the holdout's; leave data.until"]),
        (break_manifest, "pins", ["endpoint: missing"]),
        (lambda clone, pin: edit(clone, f"data/features/{dataset.HOLDOUT}", lambda t: t[:-1]),
         "candidate", ["holdout.parquet: found digest"]),
        (lambda clone, pin: edit(clone, "reports/holdout.parquet",
                                 lambda t: t.assign(prediction=t["prediction"] + 0.01)),
         "candidate", ["is of another bundle"]),
        (merge_wrongly, "candidate",
         ["dvc.lock: is of another evaluate, train, tune; `make retrain`"]),
        (leave_a_conflict, "candidate", ["dvc.lock: line 1: a merge conflict; take either side"]),
    ],
)  # fmt: skip
def test_what_cannot_be_trusted_is_refused_with_the_reason(released, spoil, rule, reasons):
    clone, pin = released
    spoil(clone, pin)
    verdict = clone.judge()
    assert refused_for(verdict) == [rule]
    assert [reason for reason in reasons if reason not in verdict.line] == [], verdict.line


def test_a_champion_that_cannot_read_the_features_is_compared_by_its_evidence(released):
    clone, pin = released
    read_what_is_gone(clone, pin)
    file = clone.root / "environments/production.yaml"
    file.write_text(file.read_text().replace("pin:", "breaking: clients know\npin:"))
    verdict = clone.judge()
    assert verdict.accepted, verdict.line
    assert verdict.champion_by == "its evidence"


def test_the_command_writes_the_verdict_and_raises_when_it_refuses(clone):
    assert refused_for(clone.judge(base="nowhere")) == ["pins"]
    (clone.root / "models/bundle/model.onnx").unlink()
    with chdir(clone.root), pytest.raises(Refused, match="candidate"):
        gate.run(clone.params(), Path(), "HEAD")
    assert json.loads((clone.root / "verdict/verdict.json").read_text())["accepted"] is False
    shutil.rmtree(clone.root / "models/bundle")
    assert clone.judge().line.startswith("refused: no bundle, ")


# Pins that a branch moves by hand.


def test_a_pin_that_nobody_judged_is_refused_and_putting_back_an_earlier_one_accepted(released):
    """The champion's bytes may be gone: the way back must not depend on them."""
    clone, pin = released
    clone.pin("production", pin, digest="1" * 64)
    verdict = clone.judge(base="HEAD~1")
    assert refused_for(verdict) == ["pin of production"]
    assert "nobody has judged these bytes" in verdict.line
    clone.pin("production", pin)
    verdict = clone.judge(base="HEAD~1")
    assert verdict.accepted, verdict.line
    assert [rule.name for rule in verdict.rules] == ["pin of production"]
    assert verdict.champion_by == "not asked: only pins change"


FORGED = {
    "model": "another", "version": 7, "run": "f" * 32, "commit": "f" * 40, "data": "f" * 64,
    "metrics": {"roc_auc": 0.99}, "evidence": "f" * 64,
}  # fmt: skip


def test_a_pin_of_good_bytes_that_says_other_things_of_them_is_refused(clone):
    first = clone.git("rev-parse", "HEAD")
    clone.commit("Later")
    pin = clone.judged_pin()
    base = clone.pin("staging", pin)
    for name, value in FORGED.items():
        clone.pin("production", pin, **{name: value})
        verdict = clone.judge(base)
        assert refused_for(verdict) == ["pin of production"], name
        assert f"{name}: found" in verdict.line
    # Where main has not pinned these bytes before, neither.
    assert refused_for(clone.judge(first)) == ["pin of production"]
    clone.pin("production", pin, commit=first)
    line = clone.judge(base).line
    assert f"commit: found {first}, expected the commit that made it" in line


def test_a_manifest_that_changes_above_its_pin_is_judged_as_any_other_change(released):
    clone, _ = released
    file = clone.root / "environments/production.yaml"
    file.write_text(file.read_text().replace("endpoint: trips", "endpoint: other"))
    assert clone.judge().champion_by == "its bundle"
    clone.git("checkout", "--", str(file))
    clone.pin("production", None)
    assert clone.judge("HEAD~").champion_by == "not asked: only pins change"


def test_what_main_makes_may_be_pinned_first_by_a_change_of_pins_alone_and_is_judged(clone):
    clone.pin("staging", clone.judged_pin())
    assert not only_known(clone)
    verdict = clone.judge(base="HEAD~1")
    assert verdict.accepted, verdict.line
    assert [rule.name for rule in verdict.rules].index("pin of staging") > 2
    with chdir(clone.root):
        line = f"- **pin of staging**: {verdict.candidate[:12]}, pinned nowhere before."
        assert line in report.render(verdict, Path())
    clone.pin("production", pin_at(clone.root, "HEAD", "staging"))
    assert only_known(clone)
    (clone.root / "README.md").write_text("More than a pin.\n")
    clone.commit("And a word")
    verdict = clone.judge(base="HEAD~3")
    assert refused_for(verdict) == ["pin of staging", "pin of production"]
    assert "this branch made these bytes, and main has not (release.trust)" in verdict.line
    clone.workspace.change({"release": {"trust": "pull-requests"}})
    assert clone.judge(base="HEAD~3").accepted


def only_known(clone):
    code, out, error = clone.command("pins-only", "HEAD~1", "--known")
    assert code == 0, error
    return out.strip() == "true"
