"""Newer data becomes one judged proposal, whatever happens meanwhile and however often it is asked.

Git, DVC, MLflow, the stages, the gate and the forge's HTTP are real. The training flow is the real
one in one test; in the others DVC is asked for the same stages without Prefect.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import signal
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
from tests.mlops.gitops.conftest import REPOSITORY, Clone

BRANCH = "retrain/data"
STAGES = ["ingest", "featurize", "tune", "train", "evaluate"]
COMMAND = (sys.executable, "-c", "from mlops.cli import main; main()", "retrain")
FLOW = """\
import sys
from pathlib import Path
from mlops.pipeline import reproduction

with reproduction.alone(Path()):
    for stage in reproduction.STAGES:
        try:
            made = reproduction.reproduce(stage, Path())
        except reproduction.StageFailed as failed:
            sys.exit(failed.exit_code)
        print(made.stage, made.how, flush=True)
"""


def test_the_day_moves_and_every_other_byte_stays():
    text = '# kept: until\ndata:   # too\n  until: "2013-12-31"     # the last day\n  until_x: 1\n'
    moved = retrain.with_until(text, dt.date(2014, 1, 31))
    assert moved == text.replace("2013-12-31", "2014-01-31")


@pytest.mark.parametrize("written", ["'2013-12-31'", '"2013-12-31"', "2013-12-31"])
def test_the_day_moves_however_it_is_written(written):
    moved = retrain.with_until(
        f"{{data: {{until: {written}, source: files}}}}", dt.date(2014, 1, 1)
    )
    assert moved == '{data: {until: "2014-01-01", source: files}}'


def test_the_repository_s_own_parameters_keep_their_comments():
    text = (REPOSITORY / "params.yaml").read_text()
    moved = retrain.with_until(text, dt.date(2014, 1, 31))
    changed = [pair for pair in zip(text.splitlines(), moved.splitlines(), strict=True)
               if pair[0] != pair[1]]  # fmt: skip
    assert len(changed) == 1
    assert changed[0][1].startswith('  until: "2014-01-31"     # the last day known')


@pytest.mark.parametrize("text", ["model: a\n", "data: 3\n", "data: {source: files}\n", ""])
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

    def start(self, *words: str, root: Path | None = None) -> subprocess.Popen[str]:
        place = root or self.clone.root
        return subprocess.Popen(
            [*COMMAND, *words], cwd=place, text=True, start_new_session=True,
            env={**os.environ, **self.forge.github(), "PYTHONPATH": str(place / "src")},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *words: str, root: Path | None = None) -> tuple[int, str, str]:
        process = self.start(*words, root=root)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def head(self) -> str:
        return self.clone.git("ls-remote", "origin", f"refs/heads/{BRANCH}").partition("\t")[0]

    def proposed(self, file: str) -> str:
        self.clone.git("fetch", "--quiet", "origin", BRANCH)
        return self.clone.git("show", f"FETCH_HEAD:{file}")

    def until(self) -> str:
        return str(yaml.safe_load(self.proposed("params.yaml"))["data"]["until"])

    def open(self) -> list:
        return [pull for pull in self.forge.pulls if pull.state == "open"]

    def executed(self) -> list[str]:
        path = self.tree / "logs" / "stages.jsonl"
        return [json.loads(line)["stage"] for line in path.read_text().splitlines()]

    def main(self, **changes) -> None:
        """Somebody else's commit on main."""
        elsewhere = self.clone.root.parent / f"elsewhere-{time.time_ns()}"
        self.clone.git("clone", "--quiet", str(self.clone.remote), str(elsewhere))
        other = Clone(type(self.clone.workspace)(elsewhere, Path()), self.clone.remote)
        other.workspace.change({name.replace("__", "."): value for name, value in changes.items()})
        other.git("config", "user.name", "Maria")
        other.git("config", "user.email", "maria@team.invalid")
        other.commit("Somebody else's")


@pytest.fixture(scope="module")
def tables(clones, shared):
    """Raw tables with a last day that nobody has trained on: no cache has any of it."""

    def make(folder):
        clones("wine").copy(folder / "repository").workspace.edit_table(
            "wines", lambda rows: rows[rows["day"] <= "2021-05-25"]
        )

    return shared.folder("retrain", make) / "repository" / "csv"


@pytest.fixture(scope="module")
def trained(clones, tables, shared):
    """DVC's cache of a team that has retrained: on one new day, and on the newest."""

    def make(folder):
        with ForgeServer() as forge:
            team = behind(clones("wine").copy(folder / "repository"), tables, forge)
            for words in (("--until", "2021-05-20"), ()):
                code, _, err = team.run(*words)
                assert code == 0, err

    return shared.folder("retrained", make) / "repository" / ".dvc" / "cache"


