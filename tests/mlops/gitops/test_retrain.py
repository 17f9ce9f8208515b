"""Newer data becomes one judged proposal, whatever happens meanwhile and however often it is run.

Git, DVC, MLflow, the stages, the gate and the forge's HTTP are real; DVC runs the stages of the
training flow without Prefect. `tests/flows/test_deployments.py` retrains by the real flow.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from mlops.base.errors import UserError
from mlops.gitops import retrain
from tests.forge_server import Fault, ForgeServer
from tests.mlops.gitops.conftest import WHO, Clone

BRANCH = "retrain/data"
nightly = pytest.mark.nightly
STAGES = ["ingest", "featurize", "tune", "train", "evaluate"]
FLOW = """\
import sys
from pathlib import Path
from mlops.contract.stages import MADE_BY_DVC
from mlops.pipeline import reproduction

with reproduction.alone(Path()):
    for stage in MADE_BY_DVC:
        try:
            made = reproduction.reproduce(stage, Path())
        except reproduction.StageFailed as failed:
            sys.exit(failed.exit_code)
        print(made.stage, made.how, flush=True)
"""
# One small fit: what is proved here is what comes before and after it.
QUICK = {"tune.families": ["linear"], "tune.max_evals": 1, "split.folds": 1}
NEWEST, BETWEEN, BEFORE = "2023-03-29", "2023-03-25", "2023-03-20"


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ('# kept: until\ndata:   # too\n  until: "2013-12-31"     # the last day\n  until_x: 1\n',
         '# kept: until\ndata:   # too\n  until: "2014-01-31"     # the last day\n  until_x: 1\n'),
        ("{data: {until: '2013-12-31', source: files}}",
         '{data: {until: "2014-01-31", source: files}}'),
        ("{data: {until: 2013-12-31, source: files}}",
         '{data: {until: "2014-01-31", source: files}}'),
    ],
)  # fmt: skip
def test_the_day_moves_however_it_is_written_and_every_other_byte_stays(text, moved):
    assert retrain.with_until(text, dt.date(2014, 1, 31)) == moved


@pytest.mark.parametrize("text", ["data: 3\n", "data: {source: files}\n", ""])
def test_parameters_without_the_day_are_refused(text):
    with pytest.raises(UserError, match=r"params\.yaml: data\.until: missing"):
        retrain.with_until(text, dt.date(2014, 1, 1))


@dataclass
class Team:
    """A person's clone, in the middle of something, and the forge that its remote is."""

    clone: Clone
    forge: ForgeServer

    @property
    def tree(self) -> Path:
        return self.clone.root / ".run" / "retrain" / "tree"

    def start(self, *words: str) -> subprocess.Popen[str]:
        return self.clone.start("retrain", *words, **self.forge.github())

    def run(self, *words: str) -> tuple[int, str, str]:
        return self.clone.command("retrain", *words, **self.forge.github())

    def good(self, *words: str) -> str:
        """Run it to a good end; what it printed."""
        code, out, err = self.run(*words)
        assert code == 0, err
        return out

    def bad(self, expected: int) -> str:
        """Run it to this exit code; its last line."""
        code, _, err = self.run()
        assert code == expected, err
        return err.splitlines()[-1]

    def head(self) -> str:
        return self.clone.git("ls-remote", "origin", f"refs/heads/{BRANCH}").partition("\t")[0]

    def proposed(self) -> dict:
        """The parameters on the branch."""
        self.clone.git("fetch", "--quiet", "origin", BRANCH)
        return yaml.safe_load(self.clone.git("show", "FETCH_HEAD:params.yaml"))

    def until(self) -> str:
        return self.proposed()["data"]["until"]

    def executed(self) -> list[str]:
        path = self.tree / "logs" / "stages.jsonl"
        return [json.loads(line)["stage"] for line in path.read_text().splitlines()]

    def main(self, changes: dict) -> None:
        """Somebody else's commit on main."""
        elsewhere = self.clone.root.parent / f"elsewhere-{time.time_ns()}"
        self.clone.git("clone", "--quiet", str(self.clone.remote), str(elsewhere))
        other = Clone(type(self.clone.workspace)(elsewhere, Path()), self.clone.remote)
        other.workspace.change(changes)
        for name, value in WHO.items():
            other.git("config", name, value)
        other.commit("Somebody else's")


