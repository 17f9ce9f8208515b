"""Both CI systems do the same, and nothing that they should not; each check finds what it is for.

A check takes a repository's folder and gives its faults, one line each. Each is also given a copy
of the files that is broken in one place, and has to see it.
"""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from mlops.cli import main as mlops
from tests import pipelines, workflows
from tests.events import TOKEN
from tests.scenarios import CONFIGURED, SCENARIOS, on_azure, on_github

REPOSITORY = Path(__file__).parents[1]
FILES = (".github", ".azure", "azure-pipelines.yml")
# A project keeps the files of its own forge; what it adds to them is its own too.
pytestmark = pytest.mark.skipif(
    not all((REPOSITORY / name).exists() for name in FILES), reason="one forge alone is here"
)
FORKS = [name for name in SCENARIOS if "fork" in name]
AZURE = {"id-token": "write"}
PULLS = {"contents": "write", "pull-requests": "write", "statuses": "write"}

# All that a job may do with the token that GitHub gives it.
PERMISSIONS = {
    "ci.yml validate": {"contents": "read"},
    "retrain.yml judge": {"contents": "read", **AZURE},
    "retrain.yml release": {**PULLS, **AZURE},
    "comment.yml comment": {
        "actions": "read",
        "contents": "read",
        "pull-requests": "write",
        "statuses": "write",
    },
    "deploy.yml changed": {"contents": "read"},
    "deploy.yml reconcile": {"contents": "read", **AZURE},
    "drift.yml drift": {"contents": "read", **AZURE},
    "nightly.yml nightly": {"contents": "read"},
    "promote.yml promote": {**PULLS, **AZURE},
}
# The steps that get a token, on either system; only they and the push that they make need one.
WITH_TOKEN = {"mlops comment", "mlops promote", "mlops release"}
PUSHING = {"retrain.yml release", "promote.yml promote", "azure Release", "azure Promote"}
# Cancelling one of these in the middle would leave something half done.
NEVER_CANCELLED = {"retrain.yml release", "deploy.yml reconcile", "promote.yml promote"}
# Azure filters paths for the whole file only; and it has no way to comment without the fork's code.
ASKS_ALWAYS = ("", "mlops changed HEAD^1")
COMMENTS_NEVER = ("", "mlops comment report.md")


def jobs(tree):
    """Every job of the workflows by file and name, and every stage's of the pipeline."""
    for path in sorted((tree / workflows.FOLDER).glob("*.yml")):
        content = workflows.read(path)
        for job, about in content["jobs"].items():
            yield f"{path.name} {job}", content, about


def stages(tree):
    content = pipelines.load(tree)
    yield from ((f"azure {one['stage']}", one, one["jobs"][0]) for one in content["stages"])


def all_steps(tree):
    """Each step of both systems, actions' and templates' too, beside where it stands."""
    for place, _, job in jobs(tree):
        yield from ((place, step) for step in job["steps"])
    for path in (tree / ".github/actions").glob("*/action.yml"):
        yield from ((path.parent.name, step) for step in workflows.read(path)["runs"]["steps"])
    for place, _, job in stages(tree):
        yield from ((place, step) for step in pipelines.steps(job))


@cache
def happened(tree, name):
    """What GitHub and what Azure do in a scenario."""
    return on_github(tree, SCENARIOS[name]), on_azure(tree, SCENARIOS[name])


def everywhere(tree):
    """What either system does in any scenario, one after the other."""
    return (done for name in SCENARIOS for done in happened(tree, name))


def divided(tree, name):
    """The verbs of both systems in a scenario, where they are not the same."""
    github, azure = (done.plain for done in happened(tree, name))
    if ASKS_ALWAYS not in github:
        azure = [verb for verb in azure if verb != ASKS_ALWAYS]
    if name in FORKS:
        github = [verb for verb in github if verb != COMMENTS_NEVER]
    return [] if github == azure else [f"{github} and {azure}"]


def permitted(tree):
    """Jobs that may do other things than the table says, or may do some by default."""
    found = {place: job.get("permissions") for place, _, job in jobs(tree)}
    by_default = [place for place, content, _ in jobs(tree) if content.get("permissions") != {}]
    return [place for place in PERMISSIONS if found.get(place) != PERMISSIONS[place]] + by_default


def endless(tree):
    """Jobs without a time limit."""
    github = [place for place, _, job in jobs(tree) if not job.get("timeout-minutes")]
    return github + [place for place, _, job in stages(tree) if not job.get("timeoutInMinutes")]


def injected(tree):
    """Scripts that are put together from what somebody outside may have written."""
    macro = r"\$\{\{|\$\((?:Build|System|Agent|Pipeline)\."
    scripts = [(place, step.get("run", step.get("script", ""))) for place, step in all_steps(tree)]
    return [f"{place}: {script}" for place, script in scripts if re.search(macro, script)]