@pytest.fixture
def team(clone, tables):
    """Two weeks of data have arrived since main was trained; a person is on another branch."""
    with ForgeServer() as forge:
        yield behind(clone, tables, forge)


@pytest.fixture
def quick(team, trained):
    """The same team, where the training has been done before: it is a cache hit."""
    shutil.copytree(trained, team.clone.root / ".dvc" / "cache", dirs_exist_ok=True)
    return team


def behind(clone, tables, forge):
    text = (clone.root / "params.yaml").read_text()
    text = text.replace("location: csv", f"location: {tables}  # a comment")
    (clone.root / "params.yaml").write_text(retrain.with_until(text, dt.date(2021, 5, 14)))
    (clone.root / "flows").mkdir()
    (clone.root / "flows" / "__main__.py").write_text(FLOW)
    clone.commit("As of two weeks ago")
    clone.git("switch", "--quiet", "--create", "mine")
    (clone.root / "params.yaml").open("a").write("# in the middle of something\n")
    (clone.root / "notes.txt").write_text("mine")
    return Team(clone, forge)


def here(team):
    """All that a person would notice."""
    return (
        team.clone.git("status", "--porcelain", "--branch"), team.clone.git("rev-parse", "HEAD"),
        team.clone.git("stash", "list"), (team.clone.root / "params.yaml").read_text(),
        (team.clone.root / "dvc.lock").read_text(), team.clone.workspace.digest("models/bundle"),
    )  # fmt: skip


pytestmark = pytest.mark.timeout(600)
slow = pytest.mark.slow


@slow
def test_what_the_gate_accepts_is_proposed_once_and_nothing_here_is_touched(team):
    before = here(team)
    code, out, err = team.run("--because", "drift in staging")
    assert (code, err) == (0, "")
    assert here(team) == before
    assert team.until() == "2021-05-25"
    assert "  # a comment" in team.proposed("params.yaml")
    assert team.clone.git("diff", "--name-only", "main", "FETCH_HEAD").split() == [
        "dvc.lock", "params.yaml",
    ]  # fmt: skip
    [pull] = team.open()
    assert (pull.branch, pull.base, pull.title) == (
        BRANCH, "main", "Retrain on data until 2021-05-25",
    )  # fmt: skip
    assert pull.body.startswith("Why: drift in staging.\n\n## ✅ Accepted: bundle `")
    assert f"git checkout {team.head()[:12]} && make retrain" in pull.body
    assert [(s.commit, s.state, s.context) for s in team.forge.statuses] == [
        (team.head(), "success", "mlops/gate")
    ]
    assert out.endswith(f"{pull.number}\n")
    assert "drift in staging" in team.clone.git("log", "-1", "--format=%B", "FETCH_HEAD")

    commit, body = team.head(), pull.body
    assert team.run("--because", "drift in staging")[0] == 0
    assert team.executed() == STAGES
    assert (team.head(), [p.body for p in team.open()]) == (commit, [body])
    assert not team.forge.asked("PATCH .*/pulls")


@slow
def test_nothing_newer_is_a_line(team):
    team.main(data__until="2021-05-25")
    for words, why in (
        ((), "the source has 2021-05-25"),
        (("--until", "2021-05-20"), "asked for 2021-05-20"),
    ):
        code, out, err = team.run(*words)
        assert (code, err) == (0, "")
        assert out == f"nothing newer: main has data until 2021-05-25, {why}\n"
    assert team.head() == ""


@slow
def test_a_refused_candidate_is_reported_and_not_proposed(quick):
    quick.main(gate__limits={"accuracy": 1.1})
    code, _, err = quick.run()
    assert code == 1
    assert err.startswith("error: data until 2021-05-25: refused: ")
    assert "accuracy: " in err
    assert len(err.splitlines()) == 1
    assert (quick.head(), quick.forge.pulls) == ("", [])
    assert "❌ Refused" in (quick.tree / "verdict" / "report.md").read_text()


@slow
def test_an_older_proposal_is_updated_and_a_newer_one_stays(quick):
    assert quick.run("--until", "2021-05-20")[0] == 0
    assert quick.until() == "2021-05-20"
    assert quick.run()[0] == 0
    assert quick.until() == "2021-05-25"
    [pull] = quick.open()
    assert pull.title.endswith("until 2021-05-25")
    code, out, _ = quick.run("--until", "2021-05-20")
    assert code == 0
    assert out.endswith("not proposed, retrain/data holds a later one\n")
    assert (quick.until(), len(quick.open())) == ("2021-05-25", 1)


@slow
def test_a_proposal_follows_main(quick):
    assert quick.run()[0] == 0
    quick.main(gate__margin=0.4)
    assert quick.run()[0] == 0
    assert yaml.safe_load(quick.proposed("params.yaml"))["gate"]["margin"] == 0.4
    assert (quick.until(), len(quick.open())) == ("2021-05-25", 1)


