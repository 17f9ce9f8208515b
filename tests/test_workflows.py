"""Both CI systems do the same, and nothing that they should not; each check finds what it is for.

Every breakage of a file below is one that a person could make by mistake, or an attacker on
purpose, and must be found.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mlops.cli import main as mlops
from tests import ci_checks, events, pipelines, workflows
from tests.ci_checks import CHECKS, divided, happened
from tests.scenarios import JUDGED, MAIN_COMMIT, SCENARIOS, Scenario, on_github

REPOSITORY = Path(__file__).parents[1]
FILES = (".github", ".azure", "azure-pipelines.yml")
# A project keeps the files of its own forge; what it adds to them is its own too.
pytestmark = pytest.mark.skipif(
    not all((REPOSITORY / name).exists() for name in FILES), reason="one forge alone is here"
)
CI, RETRAIN, COMMENT, DEPLOY, DRIFT, PROMOTE = (
    f".github/workflows/{name}.yml"
    for name in ("ci", "retrain", "comment", "deploy", "drift", "promote")
)
SETUP, RULESET = ".github/actions/setup/action.yml", ".github/ruleset.json"
PIPELINE, TEMPLATE = "azure-pipelines.yml", ".azure/setup.yml"
CHECKOUT = "@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1"
REF = "          ref: ${{ github.event.repository.default_branch }}\n"
HEAD_SHA = "${{ github.event.workflow_run.head_sha }}"
STATE = "github.event.workflow_run.conclusion == 'success' && 'success' || 'failure'"
ANY, ANY_THERE = "steps.unreleased.outputs.any == 'true'", "eq(variables['unreleased.any'], 'true')"
FOREIGN = "ne(variables['System.PullRequest.IsFork'], 'True')"
LATE = "                - script: git checkout --quiet --detach origin/$(mainBranch)\n"
LOCKED = '"mlops/gate", "integration_id": 15368'
SETS_UP = "          - template: .azure/setup.yml\n          # A"
LOGIN = """      - if: steps.unreleased.outputs.any == 'true'
        uses: $/.github/actions/azure
        with:
          client-id: ${{ vars.AZURE_CLIENT_ID }}
          tenant-id: ${{ vars.AZURE_TENANT_ID }}
          subscription-id: ${{ vars.AZURE_SUBSCRIPTION_ID }}
      - if: steps.unreleased.outputs.any == 'true'
        run: mlops publish
