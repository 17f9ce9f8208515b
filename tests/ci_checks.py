"""What both CI systems must and must not do: each check takes a folder and gives its faults.

`tests/test_workflows.py` shows that the repository has none, and that a fault is found.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mlops.gitops import judges
from tests import pipelines, scenarios, workflows
from tests.events import TOKEN
from tests.scenarios import CONFIGURED, JUDGED, MAIN_COMMIT, SCENARIOS, Happened

FORKS = [name for name in SCENARIOS if "fork" in name]
READ, AZURE = {"contents": "read"}, {"id-token": "write"}
PULLS = {"contents": "write", "pull-requests": "write", "statuses": "write"}
MAIN = "${{ github.event.repository.default_branch }}"
MATRIX, STACK = "${{ matrix.environment }}", "${{ matrix.stack }}"


class Job(NamedTuple):
    """What one job of GitHub's may do, for how long, beside which others, and as whom."""

    rights: dict[str, str]
    minutes: int
    group: str = ""
    cancelled: bool | str = False
    environment: str = ""


JOBS = {
    "ci.yml validate": Job(
        READ, 60, "ci-${{ github.ref }}", "${{ github.event_name == 'pull_request' }}"
    ),
    "retrain.yml judge": Job(
        {**READ, **AZURE}, 90, "judge-${{ github.ref }}", True, "proposals"
    ),
    "retrain.yml build": Job({**READ, **AZURE}, 90, "build", False, "releases"),
    "retrain.yml propose": Job({**PULLS, **AZURE, "attestations": "write"}, 20, "release"),
    "comment.yml comment": Job(
        {**READ, "actions": "read", "pull-requests": "write", "statuses": "write"}, 20,
        "comment-${{ github.event.workflow_run.head_repository.full_name }}-"
        "${{ github.event.workflow_run.head_branch }}", True,
    ),
    "deploy.yml changed": Job(READ, 20),
    "deploy.yml reconcile": Job(
        {**READ, **AZURE}, 60, f"deploy-{MATRIX}", False, MATRIX
    ),
    "drift.yml drift": Job({**READ, **AZURE}, 30, "drift", False, f"{MATRIX}-watch"),
    "nightly.yml nightly": Job(READ, 120, "nightly", True),
    "promote.yml promote": Job({**PULLS, **AZURE}, 30, "promote", False, "staging-watch"),
    "platform.yml preview": Job(
        {**READ, **AZURE}, 30, "platform-preview-${{ github.ref }}", True, "platform-preview"
    ),
    "platform.yml comment": Job(
        {**READ, "pull-requests": "write"}, 20, "platform-comment-${{ github.ref }}", True
    ),
    "platform.yml apply": Job(
        {**READ, **AZURE}, 90, f"platform-{STACK}", False, f"platform-{STACK}"
    ),
    "images.yml build": Job(READ, 30, "images"),
    "images.yml publish": Job({**READ, **AZURE}, 30, "images", False, "images"),
    "relock.yml relock": Job(READ, 20, "relock-${{ github.ref }}", True),
}  # fmt: skip
# Its jobs run scanners alone, which may write their findings and nothing else.
SCANNERS = "security.yml"
FINDINGS = {"actions": "read", **READ, **AZURE, "security-events": "write"}
# Of Azure's stages: minutes, and whether one run at a time may be in it.
STAGES = {
    "Validate": (60, None), "Judge": (90, None), "Comment": (20, None), "Build": (90, None),
    "Propose": (20, None),
    "Changed": (20, None), "DeployStaging": (60, "sequential"),
    "DeployProduction": (60, "sequential"), "Drift": (30, None), "Nightly": (120, None),
    "Promote": (30, None),
}  # fmt: skip
# Jobs that check out something else than what their run is for.
REFS = {"comment.yml comment": MAIN, "deploy.yml reconcile": MAIN,
        "platform.yml comment": MAIN, "platform.yml apply": MAIN}  # fmt: skip