@slow
def test_of_two_at_once_in_one_clone_the_second_waits_and_finds_it_done(team):
    both = [team.start(), team.start()]
    ended = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert team.executed() == STAGES
    assert len(team.forge.pulls) == 1


@slow
def test_two_at_once_on_two_machines_end_with_one_proposal(quick, tmp_path):
    other = tmp_path / "other-machine"
    shutil.copytree(quick.clone.root, other, symlinks=True)
    both = [quick.start(), quick.start(root=other)]
    ended = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert len(quick.forge.pulls) == 1
    assert quick.until() == "2021-05-25"


@slow
@pytest.mark.parametrize("whom", ["it alone", "all that it started"])
def test_killed_while_training_the_next_run_goes_on_from_dvcs_cache(team, whom):
    process = team.start()
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("featurize run"):
            break
    if whom == "it alone":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    code, out, err = team.run()
    assert code == 0, err
    # What was under way may have run twice; what was done before did not.
    assert [team.executed().count(stage) for stage in ("ingest", "featurize")] == [1, 1]
    assert "ingest run" not in out
    assert len(team.open()) == 1


@slow
def test_a_push_that_is_refused_is_a_line_and_opens_nothing(quick):
    hook = quick.clone.remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'protected branch' >&2\nexit 1\n")
    hook.chmod(0o755)
    code, _, err = quick.run()
    assert code == 2
    assert err.startswith("error: git push: ")
    assert len(err.splitlines()) == 1
    assert (quick.head(), quick.forge.pulls, quick.forge.statuses) == ("", [], [])
    hook.unlink()
    assert quick.run()[0] == 0
    assert len(quick.open()) == 1


@slow
def test_a_forge_that_is_down_after_the_push_gets_its_one_pull_request_from_the_next_run(quick):
    quick.forge.permissions.discard("pull-requests")
    code, _, err = quick.run()
    assert code == 2
    assert "permissions: pull-requests: write" in err
    assert (quick.until(), quick.forge.pulls) == ("2021-05-25", [])
    quick.forge.permissions.add("pull-requests")
    quick.forge.fail(Fault("POST .*/pulls", after=True))
    commit = quick.head()
    assert quick.run()[0] == 0
    assert (quick.head(), len(quick.forge.pulls)) == (commit, 1)


@slow
def test_a_training_that_fails_ends_with_its_own_exit_code(team):
    team.main(split__holdout_days=5000)
    code, _, err = team.run()
    assert code == 2
    assert "split.holdout_days: found 5000" in err
    assert err.splitlines()[-1] == "error: training: see the lines above"
    assert team.head() == ""


@slow
def test_a_store_that_is_away_proposes_nothing_and_the_next_run_completes(quick, tmp_path):
    (tmp_path / "remote").write_text("no folder")
    subprocess.run(
        [Path(sys.executable).parent / "dvc", "remote", "add", "--local", "--default", "far",
         tmp_path / "remote"], cwd=quick.clone.root, check=True, capture_output=True,
    )  # fmt: skip
    code, _, err = quick.run()
    assert code == 2
    assert err.splitlines()[-1].startswith("error: publish: DVC remote 'far'")
    assert quick.head() == ""
    (tmp_path / "remote").unlink()
    assert quick.run()[0] == 0
    assert len(quick.open()) == 1
    assert len(list((tmp_path / "remote" / "files").rglob("*.dir"))) >= 5


@slow
def test_a_tree_that_is_broken_is_made_anew(quick):
    assert quick.run("--until", "2021-05-20")[0] == 0
    (quick.tree / ".git").write_text("gitdir: nowhere\n")
    assert quick.run()[0] == 0
    assert quick.until() == "2021-05-25"
    (quick.tree / ".git").unlink()
    before = here(quick)
    assert quick.run()[0] == 0
    assert here(quick) == before


@slow
def test_without_a_remote_the_branch_is_made_here(quick):
    quick.clone.git("stash")
    quick.clone.git("remote", "remove", "origin")
    code, out, _ = quick.run()
    assert code == 0
    assert out.endswith("on branch retrain/data; no remote to push it to\n")
    assert quick.clone.git("rev-parse", f"{BRANCH}^") == quick.clone.git("rev-parse", "HEAD")


@slow
def test_the_real_flow_trains_there(team):
    team.clone.git("switch", "--quiet", "--force", "main")
    shutil.rmtree(team.clone.root / "flows")
    (team.clone.root / "flows").symlink_to(REPOSITORY / "flows")
    shutil.copy(REPOSITORY / "prefect.toml", team.clone.root)
    team.clone.commit("The real flow")
    code, out, err = team.run()
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()[:5]] == STAGES
    assert len(team.open()) == 1
