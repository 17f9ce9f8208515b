"""The forge of this run, chosen by the environment variables that its CI system sets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from mlops.base.environment import given
from mlops.forge.protocol import DryRun, Forge

REQUIRED = {
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


def current_forge(environment: Mapping[str, str] = os.environ) -> Forge:
    """The forge of this CI run, or of a machine that has a token for one; else a dry run.

    Raises UserError for a token or a repository name that is malformed.
    """
    name = "Azure DevOps" if _is_azure(environment) else "GitHub"
    pull_request = current_pull_request(environment)
    for variable in REQUIRED[name]:
        if not given(environment, variable):
            hint = f": {ADVICE[variable]}" if variable in ADVICE else ""
            return DryRun(f"{name} needs {variable}{hint}", pull_request)
    # Both import an HTTP library, which a dry run can do without.
    if name == "GitHub":
        from mlops.forge import github

        return github.connect(environment, pull_request)
    from mlops.forge import azure_devops

    return azure_devops.connect(environment, pull_request)


def current_pull_request(environment: Mapping[str, str]) -> int | None:
    """The number of the pull request that this CI run is for."""
    for variable in ("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "SYSTEM_PULLREQUEST_PULLREQUESTID"):
        if given(environment, variable).isdigit():
            return int(environment[variable])
    merge = re.fullmatch(r"refs/pull/(\d+)/\w+", environment.get("GITHUB_REF", ""))
    return int(merge[1]) if merge else _of_event(environment.get("GITHUB_EVENT_PATH"))


def _of_event(path: str | None) -> int | None:
    """The number in the file in which GitHub describes what triggered a run."""
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
