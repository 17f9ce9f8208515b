"""Attacks on the release: each is refused with one line, or shown by code that it can't change."""

from __future__ import annotations

import re

import pytest
import yaml

from tests import events

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(900)]
STAGING = "environments/staging.yaml"


@pytest.fixture(scope="module")
def model():
    return "trips-and-attacks"


@pytest.fixture(scope="module")
def team(world):
    """A world whose staging pins a released bundle."""
    commit = world.git("rev-parse", "HEAD")
    runs = world.happens(events.push(events.NOWHERE, commit), commit)
    assert runs.results == {"build": "success", "propose": "success"}, runs.out
    world.merge("release/staging", "Release")
    return world


@pytest.fixture
def branch(team):
    """A new branch at main's tip, in the person's clone."""
    name = f"attack-{len(team.forge.pulls)}"
    team.git("fetch", "--quiet", "origin", "main")
    team.git("switch", "--quiet", "--force-create", name, "origin/main")
    return name


def refused(team, branch, **opened):
    """The line of a pull request that the gate refuses, and its comment."""
    number, runs = team.open(branch, team.commit("An innocent line"), **opened)
    assert runs.results == {"judge": "failure", "comment": "success"}, runs.out
    assert team.forge.statuses[-1].state == "failure"
    lines = [line for line in runs["judge"].out.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, lines
    return lines[0], team.forge.on(number)[0].body


@pytest.mark.parametrize(
    ("key", "value"),
    [("digest", "0" * 64), ("metrics", {"roc_auc": 0.999})],
)
def test_a_pin_that_was_forged_in_one_field(team, branch, key, value):
    manifest = team.desk / STAGING
    above, _, _ = manifest.read_text().partition("pin:")
    pin = yaml.safe_load(manifest.read_text())["pin"] | {key: value}
    manifest.write_text(above + yaml.safe_dump({"pin": pin}, sort_keys=False))
    line, _ = refused(team, branch)
    assert "pin of staging: found" in line


def test_a_pin_that_hides_behind_a_second_key(team, branch):
    manifest = team.desk / STAGING
    pin = yaml.safe_load(manifest.read_text())["pin"] | {"digest": "0" * 64}
    text = yaml.safe_dump({"pin": pin}, sort_keys=False)
    manifest.write_text(manifest.read_text() + text)
    _, runs = team.open(branch, team.commit("An innocent line"))
    assert runs.results["judge"] == "failure", runs.out
    assert f"{STAGING}: " in runs.out


def test_a_change_of_what_judges_it_is_shown_with_the_base_s_verdict(team, branch):
    rule = team.desk / "src/mlops/gitops/rules/size.py"
    rule.write_text(
        "from mlops.gitops.verdict import Rule\n\n\ndef judge(case):\n"
        "    return [Rule(name='size', found='any', limit='none', passed=True)]\n"
    )
    params = team.desk / "params.yaml"
    params.write_text(params.read_text().replace("roc_auc: 0.55", "roc_auc: 0.05"))
    number, runs = team.open(branch, team.commit("An innocent line"))
    assert runs.results["comment"] == "success", runs.out
    body = team.forge.on(number)[0].body
    # Main's code says so, whatever the branch's has written.
    changes = "`src/mlops/gitops/rules/size.py`, `params.yaml: gate`, which decide how it is judged"
    assert f"This pull request changes {changes}" in body
    assert re.search("The gate of the base: (accepted|refused): ", body)


def test_a_fork_with_a_workflow_of_its_own_gets_no_mark(team, branch):
    workflow = team.desk / ".github/workflows/retrain.yml"
    workflow.write_text(workflow.read_text().replace("run: mlops gate", "run: mlops gate || true"))
    params = team.desk / "params.yaml"
    params.write_text(params.read_text().replace("roc_auc: 0.55", "roc_auc: 0.999"))
    number, runs = team.open(branch, team.commit("A typo"), owner="stranger")
    assert runs.results == {"judge": "success", "comment": "success"}, runs.out
    assert team.forge.statuses[-1].state == "failure"
    assert "fork that changes its own judge" in team.forge.statuses[-1].text
    assert "`.github/workflows/retrain.yml`" in team.forge.on(number)[0].body


def test_a_lock_of_other_parameters_decides_nothing(team, branch):
    """The record of another bundle, with this code: main makes what its own code makes."""
    lock = team.desk / "dvc.lock"
    assert lock.exists()
    text = lock.read_text()
    lock.write_text(
        re.sub(r"(path: models/bundle\n(?:.*\n)*?\s+md5: )\w+", rf"\g<1>{'0' * 32}", text)
    )
    assert lock.read_text() != text
    team.git("commit", "--quiet", "--all", "--message", "A typo")
    before = team.pinned("staging")["digest"]
    team.open(branch, team.git("rev-parse", "HEAD"))
    runs = team.merge(branch)
    assert runs["build"].result == "success", runs.out
    assert before[:12] in runs.out