# The steps that get a token, on either system; only they and the push that they make need one.
WITH_TOKEN = {"mlops comment", "mlops mark", "mlops promote", "mlops release"}
# What starts each workflow of the loop.
TRIGGERS = {
    "ci.yml": {"pull_request": None, "merge_group": None, "push": {"branches": ["main"]}},
    "retrain.yml": {
        "pull_request": {"branches": ["main"]}, "merge_group": None,
        "push": {"branches": ["main"]},
    },
    "comment.yml": {"workflow_run": {"workflows": ["retrain"], "types": ["completed"]}},
    "deploy.yml": {"push": {"branches": ["main"], "paths": ["environments/*.yaml"]}},
    "platform.yml": {
        "pull_request": {"branches": ["main"], "paths": ["infra/platform/**"]},
        "push": {"branches": ["main"], "paths": ["infra/platform/**"]},
    },
    "images.yml": {"push": {"branches": ["main"], "paths": [
        "infra/serving/**", "infra/azureml/Dockerfile", "src/mlops/**", "pyproject.toml",
        ".dockerignore",
    ]}},
}  # fmt: skip
CACHES = {".venv": "venv-", ".dvc/cache": "dvc-"}
LENIENT = re.compile(r"\|\|\s*(?!echo)|;\s*(?:true|:)\s*$|set \+e|\bexit 0\b", re.MULTILINE)
REACHES_AZURE = re.compile(r"make (re)?train|mlops (publish|reconcile|promote)")
# Azure filters paths for the whole file only; and it has no way to comment without the fork's code.
ASKS_ALWAYS = ("", "mlops changed HEAD^1")
COMMENTS_NEVER = ("", "mlops comment report.md")


def jobs(tree: Path) -> Iterator[tuple[str, Any, Any]]:
    """Every job of the workflows by file and name, with its workflow."""
    for path in sorted((tree / workflows.FOLDER).glob("*.yml")):
        content = workflows.read(path)
        for job, about in content["jobs"].items():
            yield f"{path.name} {job}", content, about


def stages(tree: Path) -> Iterator[tuple[str, Any, Any]]:
    """Every job of the pipeline by its stage."""
    for stage in pipelines.load(tree, settings=CONFIGURED)["stages"]:
        yield from ((f"azure {stage['stage']}", stage, job) for job in stage["jobs"])


