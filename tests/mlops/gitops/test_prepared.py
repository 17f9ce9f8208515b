"""A prepared release is verified where it is proposed, by code that loads nothing heavy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mlops.base.errors import UserError
from mlops.gitops import prepared, release
from mlops.gitops.pins import pin_at
from tests.forge_server import ForgeServer

HEAVY = {"dvc", "mlflow", "numpy", "onnx", "onnxruntime", "pandas", "pyarrow", "sklearn"}
PROPOSAL, LOCK = "verdict/proposal.json", "dvc.lock"
# Which packages a command has loaded.
LOADED = """\
import atexit, sys
atexit.register(lambda: print("loaded", *sorted({name.partition(".")[0] for name in sys.modules})))
from mlops.cli import main
main()
"""


def artifact(clone, folder):
    """What the job that trains hands over."""
    assert clone.judge().accepted
    with chdir(clone.root):
        said = release.prepare(Path(), "staging")
    assert said.startswith(f"{PROPOSAL}: trips-model ")
    for name in ("verdict", "reports", "models/bundle"):
        shutil.copytree(clone.root / name, folder / name)
    shutil.copy(clone.root / LOCK, folder)
    return folder


@pytest.fixture(scope="module")
def built(original, tmp_path_factory):
    """A clone, what its build hands over, and the other job: main's files and nothing trained."""
    base = tmp_path_factory.mktemp("built")
    clone, root = original.copy(base / "repository"), base / "proposing"
    clone.git("fetch", "--quiet", "origin")
    # A build has no credentials for Git's remote.
    clone.remote.rename(base / "away")
    folder = artifact(clone, base / "artifact")
    (base / "away").rename(clone.remote)
    clone.git("clone", "--quiet", str(clone.remote), str(root))
    return clone, folder, replace(clone, workspace=replace(clone.workspace, root=root))


@pytest.fixture
def handed(built, tmp_path):
    return shutil.copytree(built[1], tmp_path / "artifact")


@pytest.fixture
def clone(built, tmp_path):
    """The clone of the build, to write in."""
    return built[0].copy(tmp_path / "repository")


@pytest.fixture
def proposing(clone, tmp_path):
    """The other job, to write in."""
    root = tmp_path / "proposing"
    clone.git("clone", "--quiet", str(clone.remote), str(root))
    return replace(clone, workspace=replace(clone.workspace, root=root))


def propose(clone, folder, forge):
    with chdir(clone.root):
        return release.propose_prepared(Path(), "staging", folder, forge)


def test_what_one_job_prepared_another_proposes_and_again_changes_nothing(handed, proposing, forge):
    line = propose(proposing, handed, forge)
    assert line.startswith("reproduced: the digest that was judged; Release to staging: ")
    assert "\n\nReproduced: the digest that was judged.\n" in forge.opened[0][3]
    heads = proposing.git("ls-remote", "origin")
    assert "refs/heads/release/staging" in heads
    assert propose(proposing, handed, forge) == line
    assert proposing.git("ls-remote", "origin") == heads
    proposing.git("fetch", "--quiet", "origin", "release/staging")
    given = json.loads((handed / PROPOSAL).read_text())["pin"]
    assert pin_at(proposing.root, "FETCH_HEAD", "staging").model_dump(mode="json") == given


