"""What both CI systems do when something happens: the ordered verbs, by running their own steps.

`make`, `mlops`, `dvc` and `git` are stand-ins that note how they are called and with what in their
environment; everything else, down to the bash of each step, is what the forge would run.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests import events, pipelines, workflows
from tests.events import Event
from tests.steps import Call, JobDone, Machine, surroundings

NOTED = """#!/usr/bin/env bash
name=${0##*/}
echo "verb> $name $*" >&2
{ echo "verb> $name $*"; env; } >> "$NOTES"
case "$name $1" in
	"mlops report") mkdir -p verdict && echo accepted > verdict/report.md ;;
	"mlops changed") echo "$CHANGED" ;;
	"mlops unreleased") echo "$UNRELEASED" ;;
	"mlops pins-only") [[ "$*" == *--known ]] && echo "$PINS_KNOWN" || echo "$PINS_ONLY" ;;
esac
[[ "$*" != "$FAILS" ]]
"""
# Actions and tasks that only have to be called.
OTHERS = (
    *("actions/cache", "actions/cache/restore", "actions/cache/save"),
    *("actions/checkout", "actions/setup-python", "azure/login"),
    *("actions/attest-build-provenance", "AzureCLI", "checkout", "publish"),
)
# In the order of Azure's stages; `comment.yml` follows `retrain.yml`.
ORDER = ("ci.yml", "retrain.yml", "deploy.yml", "drift.yml", "nightly.yml", "promote.yml")
CONFIGURED = {
    "AZURE_CLIENT_ID": "the-client",
    "AZURE_TENANT_ID": "the-tenant",
    "AZURE_SUBSCRIPTION_ID": "the-subscription",
    "AZURE_STORAGE_ACCOUNT": "the-account",
    "DVC_REMOTE_URL": "azure://the-releases",
    "DVC_PROPOSALS_URL": "azure://the-proposals",
    "MLFLOW_TRACKING_URI": "https://the-server.invalid",
    # Azure DevOps names the identities of its jobs by their service connections.
    **{
        f"azure{name}": f"as-{name}"
        for name in ("Proposals", "Releases", "Staging", "Production", "Watch")
    },
}
# The commit that was judged, and main's.
JUDGED, MAIN_COMMIT = "a" * 40, "b" * 40
# What main was before, in Azure's words; of one merge, GitHub's `before` is the same commit.
BEFORE = "HEAD^1"


@dataclass(frozen=True)
class Scenario:
    """Something that happens, told to both systems; which verbs fail; what two verbs answer."""

    github: Event
    azure: Mapping[str, str]
    fails: str = ""
    changed: str = "[]"
    unreleased: str = "true"
    pins_only: str = "false"
    pins_known: str = "false"
    promote: bool = False
    because: str = " "
    variables: Mapping[str, str] = field(default_factory=lambda: CONFIGURED)


@dataclass(frozen=True)
class Verb:
    """A command as it was called, the environment whose approval it had, and what it could see."""

    words: str
    environment: str
    seen: Mapping[str, str]

    @property
    def plain(self) -> tuple[str, str]:
        """Without what differs by nature: where a file lies, and a number that Azure knows."""
        words = re.sub(r" --head \S+|(?<=--prepared) \S+|(?<=--bundle) \S+", "", self.words)
        words = re.sub(r"(?<=pins-only) \S*", "", words)
        # Who may only look needs no approval; Azure has no place for such an environment.
        environment = self.environment if self.environment in ("staging", "production") else ""
        return environment, re.sub(r"\S+/(?=[\w.]+\.md)", "", words)


@dataclass(frozen=True)
class Happened:
    """All verbs in order, the jobs, and each action that was called."""

    verbs: list[Verb]
    jobs: list[JobDone]
    calls: list[Call]

    @property
    def plain(self) -> list[tuple[str, str]]:
        """Environment and verb of what works; that `make setup` comes first is seen elsewhere."""
        return [
            verb.plain for verb in self.verbs if not verb.words.startswith(("make setup", "git"))
        ]


def _happened(tree: Path, scenario: Scenario, run: Callable[[Machine], list[JobDone]]) -> Happened:
    """What `run` does on a runner with the stand-ins on its path."""
    calls: list[Call] = []
    with tempfile.TemporaryDirectory(prefix="scenario-") as place:
        folder, commands, notes = Path(place) / "work", Path(place) / "bin", Path(place) / "notes"
        folder.mkdir()
        commands.mkdir()
        notes.touch()
        for name in ("make", "mlops", "dvc", "git"):
            (commands / name).write_text(NOTED)
            (commands / name).chmod(0o755)
        env = surroundings()
        env |= {"PATH": f"{commands}:{env['PATH']}", "NOTES": str(notes)}
        env |= {"FAILS": scenario.fails, "CHANGED": scenario.changed}
        env |= {"UNRELEASED": scenario.unreleased, "PINS_ONLY": scenario.pins_only}
        env |= {"PINS_KNOWN": scenario.pins_known}
        artifacts = workflows.Artifacts(Path(place) / "artifacts")
        stand_ins = {
            **dict.fromkeys(OTHERS, calls.append),
            "DownloadPipelineArtifact": _downloaded,
            "actions/upload-artifact": artifacts.upload,
            "actions/download-artifact": artifacts.download,
        }
        jobs = run(Machine(tree, folder, stand_ins, scenario.variables, env))
        return Happened(_verbs(jobs, notes.read_text()), jobs, calls)


def _downloaded(call: Call) -> None:
    """What a stage's job left in Azure's artifacts: the report, where it is asked for."""
    if "itemPattern" in call.inputs:
        report = Path(call.inputs["targetPath"]) / "verdict-1/report.md"
        report.parent.mkdir(parents=True)
        report.touch()


def on_github(tree: Path, scenario: Scenario) -> Happened:
    """What the workflows do, `comment.yml` after `retrain.yml` included."""

    def run(machine: Machine) -> list[JobDone]:
        jobs: list[JobDone] = []
        for name in ORDER:
            runs = workflows.run(machine, name, scenario.github)
            jobs += [job for done in runs.values() for job in done]
            if runs and name == "retrain.yml":
                failed = any(job.result == "failure" for done in runs.values() for job in done)
                end = "failure" if failed else "success"
                after = events.completed("retrain", scenario.github, end, JUDGED, MAIN_COMMIT)
                jobs += workflows.run(machine, "comment.yml", after)["comment"]
        return jobs

    return _happened(tree, scenario, run)


def on_azure(tree: Path, scenario: Scenario) -> Happened:
    """What the pipeline does."""

    def run(machine: Machine) -> list[JobDone]:
        asked = {"promote": scenario.promote, "because": scenario.because}
        stages = pipelines.run(machine, scenario.azure, asked)
        return [job for done in stages.values() for job in done]

    return _happened(tree, scenario, run)


def _verbs(jobs: list[JobDone], notes: str) -> list[Verb]:
    """The notes, each beside the job that it was made in."""
    places = [job.environment for job in jobs for _ in range(job.out.count("verb> "))]
    noted = [note.splitlines() for note in notes.split("verb> ")[1:]]
    return [
        Verb(words, place, dict(line.split("=", 1) for line in seen if "=" in line))
        for (words, *seen), place in zip(noted, places, strict=True)
    ]


OWN = events.pull_request(7, "october"), pipelines.pull_request(7)
FORK = events.pull_request(7, "october", owner="stranger"), pipelines.pull_request(7, fork=True)
MAIN = pipelines.branch("IndividualCI")
MANIFESTS = ("environments/staging.yaml", "environments/production.yaml")
MERGE = events.push(BEFORE, changed=("params.yaml", "dvc.lock")), MAIN
RELEASE = events.push(BEFORE, changed=("dvc.lock", *MANIFESTS)), MAIN
ELSEWHERE = (
    events.push(BEFORE, branch="release/staging", changed=MANIFESTS),
    pipelines.branch("IndividualCI", "release/staging"),
)
NIGHT = events.schedule(), pipelines.branch("Schedule")
STAGING, BOTH = '["staging"]', '["staging", "production"]'

SCENARIOS = {
    "a pull request that is accepted": Scenario(*OWN),
    "a pull request that is refused": Scenario(*OWN, fails="gate"),
    "a pull request whose training fails": Scenario(*OWN, fails="retrain"),
    "a pull request where nothing is configured": Scenario(*OWN, variables={}),
    "a pull request of a release": Scenario(*OWN, pins_only="true"),
    "a pull request of a promotion": Scenario(*OWN, pins_only="true", pins_known="true"),
    "a pull request whose tests fail": Scenario(*OWN, fails="test"),
    "a fork's pull request": Scenario(*FORK),
    "a fork's pull request that is refused": Scenario(*FORK, fails="gate"),
    "a merge": Scenario(*MERGE),
    "a merge that is refused": Scenario(*MERGE, fails="gate"),
    "a merge whose models can't be pushed": Scenario(*MERGE, fails="publish"),
    "a merge whose tests fail": Scenario(*MERGE, fails="test"),
    "a merge of a release": Scenario(
        *RELEASE, changed=STAGING, unreleased="false", pins_only="true"
    ),
    "a merge of a release that another has overtaken": Scenario(*RELEASE, changed=STAGING),
    "a merge of which nothing can be said": Scenario(*MERGE, fails=f"unreleased staging {BEFORE}"),
    "a merge of both manifests": Scenario(*RELEASE, changed=BOTH),
    "a rollback while main is refused": Scenario(*RELEASE, fails="gate", changed='["production"]'),
    "a deployment that fails": Scenario(*RELEASE, fails="reconcile staging", changed=BOTH),
    "a manifest that says the same": Scenario(*RELEASE),
    "a push to another branch": Scenario(*ELSEWHERE),
    "a night": Scenario(*NIGHT),
    "a night that finds a drift": Scenario(*NIGHT, fails="reconcile staging --check"),
    "a promotion": Scenario(events.dispatch(), pipelines.branch("Manual"), promote=True),
    "a promotion of what is not ripe": Scenario(
        events.dispatch(because="a storm; $(date)"),
        pipelines.branch("Manual"),
        promote=True,
        because="a storm; $(date)",
    ),
    "a promotion from another branch": Scenario(
        events.dispatch("mine"), pipelines.branch("Manual", "mine"), promote=True
    ),
}