"""

# What is broken how, and the check that finds it.
BROKEN = [
    # The gate and its mark.
    ("lenient", RETRAIN, "id: gate\n", "id: gate\n        continue-on-error: true\n"),
    ("marked", COMMENT, STATE, "'success'"),
    ("marked", COMMENT, HEAD_SHA, "${{ github.sha }}"),
    ("checkouts", COMMENT, REF, f"          ref: {HEAD_SHA}\n"),
    ("checkouts", COMMENT, REF, ""),
    ("lenient", RETRAIN, "run: mlops gate", "run: mlops gate || true"),
    ("forgiven", CI, "run: make test", "run: make test || true"),
    ("forgiven", PIPELINE, "script: make test\n", "script: make test || true\n"),
    ("lenient", CI, "run: make lint", "run: make lint; true"),
    ("started", CI, "  merge_group:\n", ""),
    # Deployments.
    ("checkouts", DEPLOY, REF, ""),
    ("started", DEPLOY, "[environments/*.yaml]", "[environments/staging.yaml]"),
    ("unlike", PIPELINE, "    lockBehavior: sequential\n", ""),
    ("checkouts", PIPELINE, LATE, ""),
    ("unlike", DEPLOY, "    environment: ${{ matrix.environment }}\n", ""),
    ("unlike", DEPLOY, "group: deploy-${{ matrix.environment", "group: deploy-${{ github.sha"),
    # The release.
    ("unlike", RETRAIN, "group: build\n      cancel-in-progress: false",
     "group: build\n      cancel-in-progress: true"),
    ("unlike", RETRAIN, "      contents: read\n", "      contents: write\n"),
    ("checkouts", RETRAIN, "persist-credentials: false", "persist-credentials: true"),
    ("checkouts", PIPELINE, 'persistCredentials: "false"', 'persistCredentials: "true"'),
    ("checkouts", PROMOTE, "          persist-credentials: false\n", ""),
    ("trained_with_a_token", PROMOTE, "    env:\n      AZ",
     "    env:\n      T: ${{ github.token }}\n      AZ"),
    ("trained_with_a_token", RETRAIN, "        run: make train\n",
     "        run: make train\n        env:\n          GITHUB_TOKEN: ${{ github.token }}\n"),
    ("trained_with_a_token", PIPELINE, "          - script: make train\n",
     "          - script: make train\n            env:\n              T: $(System.AccessToken)\n"),
    ("artifacts", RETRAIN, "            models/bundle/\n", "            models/\n"),
    ("artifacts", RETRAIN, "path: ${{ runner.temp }}/release", "path: release"),
    ("artifacts", COMMENT, "path: ${{ runner.temp }}/judged", "path: src/judged"),
    ("identities", RETRAIN, LOGIN, LOGIN[LOGIN.index("      - if", 9):]),
    ("identities", PIPELINE, "variables.azureProduction", "variables.azureStaging"),
    ("unlike", RETRAIN, "    environment: proposals\n", "    environment: releases\n"),
    # Depth, caches, limits.
    ("checkouts", CI, "fetch-depth: 0", "fetch-depth: 1"),
    ("checkouts", PIPELINE, 'fetchDepth: "0"', 'fetchDepth: "1"'),
    ("caches", SETUP, "key: dvc-", "key: dcv-"),
    ("caches", RETRAIN, "path: .dvc/cache", "path: .dvc/cash"),
    ("caches", TEMPLATE, "path: .dvc/cache", "path: .dvc"),
    ("unlike", CI, "timeout-minutes: 60", "timeout-minutes: 5"),
    ("unlike", PIPELINE, 'timeoutInMinutes: "90"', 'timeoutInMinutes: "5"'),
    ("unlike", CI, "permissions: {}\n", ""),
    # Strangers.
    ("injected", COMMENT, '--head "$HEAD"', "--head ${{ github.event.workflow_run.head_branch }}"),
    ("injected", PIPELINE, "mlops publish", "mlops publish $(System.PullRequest.SourceBranch)"),
    ("secrets", DEPLOY, "${{ vars.DVC_REMOTE_URL }}", "${{ secrets.EVERYTHING }}"),
    ("secrets", DRIFT, "${{ vars.DVC_REMOTE_URL }}", "${{ toJSON(vars) }}"),
    ("leaked", RETRAIN, "${{ env.OURS == 'true' && vars.DVC_REMOTE_URL || '' }}",
     "${{ vars.DVC_REMOTE_URL }}"),
    ("leaked", RETRAIN, "      OURS:", "      T: ${{ github.token }}\n      OURS:"),
    ("leaked", PIPELINE, f"judge.gate.begun'], 'true'), {FOREIGN}", "judge.gate.begun'], 'true')"),
    ("leaked", TEMPLATE, f"and(succeeded(), {FOREIGN})", "succeeded()"),
    ("zizmor", RETRAIN, CHECKOUT, "@v7"),
    ("zizmor", RETRAIN, "  pull_request:\n", "  pull_request_target:\n"),
    ("unprepared", PIPELINE, SETS_UP, "          # A"),
    # The rules of the forge.
    ("ruleset", RULESET, LOCKED, '"mlops/gates", "integration_id": 15368'),
    ("ruleset", RULESET, LOCKED, '"mlops/gate"'),
    ("ruleset", RULESET, '"active"', '"disabled"'),
    ("ruleset", RULESET, 'review_count": 1', 'review_count": 0'),
    ("ruleset", RULESET, 'owner_review": true', 'owner_review": false'),
    ("ruleset", RULESET, 'ush_approval": true', 'ush_approval": false'),
    ("ruleset", RULESET, '"bypass_actors": []', '"bypass_actors": [{"actor_id": 5}]'),
    ("unowned", ".github/CODEOWNERS", "/environments/ ", "/environment/ "),
]  # fmt: skip
# In which scenario the two systems differ then.
DIVIDED = [
    ("a merge of a release", RETRAIN, f"- if: {ANY}\n        run: make", "- run: make"),
    ("a merge of a release", PIPELINE, ANY_THERE, "true"),
    ("a merge that is refused", RETRAIN, "!cancelled() && steps.gate", "steps.gate"),
    ("a pull request that is accepted", RETRAIN, "event_name == 'push'", "event_name != ''"),
    ("a pull request of a release", CI, "steps.pins.outputs.only == 'false'", "true"),
    ("a merge of both manifests", DEPLOY, 'reconcile "$ENVIRONMENT"', "reconcile staging"),
    ("a deployment that fails", PIPELINE, "and(not(canceled()), con", "and(succeeded(), con"),
    ("a promotion", PROMOTE, "staging production ${B", "production staging ${B"),
    ("a promotion from another branch", PROMOTE, "    if: github", "    if: success() || github"),
    ("a night", PROMOTE, " --ripe", " --now"),
    ("a merge", CI, "run: make test", "run: make test-fast"),
    ("a pull request that is accepted", COMMENT, "!= 'push'", "== 'push'"),
    ("a night", SETUP, "remote default --quiet", "remote list"),
    ("a merge of both manifests", PIPELINE, "environment: production\n        timeout",
     "environment: staging\n        timeout"),
]  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_both_systems_run_the_same_verbs_in_the_same_order(name):
    assert divided(REPOSITORY, name) == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_files_have_no_fault(check):
    assert list(check(REPOSITORY)) == []


@pytest.fixture
def broken(tmp_path):
    """A copy of the CI files in which one text is another."""

    def write(file, old, new):
        for name in FILES:
            copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
            copy(REPOSITORY / name, tmp_path / name)
        text = (tmp_path / file).read_text()
        assert old in text
        (tmp_path / file).write_text(text.replace(old, new))
        return tmp_path

    return write


@pytest.mark.slow
@pytest.mark.parametrize(("check", "file", "old", "new"), BROKEN)
def test_a_breakage_is_found(broken, check, file, old, new):
    assert any(True for _ in getattr(ci_checks, check)(broken(file, old, new)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file", "old", "new"), DIVIDED)
def test_a_difference_between_the_systems_is_found(broken, name, file, old, new):
    assert divided(broken(file, old, new), name) != []


def test_every_environment_is_deployed_and_watched_by_both_systems():
    known = {path.stem for path in (REPOSITORY / "environments").glob("*.yaml")}
    content = pipelines.load(REPOSITORY)
    deployed = {job.get("environment") for one in content["stages"] for job in one["jobs"]} - {None}
    for done in happened(REPOSITORY, "a night"):
        watched = {verb.words.split()[2] for verb in done.verbs if "reconcile" in verb.words}
        assert known == deployed == watched


def test_every_verb_is_called_with_arguments_that_it_has(tmp_path, monkeypatch):
    (tmp_path / "verdict").mkdir()
    (tmp_path / "verdict/report.md").touch()
    monkeypatch.chdir(tmp_path)
    verbs = [verb.words for done in happened(REPOSITORY, *SCENARIOS) for verb in done.verbs]
    called = {re.sub(r"\S+/verdict/", "verdict/", words) for words in verbs}
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
    for program, verb, *arguments in map(str.split, called):
        # A reason is one argument, as another test shows.
        if program == "mlops" and "--because" not in arguments:
            mlops.commands[verb].make_context(verb, arguments)
        if program == "make":
            assert verb in targets


@pytest.mark.parametrize("name", [name for name in SCENARIOS if SCENARIOS[name].fails == "gate"])
def test_what_the_gate_refuses_is_not_released(name):
    verbs = [verb.words for done in happened(REPOSITORY, name) for verb in done.verbs]
    assert verbs.count("mlops gate") == 2
    assert not any(verb.startswith("mlops release staging") for verb in verbs)


def test_a_merge_queue_s_commit_is_tested_judged_and_marked():
    done = on_github(REPOSITORY, Scenario(events.merge_group(MAIN_COMMIT), {}))
    words = [verb.words for verb in done.verbs]
    assert {"make test", "make retrain", "mlops gate", f"mlops mark {JUDGED} success"} <= {*words}
    assert not any("comment" in one for one in words)


def test_a_reason_to_promote_is_one_argument_whatever_it_holds():
    for done in happened(REPOSITORY, "a promotion of what is not ripe"):
        [words] = [one.words for one in done.verbs if "promote" in one.words]
        assert words == "mlops promote staging production --now --because a storm; $(date)"


def test_a_job_that_only_writes_to_the_forge_installs_a_small_lock():
    steps = [
        step for _, _, job in ci_checks.jobs(REPOSITORY) for step in job["steps"]
        if step.get("with", {}).get("lock")
    ]  # fmt: skip
    assert len(steps) == 6
    small, whole = (
        sum(line[:1].isalpha() for line in (REPOSITORY / lock).read_text().splitlines())
        for lock in (steps[0]["with"]["lock"], "requirements.lock")
    )
    assert small < whole / 5


def test_the_platform_is_previewed_and_applied_by_both_systems_with_the_same_verbs():
    texts = [(REPOSITORY / name).read_text()
             for name in (".github/workflows/platform.yml", ".azure/platform.yml")]  # fmt: skip
    verbs = [re.findall(r"(?:run|script): ((?:make|mlops) .*)", text) for text in texts]
    variable = re.compile(r'STACK=.*|".*/(?=platform.md)')
    github, azure = ([variable.sub("", verb) for verb in one] for one in verbs)
    assert github == azure
    assert len(github) == 3
    # Both wait for the settings, never apply a pull request, and never preview a fork's.
    assert "environment: platform-preview" in texts[0]
    assert "azurePlatformPreview" in texts[1]
    assert "git checkout --quiet --detach origin/$(mainBranch)" in texts[1]


def test_every_action_of_the_repository_is_given_inputs_that_it_has():
    for place, step in ci_checks.all_steps(REPOSITORY):
        if str(step.get("uses", "")).startswith("$/"):
            action = workflows.read(REPOSITORY / step["uses"][2:] / "action.yml")
            assert set(step.get("with", {})) <= set(action["inputs"]), place


def test_the_storage_account_reaches_dvc_on_both_systems(monkeypatch):
    from dvc.fs import get_fs_cls

    for done in happened(REPOSITORY, "a merge"):
        [publish] = [verb for verb in done.verbs if verb.words == "mlops publish"]
        monkeypatch.delenv("AZURE_STORAGE_ACCOUNT", raising=False)
        files = get_fs_cls({"url": "azure://container/path"})
        with pytest.raises(Exception, match="account_name or connection_string"):
            files(url="azure://container/path").fs_args  # noqa: B018
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", publish.seen["AZURE_STORAGE_ACCOUNT"])
        assert files(url="azure://container/path").fs_args["account_name"] == "the-account"


AZ = """#!/usr/bin/env bash
echo "$*" >> "$CALLS"
case "$*" in
	*"policy list"*) echo "$POLICIES" ;;
	*"security group list"*) echo "${GROUP-a-group}" ;;
	*"--in-file"*) cat "$(sed 's/.*--in-file \\([^ ]*\\).*/\\1/' <<< "$*")" >> "$CALLS" ;;
	*) echo an-id ;;
esac
"""


@pytest.mark.parametrize(
    ("policies", "group", "code"), [("0", "a-group", 0), ("3", "a-group", 2), ("0", "", 2)]
)
def test_main_is_protected_on_azure_once_and_by_a_group_that_exists(
    tmp_path, policies, group, code
):
    (tmp_path / "az").write_text(AZ)
    (tmp_path / "az").chmod(0o755)
    calls = tmp_path / "calls"
    done = subprocess.run(
        [REPOSITORY / ".azure/protect.sh", "https://dev.azure.com/acme", "P", "R", "L", "owners"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls),
             "POLICIES": policies, "GROUP": group},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    made = re.findall(r"repos policy (\S+) create", calls.read_text())
    kinds = {"approver-count", "comment-required", "merge-strategy", "build", "required-reviewer"}
    assert set(made) == (kinds if code == 0 else set())
    if code:
        assert len(done.stderr.splitlines()) == 1
        return
    # The pipeline's environments are locked, and production waits for an approval.
    checks = re.findall(r'"name": "(\w+)"', calls.read_text())
    assert checks == ["ExclusiveLock", "ExclusiveLock", "Approval"]