def test_the_verbs_of_jobs_that_may_write_load_nothing_heavy(handed, proposing):
    with ForgeServer() as server:
        server.open("feature", owner="acme")
        for words in (
            ("release", "staging", "--prepared", str(handed)),
            ("comment", str(handed / PROPOSAL), "--head", "acme:feature"),
            ("mark", "a" * 40, "success"),
        ):
            done = subprocess.run(
                [sys.executable, "-c", LOADED, *words], cwd=proposing.root, text=True,
                capture_output=True, check=False,
                env={**os.environ, "PYTHONPATH": str(proposing.root / "src"), **server.github()},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            *_, loaded = (line for line in done.stdout.splitlines() if line.startswith("loaded "))
            assert not HEAVY & set(loaded.split())


def edit(change):
    def spoil(folder):
        path = folder / PROPOSAL
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def edit_text(name, old, new):
    def spoil(folder):
        path = folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return spoil


def lock_other_bytes(folder):
    """The same other name in the lock and in the pin."""
    name = json.loads((folder / PROPOSAL).read_text())["pin"]["dvc"]["bundle"]
    for file in (PROPOSAL, LOCK):
        edit_text(file, name, "0" * 32 + ".dir")(folder)


def swap_evidence(folder):
    (folder / "reports/report.html").write_text("another")


def link(folder):
    (folder / "reports/report.html").unlink()
    (folder / "reports/report.html").symlink_to("/etc/hostname")


def judge_other_rules(folder):
    content = json.loads((folder / "verdict/verdict.json").read_text())
    content["accepted"] = False
    (folder / "verdict/verdict.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda folder: (folder / PROPOSAL).unlink(), "proposal.json: not found; `mlops release"),
        (lambda folder: (folder / PROPOSAL).write_text("{"), "proposal.json: not JSON: "),
        (lambda folder: (folder / PROPOSAL).write_text(" " * 300_000), "found 300,000 bytes"),
        (edit(lambda all: all.update(more=1)), "proposal.json: more: unknown key"),
        (edit(lambda all: all.update(environment="production")),
         "environment: found 'production', expected 'staging'"),
        (edit(lambda all: all["pin"].update(commit="0" * 40)), "pin.commit: found '0000"),
        (edit(lambda all: all["pin"].update(model="other")),
         "pin.model: found 'other', expected 'trips-model'"),
        (edit(lambda all: all["pin"].update(digest="0" * 64)), "pin.digest: found '0000"),
        (edit(lambda all: all["pin"]["metrics"].update(roc_auc=0.99)), "pin.metrics: found"),
        (edit(lambda all: all["pin"].update(run="a\n# Approved")), "pin.run: found"),
        (edit(lambda all: all["pin"]["dvc"].update(evidence="0" * 32 + ".dir")), "pin.dvc: found"),
        (lock_other_bytes, "dvc.lock: outs: found"),
        (edit(lambda all: all.update(differs={"train": ["machine"]})),
         "differs: found {'train': ('machine',)}, expected {}"),
        (edit(lambda all: all.update(differs={"train": ["moon"]})),
         "differs.train.0: found 'moon'"),
        (lambda folder: (folder / LOCK).write_text("stages: [1]\n"), "dvc.lock: damaged: "),
        (lambda folder: (folder / "models/bundle/bundle.json").write_text("{}"), "found "),
        (swap_evidence, "verdict.json: is on evidence "),
        (judge_other_rules, "verdict.json: refused: "),
        (link, "report.html: found what is no file of a release"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe: found what is no file of a release"),
        (lambda folder: (folder / "models/bundle/run.py").touch(), "run.py: found what is no file"),
    ],
)  # fmt: skip
def test_an_artifact_with_anything_wrong_in_it_is_refused_in_one_line(
    built, handed, forge, spoil, line
):
    proposing = built[2]
    spoil(handed)
    before = proposing.git("ls-remote", "origin")
    with pytest.raises(UserError) as error:
        propose(proposing, handed, forge)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert forge.opened == []
    assert proposing.git("ls-remote", "origin") == before


def move_on(clone):
    clone.commit("Main moves on")


def pin_another_champion(clone):
    clone.pin("production", clone.judged_pin())


def branch_off(clone):
    clone.git("switch", "--quiet", "--create", "side")
    clone.git("commit", "--quiet", "--allow-empty", "--message", "Never merged")


@pytest.mark.parametrize(
    ("happens", "line"),
    [
        (move_on, "pin.commit: found"),
        (pin_another_champion, "another champion now"),
        (branch_off, "not a commit of the main line"),
    ],
)
def test_what_happened_between_the_jobs_is_noticed(handed, clone, proposing, forge, happens, line):
    happens(clone)
    proposing.git("pull", "--quiet", str(clone.root), "HEAD")
    with pytest.raises(UserError, match=line):
        propose(proposing, handed, forge)
    assert forge.opened == []


def test_main_that_moved_on_after_the_build_is_no_reason_to_refuse_it(
    handed, clone, proposing, forge
):
    move_on(clone)
    assert "pull request: forge/" in propose(proposing, handed, forge)


def of_stage(stage, key, value):
    """A dvc.lock in which something of one stage is another; bundle and evidence too."""

    def spoil(stages):
        found = stages[stage]
        if key in ("params", "cmd"):
            found[key] = value
        else:
            entry = next(dep for dep in found["deps"] if dep["path"].startswith(key))
            entry["md5"] = value
        for out in (*stages["train"]["outs"], *stages["evaluate"]["outs"]):
            out["md5"] = "0" * 32 + ".dir"

    return spoil


DIFFERENT = {
    "ingest: other data, other parameters; ":
        of_stage("ingest", "params", {"data/fingerprint.json": {"source": {}}}),
    "tune: other code; ": of_stage("tune", "src/mlops", "0"),
    "tune: another requirements.lock; ": of_stage("tune", "requirements.lock", "0"),
    "not reproduced: evaluate: same inputs": of_stage("train", "models/search", "0"),
    "train: not in the dvc.lock that was merged":
        lambda stages: [stages.pop(name) for name in ("train", "evaluate")],
}  # fmt: skip


def test_what_differs_from_what_was_judged_is_said_by_stage_and_kind(built, clone):
    lock = clone.root / LOCK
    whole, pin = lock.read_text(), json.loads((built[1] / PROPOSAL).read_text())["pin"]
    for line, spoil in DIFFERENT.items():
        content = yaml.safe_load(whole)
        spoil(content["stages"])
        lock.write_text(yaml.safe_dump(content))
        clone.commit("Another lock")
        lock.write_text(whole)
        with chdir(clone.root):
            differs = prepared.differences(Path(), Path())
        made = prepared.Prepared(environment="staging", pin=pin, bundles="git", differs=differs)
        assert line in made.line