@pytest.fixture(scope="module")
def tables(original, shared):
    """Raw tables with a last day that nobody has trained on: no cache has any of it."""

    def make(folder):
        copy = original.copy(folder / "repository").workspace
        copy.edit_table("trips", lambda rows: rows[rows["day"] <= NEWEST])

    return shared.folder("retrain", make) / "repository" / "csv"


@pytest.fixture(scope="module")
def cache(original, tables, shared):
    """DVC's cache of a team that has retrained: on some new days, and on the newest."""

    def make(folder):
        with ForgeServer() as forge:
            team = behind(original.copy(folder / "repository"), tables, forge)
            team.good("--until", BETWEEN)
            team.good()

    return shared.folder("retrained", make) / "repository" / ".dvc" / "cache"


@pytest.fixture
def team(clone, tables):
    """More than a week of data has arrived since main was trained; a person is on a branch."""
    with ForgeServer() as forge:
        yield behind(clone, tables, forge)


@pytest.fixture
def quick(team, cache):
    """The same team, where the training has been done before: it is a cache hit."""
    shutil.copytree(cache, team.clone.root / ".dvc" / "cache", dirs_exist_ok=True)
    return team


def behind(clone, tables, forge):
    clone.workspace.change(QUICK)
    text = (clone.root / "params.yaml").read_text()
    text = text.replace("location: csv", f"location: {tables}  # a comment")
    (clone.root / "params.yaml").write_text(retrain.with_until(text, dt.date.fromisoformat(BEFORE)))
    (clone.root / "flows").mkdir()
    (clone.root / "flows" / "__main__.py").write_text(FLOW)
    clone.commit("As of a week ago")
    clone.git("switch", "--quiet", "--create", "mine")
    (clone.root / "params.yaml").open("a").write("# in the middle of something\n")
    (clone.root / "notes.txt").write_text("mine")
    return Team(clone, forge)


def noticeable(team):
    """All that a person would notice."""
    return (
        team.clone.git("status", "--porcelain", "--branch"), team.clone.git("rev-parse", "HEAD"),
        team.clone.git("stash", "list"), (team.clone.root / "params.yaml").read_text(),
        (team.clone.root / "dvc.lock").read_text(), team.clone.workspace.digest("models/bundle"),
    )  # fmt: skip


def test_what_the_gate_accepts_is_proposed_once_and_nothing_here_is_touched(quick):
    before = noticeable(quick)
    code, _, err = quick.run("--because", "drift in staging")
    assert (code, err) == (0, "")
    assert noticeable(quick) == before
    assert quick.until() == NEWEST
    assert "  # a comment" in quick.clone.git("show", "FETCH_HEAD:params.yaml")
    changed = quick.clone.git("diff", "--name-only", "main", "FETCH_HEAD").split()
    assert changed == ["dvc.lock", "params.yaml"]
    [pull] = quick.forge.pulls
    assert (pull.branch, pull.base, pull.state) == (BRANCH, "main", "open")
    assert pull.title == f"Retrain on data until {NEWEST}"
    assert pull.body.startswith("Why: drift in staging.\n\n## ✅ Accepted: bundle `")
    assert f"git checkout {quick.head()[:12]} && make retrain" in pull.body
    assert [(s.commit, s.state, s.context) for s in quick.forge.statuses] == [
        (quick.head(), "success", "mlops/gate")
    ]
    assert "drift in staging" in quick.clone.git("log", "-1", "--format=%B", "FETCH_HEAD")

    commit, body = quick.head(), pull.body
    quick.good("--because", "drift in staging")
    assert (quick.head(), [p.body for p in quick.forge.pulls]) == (commit, [body])
    assert not quick.forge.asked("PATCH .*/pulls")