def credentials(tree):
    """Checkouts that keep a token without pushing or push without one, and secrets by name."""
    faults = []
    for place, step in all_steps(tree):
        if "actions/checkout" in step.get("uses", "") or "checkout" in step:
            given = step.get("with", step)
            keeps = given.get("persist-credentials", given.get("persistCredentials"))
            right = str(keeps).lower() == str(place in PUSHING).lower()
            faults += [] if right else [f"{place}: keeps {keeps}"]
    texts = "".join(path.read_text() for path in sorted((tree / ".github").rglob("*.yml")))
    return faults + re.findall(r"secrets\.\w+", texts)


def leaked(tree):
    """What the code of a fork's pull request could see of tokens and settings."""
    faults = []
    for name in FORKS:
        github, azure = happened(tree, name)
        # The job that comments runs main's code: what it sees is no leak.
        own = [one for one in github.verbs if one.seen["GITHUB_EVENT_NAME"] != "workflow_run"]
        secret = {TOKEN, *CONFIGURED.values()}
        faults += [one.words for one in own if secret & set(one.seen.values())]
        faults += [one.words for one in azure.verbs if TOKEN in one.seen.values()]
        faults += [one.name for one in github.calls if one.name == "azure/login"]
        faults += [one.words for one in azure.verbs if one.words.startswith("dvc")]
    return faults


def cancellable(tree):
    """Jobs that two runs may do at once, or that a newer run ends in the middle."""
    faults = []
    for place, content, job in jobs(tree):
        group = job.get("concurrency", content.get("concurrency"))
        if place in NEVER_CANCELLED and (not group or group["cancel-in-progress"] is not False):
            faults.append(place)
    return faults


def unprepared(tree):
    """The first job, if any, that begins with something else than `make setup`."""
    for job in (job for done in everywhere(tree) for job in done.jobs):
        first = re.search(r"^verb> (?!git)(.*?) *$", job.out, flags=re.MULTILINE)
        if first and first[1] != "make setup":
            return [job.name]
    return []


