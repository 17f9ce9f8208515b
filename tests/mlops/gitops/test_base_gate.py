"""A branch that changes its own judge is judged by the base's gate too."""

import shutil
from contextlib import chdir
from pathlib import Path

from mlops.gitops import base_gate, verdict
from tests.settings import change

RULE = Path("src/mlops/gitops/rules/size.py")
PASSES = """
from mlops.gitops.verdict import Rule

def judge(case):
    return [Rule(name="model.onnx", found="0 MB", limit="any", passed=True)]
"""


def own(clone, package):
    """Give the clone a copy of a package that tests share."""
    place = clone.root / "src" / package
    shared = place.resolve()
    place.unlink()
    shutil.copytree(shared, place, ignore=shutil.ignore_patterns("__pycache__"))


def changed(clone, base):
    with chdir(clone.root):
        return base_gate.changed(Path(), base)


def test_a_weakened_gate_is_shown_with_what_the_base_s_says(clone):
    own(clone, "mlops")
    change(clone.root, {"gate.size_mb": 1e-6})
    base = clone.commit("A strict gate")
    code, _, error = clone.command("gate", "--base", base)
    assert (code, changed(clone, base)) == (1, []), error
    assert verdict.load(clone.root).by_base == ""
    (clone.root / RULE).write_text(PASSES)
    change(clone.root, {"gate.size_mb": 50.0})
    clone.commit("Accept everything")
    code, out, error = clone.command("gate", "--base", base)
    assert code == 0, error
    judged = verdict.load(clone.root)
    assert judged.judges == (str(RULE), "params.yaml: gate")
    assert judged.by_base.startswith("refused: ")
    assert "model.onnx: found " in judged.by_base
    code, out, error = clone.command("report")
    assert code == 0, error
    report = (clone.root / out.strip()).read_text()
    assert f"The gate of the base: {judged.by_base}" in report


def test_what_judges_is_told_from_what_is_judged(clone):
    pin = clone.judged_pin()
    own(clone, "trips")
    base = clone.commit("A package of its own")
    (clone.root / "src/trips/new.py").write_text("")
    change(clone.root, {"tune.max_evals": 2})
    clone.commit("A feature")
    assert changed(clone, base) == []
    clone.pin("staging", pin)
    assert changed(clone, base) == []
    manifest = clone.root / "environments/staging.yaml"
    manifest.write_text(manifest.read_text().replace("steps: []", "steps: [50]"))
    (clone.root / "src/trips/rule.py").write_text("")
    change(clone.root, {"gate.rules": ["size", "trips.rule"]})
    clone.commit("Judge otherwise")
    assert changed(clone, base) == [
        "src/trips/rule.py", "environments/staging.yaml", "params.yaml: gate",
    ]  # fmt: skip


def test_a_base_without_a_gate_of_its_own_is_named_and_decides_nothing(clone):
    base = clone.git("rev-parse", "HEAD")
    change(clone.root, {"gate.size_mb": 40.0})
    clone.commit("Smaller")
    with chdir(clone.root):
        assert base_gate.verdict(Path(), base).startswith("could not judge: ")
