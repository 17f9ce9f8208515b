"""The forge, GitHub or Azure DevOps, as the verbs need it; which one, the environment says."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

# What a ruleset may ask for on a commit before it is merged.
GATE = "mlops/gate"
State = Literal["pending", "success", "failure"]

NEEDED = {
    "GitHub": ("GITHUB_TOKEN", "GITHUB_REPOSITORY"),
    "Azure DevOps": (
        "SYSTEM_ACCESSTOKEN",
        "SYSTEM_COLLECTIONURI",
        "SYSTEM_TEAMPROJECT",
        "BUILD_REPOSITORY_NAME",
    ),
}
ADVICE = {
    "GITHUB_TOKEN": "in a workflow, `env: GITHUB_TOKEN: ${{ github.token }}`",
    "GITHUB_REPOSITORY": "OWNER/NAME",
    "SYSTEM_ACCESSTOKEN": "in the step, `env: SYSTEM_ACCESSTOKEN: $(System.AccessToken)`",
}


class Forge(Protocol):
    """Every call may be repeated: it leaves one comment, one pull request, one status.

    Each raises UserError, in one line, for what the forge does not allow or does not answer.
    """

    def comment(self, pull_request: int, body: str, key: str) -> str:
        """Write this run's one comment of that key, or write it anew; its URL.

        Known by a hidden first line and by its author, so that nobody else's is touched. When
        two runs wrote one each, the older is kept; that the other was deleted is said on stderr.
        """
        ...

    def pull_request(self, branch: str, base: str, title: str, body: str) -> str:
        """Open a branch's pull request into `base`, or update the open one; its URL."""
        ...

    def status(self, commit: str, state: State, context: str, text: str) -> None:
        """Set the status `context`, such as `mlops/gate`, of a commit."""
        ...

    def number(self, head: str | None) -> int | None:
        """The open pull request of OWNER:BRANCH, the oldest of several; of this run without."""
        ...


@dataclass(frozen=True)
class DryRun:
    """Prints what a forge would be asked, and why none is; sends nothing."""

    why: str
    this: int | None = None

    def comment(self, pull_request: int, body: str, key: str) -> str:
        return self._say(f"comment {key!r} on pull request {pull_request}", body)

    def pull_request(self, branch: str, base: str, title: str, body: str) -> str:
        return self._say(f"pull request {branch} -> {base}: {title}", body)

    def status(self, commit: str, state: State, context: str, text: str) -> None:
        self._say(f"status {context} of {commit[:12]}: {state}, {text}")

    def number(self, head: str | None) -> int | None:
        return self.this

    def _say(self, what: str, body: str = "") -> str:
        print(f"dry run; {self.why}", f"would send: {what}", *body.splitlines(), sep="\n    ")
        return "dry run, nothing sent"


def here(environment: Mapping[str, str] = os.environ) -> Forge:
    """The forge of this CI run, of a machine that has a token for one, or else a dry run.

    Raises UserError for a token or a repository that can't be one.
    """
    name = "Azure DevOps" if _is_azure(environment) else "GitHub"
    for variable in NEEDED[name]:
        if not given(environment, variable):
            hint = f": {ADVICE[variable]}" if variable in ADVICE else ""
            return DryRun(f"{name} needs {variable}{hint}", this_pull_request(environment))
    # Either brings an HTTP library, which a dry run can do without.
    if name == "GitHub":
        from mlops.forge import github

        return github.connect(environment)
    from mlops.forge import azure_devops

    return azure_devops.connect(environment)


def given(environment: Mapping[str, str], variable: str) -> str:
    """A variable's value; empty also where Azure Pipelines left `$(name)` for want of one."""
    value = environment.get(variable, "").strip()
    return "" if value.startswith("$(") else value


def this_pull_request(environment: Mapping[str, str]) -> int | None:
    """The number of the pull request that this CI run is for."""
    for variable in ("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "SYSTEM_PULLREQUEST_PULLREQUESTID"):
        if given(environment, variable).isdigit():
            return int(environment[variable])
    merge = re.fullmatch(r"refs/pull/(\d+)/\w+", environment.get("GITHUB_REF", ""))
    return int(merge[1]) if merge else _of_event(environment.get("GITHUB_EVENT_PATH"))


def _of_event(path: str | None) -> int | None:
    """The number in the file with which GitHub describes what set off a run."""
    if not path:
        return None
    try:
        return int(json.loads(Path(path).read_text())["pull_request"]["number"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_azure(environment: Mapping[str, str]) -> bool:
    """Whether Azure Pipelines runs this on a repository of Azure DevOps' own."""
    provider = environment.get("BUILD_REPOSITORY_PROVIDER", "TfsGit")
    return bool(environment.get("TF_BUILD")) and provider == "TfsGit"