def all_steps(tree: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each step of both systems, actions' and templates' too, beside where it stands."""
    for place, _, job in jobs(tree):
        yield from ((place, step) for step in job["steps"])
    for path in (tree / ".github/actions").glob("*/action.yml"):
        yield from ((path.parent.name, step) for step in workflows.read(path)["runs"]["steps"])
    for place, _, job in stages(tree):
        yield from ((place, step) for step in pipelines.steps(job))


@cache
def on_github(tree: Path, name: str) -> Happened:
    """What GitHub does in a scenario."""
    return scenarios.on_github(tree, SCENARIOS[name])


@cache
def on_azure(tree: Path, name: str) -> Happened:
    """What Azure does in a scenario."""
    return scenarios.on_azure(tree, SCENARIOS[name])


def happened(tree: Path, *names: str) -> Iterator[Happened]:
    """What either system does in some scenarios, one after the other."""
    return (on(tree, name) for name in names for on in (on_github, on_azure))


def divided(tree: Path, name: str) -> list[str]:
    """The verbs of both systems in a scenario, where they are not the same."""
    github, azure = (done.plain for done in happened(tree, name))
    if ASKS_ALWAYS not in github:
        azure = [verb for verb in azure if verb != ASKS_ALWAYS]
    if name in FORKS:
        github = [verb for verb in github if verb != COMMENTS_NEVER]
    # There the pipeline's own result is what a branch policy asks for.
    github = [verb for verb in github if not verb[1].startswith("mlops mark")]
    return [] if github == azure else [f"{github} and {azure}"]


def unlike(tree: Path) -> Iterator[str]:
    """Jobs that may do other things, longer, beside others or as others than the tables say."""
    found = {place: (content, job) for place, content, job in jobs(tree)}
    for place, (content, job) in found.items():
        if content.get("permissions") != {}:
            yield f"{place}: rights by default"
        if place.startswith(SCANNERS):
            given = job.get("permissions", {}).items()
            if not (given <= FINDINGS.items() and job.get("timeout-minutes")):
                yield place
            continue
        lock = job.get("concurrency", content.get("concurrency", {}))
        environment = job.get("environment", "")
        seen = Job(
            job.get("permissions", {}), job.get("timeout-minutes", 0), lock.get("group", ""),
            lock.get("cancel-in-progress", False), environment,
        )  # fmt: skip
        if JOBS.get(place) != seen:
            yield f"{place}: {seen}"
    yield from (place for place in JOBS if place not in found)
    kinds: dict[str, Any] = {}
    for place, stage, job in stages(tree):
        kind = int(job.get("timeoutInMinutes", 0)), stage.get("lockBehavior")
        kinds[place.removeprefix("azure ")] = kind
    yield from (f"{name}: {kinds.get(name)}" for name in STAGES if kinds.get(name) != STAGES[name])


def started(tree: Path) -> Iterator[str]:
    """Workflows that start at other events than the table says."""
    for name, on in TRIGGERS.items():
        if workflows.read(tree / workflows.FOLDER / name)["on"] != on:
            yield name


def lenient(tree: Path) -> Iterator[str]:
    """Steps whose failure would not fail their job."""
    for place, step in all_steps(tree):
        goes_on = step.get("continue-on-error", step.get("continueOnError"))
        # Without a verdict there is nothing to post: the next steps ask for it.
        if goes_on and (place, step.get("id")) != ("comment.yml comment", "verdict"):
            yield f"{place}: {step}"
        script = step.get("run", step.get("script", ""))
        calls = "\n".join(line for line in script.splitlines() if re.search("make|mlops", line))
        if LENIENT.search(calls):
            yield f"{place}: {calls}"


def checkouts(tree: Path) -> Iterator[str]:
    """Checkouts of another commit, of a part of the history, or that leave a token in a file."""
    for place, step in all_steps(tree):
        if "actions/checkout" not in step.get("uses", "") and "checkout" not in step:
            continue
        given = step.get("with", step)
        keeps = given.get("persist-credentials", given.get("persistCredentials"))
        depth = given.get("fetch-depth", given.get("fetchDepth"))
        whole = str(depth) == "0" or place.startswith((SCANNERS, "relock")) or place == "relock"
        if str(keeps).lower() != "false" or not whole or given.get("ref") != REFS.get(place):
            yield f"{place}: {given}"
    for name in ("a merge of a release", "a rollback while main is refused"):
        words = [verb.words for verb in on_azure(tree, name).verbs]
        deployed = [number for number, one in enumerate(words) if one.startswith("mlops reconcile")]
        late = "git checkout --quiet --detach origin/main"
        yield from ("azure: a late approval" for number in deployed if late not in words[:number])


def caches(tree: Path) -> Iterator[str]:
    """Caches under another name or of another path than those that are read again."""
    for place, step in all_steps(tree):
        given = step.get("with", step.get("inputs", {}))
        if "actions/cache" in step.get("uses", ""):
            named = given["key"].startswith(CACHES.get(given["path"], "-"))
        elif step.get("task") == "Cache@2":
            named = given["key"].startswith(f'"{CACHES.get(given["path"], "?-")[:-1]}"')
        else:
            continue
        if not named:
            yield f"{place}: {given}"


def artifacts(tree: Path) -> Iterator[str]:
    """What one job hands to another, where the names or the contents do not fit."""
    release = {"verdict/", "reports/", "models/bundle/", "dvc.lock"}
    kept: dict[str, set[str]] = {}
    taken = {}
    for place, step in all_steps(tree):
        given = step.get("with", {})
        if "upload-artifact" in step.get("uses", "") and place.startswith("retrain"):
            kept[given["name"]] = set(given["path"].split())
        if "download-artifact" in step.get("uses", ""):
            taken[given["name"]] = given["path"].split("/")[0]
    if kept.get("release") != release or "verdict/" not in kept.get("verdict", ()):
        yield str(kept)
    # What is downloaded lies outside the checkout.
    outside = dict.fromkeys(("release", "verdict", "platform", "image"), "${{ runner.temp }}")
    if taken != outside:
        yield str(taken)


def injected(tree: Path) -> Iterator[str]:
    """Scripts that are put together from what somebody outside may have written."""
    macro = r"\$\{\{|\$\((?:Build|System|Agent|Pipeline)\."
    for place, step in all_steps(tree):
        if re.search(macro, step.get("run", step.get("script", ""))):
            yield f"{place}: {step}"


def secrets(tree: Path) -> Iterator[str]:
    """Secrets by name, and all settings at once, which a runner prints."""
    for path in sorted((tree / ".github").rglob("*.yml")):
        yield from re.findall(r"secrets\.\w+|toJSON\((?:vars|secrets|env)\)", path.read_text())


def leaked(tree: Path) -> Iterator[str]:
    """What the code of a fork's pull request could see of tokens and settings."""
    secret = {TOKEN, *CONFIGURED.values()}
    for name in FORKS:
        github, azure = happened(tree, name)
        # The job that comments runs main's code: what it sees is no leak.
        own = [one for one in github.verbs if one.seen["GITHUB_EVENT_NAME"] != "workflow_run"]
        yield from (one.words for one in own if secret & set(one.seen.values()))
        yield from (one.words for one in azure.verbs if TOKEN in one.seen.values())
        yield from (one.name for one in github.calls if one.name == "azure/login")
        yield from (one.words for one in azure.verbs if one.words.startswith("dvc"))


def trained_with_a_token(tree: Path) -> Iterator[str]:
    """Verbs other than those that write to the forge, which could see its token."""
    names, seen = ("a pull request that is accepted", "a merge", "a promotion"), set()
    for done in happened(tree, *names):
        found = [verb.words for verb in done.verbs if TOKEN in verb.seen.values()]
        verbs = {" ".join(words.split()[:2]) for words in found}
        yield from sorted(verbs - WITH_TOKEN)
        seen |= verbs
    yield from sorted(WITH_TOKEN - seen)


def marked(tree: Path) -> Iterator[str]:
    """Commits that would be marked otherwise than they were judged."""
    calls = on_github(tree, "a pull request that is accepted").calls
    refs = {call.inputs["ref"] for call in calls if call.inputs.get("ref")}
    if refs != {"main"}:
        yield f"checked out: {refs}, and not {MAIN_COMMIT}"
    wanted = {"accepted": "success", "refused": "failure"}
    for name in (one for one in SCENARIOS if "pull request that is" in one):
        (state,) = (wanted[word] for word in wanted if name.endswith(word))
        verbs = [verb.words for verb in on_github(tree, name).verbs if "mark" in verb.words]
        fork = " --fork stranger:october" if name in FORKS else ""
        if verbs != [f"mlops mark {JUDGED} {state}{fork}"]:
            yield f"{name}: {verbs}"


def forgiven(tree: Path) -> Iterator[str]:
    """Verbs whose failure leaves every job of a system successful."""
    for name in SCENARIOS:
        if re.search("whose tests fail|merge that is refused", name):
            for done in happened(tree, name):
                if "failure" not in {job.result for job in done.jobs}:
                    yield name


def identities(tree: Path) -> Iterator[str]:
    """Verbs that reach Azure without a login just before, or as another than their own."""
    wanted = {"Build": "as-Releases", "Judge": "as-Proposals", "Drift": "as-Watch",
              "DeployStaging": "as-Staging", "DeployProduction": "as-Production",
              "Promote": "as-Watch"}  # fmt: skip
    places = [
        (place, job["steps"], "${{ vars.AZURE_CLIENT_ID }}") for place, _, job in jobs(tree)
        if re.search(r"judge|build|reconcile|drift|promote", place)
    ]  # fmt: skip
    for place, _, job in stages(tree):
        if who := wanted.get(place.removeprefix("azure ")):
            places.append((place, pipelines.steps(job), who))
    for place, steps, who in places:
        logged_in = False
        for step in steps:
            given = step.get("with", step.get("inputs", {}))
            if step.get("uses", "").endswith("/actions/azure") or step.get("task") == "AzureCLI@2":
                logged_in = True
                if given.get("client-id", given.get("azureSubscription")) != who:
                    yield f"{place}: {given}"
            script = step.get("run", step.get("script", ""))
            if REACHES_AZURE.search(script):
                if not logged_in:
                    yield f"{place}: {script}"
                # Its token lives ten minutes, and training takes longer.
                logged_in &= "train" not in script


def ruleset(tree: Path) -> list[str]:
    """What the rulesets do not ask for, and marks that nobody sets."""
    main = json.loads((tree / ".github/ruleset.json").read_text())
    bundles = json.loads((tree / ".github/ruleset-bundles.json").read_text())
    rules = {rule["type"]: rule.get("parameters", {}) for rule in main["rules"]}
    pulls, checks = rules.get("pull_request", {}), rules.get("required_status_checks", {})
    required = checks.get("required_status_checks", ())
    contexts = {one["context"]: one.get("integration_id") for one in required}
    kept = {"deletion", "non_fast_forward"}
    # 15368 is GitHub Actions: nobody else's mark of that name counts.
    marks = {"mlops/gate": 15368, "validate": 15368}
    asked = {
        "enforced": all(one["enforcement"] == "active" for one in (main, bundles)),
        "nobody passes": not main["bypass_actors"] and not bundles["bypass_actors"],
        "main": main["conditions"]["ref_name"] == {"include": ["~DEFAULT_BRANCH"], "exclude": []},
        "review": pulls.get("required_approving_review_count", 0) >= 1,
        "stale": pulls.get("dismiss_stale_reviews_on_push"),
        "owners": pulls.get("require_code_owner_review"),
        "last push": pulls.get("require_last_push_approval"),
        "up to date": checks.get("strict_required_status_checks_policy"),
        "marks": contexts == marks,
        "kept": kept <= rules.keys(),
        "bundles kept": kept <= {rule["type"] for rule in bundles["rules"]},
        "set": {place.split()[1] for place, _, _ in jobs(tree)} >= {"validate"},
    }  # fmt: skip
    return [name for name, holds in asked.items() if not holds]


def unowned(tree: Path) -> list[str]:
    """Files that decide how models are judged, released or deployed, and belong to nobody."""
    lines = (tree / ".github/CODEOWNERS").read_text().splitlines()
    owned = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    # Of several files of owners, GitHub reads this one.
    judging = (name for name in (*judges.FORGE, *judges.PROJECT) if "CODEOWNERS" not in name)
    decides = ("/environments/", "/params.yaml", *(f"/{name}" for name in judging))
    return [name for name in ("*", *decides) if name not in owned]


def unprepared(tree: Path) -> list[str]:
    """The first job, if any, that begins with something else than `make setup`."""
    names = ("a pull request that is accepted", "a merge of both manifests", "a night")
    for job in (job for name in names for done in happened(tree, name) for job in done.jobs):
        first = re.search(r"^verb> (?!git)(.*?) *$", job.out, flags=re.MULTILINE)
        if first and first[1] != "make setup":
            return [job.name]
    return []


def zizmor(tree: Path) -> list[str]:
    command = ["zizmor", "--offline", "--quiet", "--no-progress", ".github"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode else []


CHECKS = [
    unlike, started, lenient, checkouts, caches, artifacts, injected, secrets, leaked,
    trained_with_a_token, marked, forgiven, identities, ruleset, unowned, unprepared, zizmor,
]  # fmt: skip