def zizmor(tree):
    command = ["zizmor", "--offline", "--quiet", "--no-progress", ".github"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode else []


CHECKS = [permitted, endless, injected, credentials, leaked, cancellable, unprepared, zizmor]


@pytest.mark.parametrize("name", SCENARIOS)
def test_both_systems_run_the_same_verbs_in_the_same_order(name):
    assert divided(REPOSITORY, name) == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_files_have_no_fault(check):
    assert check(REPOSITORY) == []


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


RETRAIN, DEPLOY = ".github/workflows/retrain.yml", ".github/workflows/deploy.yml"
COMMENT, SETUP = ".github/workflows/comment.yml", ".github/actions/setup/action.yml"
CI, DRIFT = ".github/workflows/ci.yml", ".github/workflows/drift.yml"
PROMOTE, PIPELINE = ".github/workflows/promote.yml", "azure-pipelines.yml"
TEMPLATE = ".azure/setup.yml"
OURS = "${{ env.OURS == 'true' && toJSON(vars) || '' }}"
FOREIGN = "ne(variables['System.PullRequest.IsFork'], 'True')"
REFUSED_TOO = "${{ !cancelled() && steps.gate.outcome != 'skipped' }}"
JUDGED = "eq(variables['gate.begun'], 'true')"
CHECKOUT = "@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2"
SETS_UP = "          - template: .azure/setup.yml\n          - script: make lint\n"
HEAD = "${{ github.event.workflow_run.head_branch }}"
GIVEN = ", ne(variables['DVC_REMOTE_URL'], '')"
ANY = "steps.unreleased.outputs.any == 'true'"
EXITS = "              set -e\n              "

# In which scenario, what is broken how.
DIVIDED = [
    ("a merge of a release", RETRAIN, f"- if: {ANY}\n        run: make", "- run: make"),
    ("a merge of a release", PIPELINE, "eq(variables['unreleased.any'], 'true')", "true"),
    ("a merge of which nothing can be said", PIPELINE, f"{EXITS}unrel", f"{EXITS[:14]}unrel"),
    ("a merge that is refused", RETRAIN, REFUSED_TOO, "success()"),
    ("a pull request that is accepted", RETRAIN, "event_name == 'push'", "event_name != ''"),
    ("a merge of both manifests", DEPLOY, 'reconcile "$ENVIRONMENT"', "reconcile staging"),
    ("a merge of a release", DEPLOY, "    environment: ${{ matrix.environment }}\n", ""),
    ("a merge of a release", DEPLOY, "[environments/*.yaml]", "[src/*.yaml]"),
    ("a deployment that fails", PIPELINE, "and(not(canceled()), con", "and(succeeded(), con"),
    ("a promotion", PROMOTE, "staging production", "production staging"),
    ("a promotion from another branch", PROMOTE, "    if: github", "    if: success() || github"),
    ("a night that finds a drift", DRIFT, "${{ !cancelled() &&", "${{ success() &&"),
    ("a merge", CI, "- run: make test", "- run: make test-fast"),
    ("a push to another branch", CI, "    branches: [main]\n", ""),
    ("a pull request that is accepted", COMMENT, "== 'pull_request'", "== 'push'"),
    ("a night", SETUP, "--default remote", "remote"),
    ("a pull request where nothing is configured", TEMPLATE, GIVEN, ""),
    ("a merge of both manifests", PIPELINE, "environment: production", "environment: staging"),
    ("a promotion", PIPELINE, "    value: main\n", "    value: mine\n"),
]  # fmt: skip
BROKEN = [
    (permitted, RETRAIN, "      contents: read\n", "      contents: write\n"),
    (permitted, CI, "permissions: {}\n", ""),
    (permitted, COMMENT, "      actions: read", "      issues: write\n      actions: read"),
    (endless, DEPLOY, "    timeout-minutes: 60\n", ""),
    (endless, PIPELINE, '        timeoutInMinutes: "30"\n', ""),
    (injected, COMMENT, '--head "$HEAD"', f"--head {HEAD}"),
    (injected, PIPELINE, "mlops publish", "mlops publish $(System.PullRequest.SourceBranch)"),
    (credentials, RETRAIN, "persist-credentials: false", "persist-credentials: true"),
    (credentials, PIPELINE, 'persistCredentials: "false"', 'persistCredentials: "true"'),
    (credentials, DEPLOY, "${{ toJSON(vars) }}", "${{ secrets.EVERYTHING }}"),
    (leaked, RETRAIN, OURS, "${{ toJSON(vars) }}"),
    (leaked, RETRAIN, "      OURS:", "      T: ${{ github.token }}\n      OURS:"),
    (leaked, PIPELINE, f"{JUDGED}, {FOREIGN}", "not(canceled())"),
    (leaked, TEMPLATE, f"{FOREIGN}, ne(variables['DVC", "ne(variables['DVC"),
    (cancellable, RETRAIN, "cancel-in-progress: false", "cancel-in-progress: true"),
    (cancellable, DEPLOY, "    concurrency:", "    env:"),
    (unprepared, PIPELINE, SETS_UP, "          - script: make lint\n"),
    (zizmor, RETRAIN, CHECKOUT, "@v6"),
    (zizmor, RETRAIN, "  pull_request:\n", "  pull_request_target:\n"),
    (zizmor, COMMENT, '--head "$HEAD"', f"--head {HEAD}"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file", "old", "new"), DIVIDED)
def test_a_difference_between_the_systems_is_found(broken, name, file, old, new):
    assert divided(broken(file, old, new), name) != []


@pytest.mark.slow
@pytest.mark.parametrize(("check", "file", "old", "new"), BROKEN)
def test_a_check_finds_what_it_is_for(broken, check, file, old, new):
    assert check(broken(file, old, new)) != []


def test_every_environment_is_deployed_and_watched_by_both_systems():
    known = {path.stem for path in (REPOSITORY / "environments").glob("*.yaml")}
    content = pipelines.load(REPOSITORY)
    deployed = {job.get("environment") for one in content["stages"] for job in one["jobs"]} - {None}
    night = on_github(REPOSITORY, SCENARIOS["a night"]).verbs
    watched = {verb.words.split()[2] for verb in night if "reconcile" in verb.words}
    assert known == deployed == watched


def test_every_verb_is_called_with_arguments_that_it_has(tmp_path, monkeypatch):
    (tmp_path / "verdict").mkdir()
    (tmp_path / "verdict/report.md").touch()
    monkeypatch.chdir(tmp_path)
    verbs = [verb.words for done in everywhere(REPOSITORY) for verb in done.verbs]
    called = {re.sub(r"\S+/verdict/", "verdict/", words) for words in verbs}
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
    for program, verb, *arguments in map(str.split, called):
        if program == "mlops":
            mlops.commands[verb].make_context(verb, arguments)
        if program == "make":
            assert verb in targets


@pytest.mark.parametrize("name", [name for name in SCENARIOS if SCENARIOS[name].fails == "gate"])
def test_what_the_gate_refuses_is_not_released(name):
    verbs = [verb.words for done in happened(REPOSITORY, name) for verb in done.verbs]
    assert verbs.count("mlops gate") == 2
    assert "mlops release staging" not in verbs


def test_a_token_is_given_to_no_other_step_than_those_that_write_to_the_forge():
    verbs = [verb for done in everywhere(REPOSITORY) for verb in done.verbs]
    with_token = [verb.words for verb in verbs if TOKEN in verb.seen.values()]
    assert {" ".join(words.split()[:2]) for words in with_token} == WITH_TOKEN


def test_what_is_downloaded_for_a_comment_lies_outside_the_checkout():
    steps = workflows.read(REPOSITORY / COMMENT)["jobs"]["comment"]["steps"]
    places = [step["with"]["path"] for step in steps if "download" in step.get("uses", "")]
    assert [place.split("/")[0] for place in places] == ["${{ runner.temp }}"]