def test_nothing_newer_is_a_line(team):
    team.main({"data.until": NEWEST})
    line = f"nothing newer: main has data until {NEWEST}, "
    assert team.good() == f"{line}the source has {NEWEST}\n"
    assert team.good("--until", BEFORE) == f"{line}asked for {BEFORE}\n"
    assert team.head() == ""


def test_a_refused_candidate_is_reported_and_not_proposed(quick):
    quick.main({"gate.limits": {"log_loss": 0.0}})
    line = quick.bad(1)
    assert line.startswith(f"error: data until {NEWEST}: refused: ")
    assert "log_loss: " in line
    assert (quick.head(), quick.forge.pulls) == ("", [])
    assert "❌ Refused" in (quick.tree / "verdict" / "report.md").read_text()


def test_an_older_proposal_is_updated_a_newer_one_stays_and_both_follow_main(quick):
    quick.good("--until", BETWEEN)
    assert quick.until() == BETWEEN
    quick.good()
    line = quick.good("--until", BETWEEN)
    assert line.endswith("not proposed, retrain/data holds a later one\n")
    quick.main({"gate.margin": 0.4})
    quick.good()
    assert (quick.until(), quick.proposed()["gate"]["margin"]) == (NEWEST, 0.4)
    [pull] = quick.forge.pulls
    assert pull.title.endswith(f"until {NEWEST}")


def test_a_push_or_a_forge_that_fails_is_a_line_and_the_next_run_completes(quick):
    hook = quick.clone.remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'protected branch' >&2\nexit 1\n")
    hook.chmod(0o755)
    assert quick.bad(2).startswith("error: git push: ")
    assert (quick.head(), quick.forge.pulls, quick.forge.statuses) == ("", [], [])
    hook.unlink()
    quick.forge.permissions.discard("pull-requests")
    assert "permissions: pull-requests: write" in quick.bad(2)
    assert (quick.until(), quick.forge.pulls) == (NEWEST, [])
    quick.forge.permissions.add("pull-requests")
    quick.forge.fail(Fault("POST .*/pulls", after=True))
    commit = quick.head()
    quick.good()
    assert (quick.head(), len(quick.forge.pulls)) == (commit, 1)


def test_a_training_that_fails_ends_with_its_own_exit_code(team):
    team.main({"split.holdout_days": 5000})
    code, _, err = team.run()
    assert code == 2
    *shown, last = err.splitlines()
    assert "split.holdout_days: found 5000" in " ".join(shown)
    assert last.startswith("error: training: params.yaml: split.holdout_days: found 5000")
    assert team.head() == ""


@nightly
def test_two_at_once_end_with_one_proposal(quick):
    both = [quick.start() for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert len(quick.forge.pulls) == 1
    assert quick.until() == NEWEST


@nightly
def test_killed_while_training_the_next_run_goes_on_from_dvcs_cache(team):
    process = team.start()
    assert process.stdout is not None
    assert any(line.startswith("featurize run") for line in process.stdout)
    process.kill()
    process.wait()
    out = team.good()
    # What was under way may have run twice; what was done before did not.
    assert [team.executed().count(stage) for stage in ("ingest", "featurize")] == [1, 1]
    assert "ingest run" not in out
    assert len(team.forge.pulls) == 1


@nightly
def test_a_store_that_is_away_proposes_nothing_and_the_next_run_completes(quick, tmp_path):
    (tmp_path / "remote").write_text("no folder")
    subprocess.run(
        [Path(sys.executable).parent / "dvc", "remote", "add", "--local", "--default", "far",
         tmp_path / "remote"], cwd=quick.clone.root, check=True, capture_output=True,
    )  # fmt: skip
    assert quick.bad(2).startswith("error: publish: DVC remote 'far'")
    assert quick.head() == ""
    (tmp_path / "remote").unlink()
    quick.good()
    assert len(quick.forge.pulls) == 1
    assert len(list((tmp_path / "remote" / "files").rglob("*.dir"))) >= 5
