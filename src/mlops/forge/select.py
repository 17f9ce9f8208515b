"""The forge of this run, chosen by the environment variables that its CI system sets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from mlops.base.environment import given
from mlops.forge import azure_devops, github
from mlops.forge.protocol import DryRun, Forge

# The variables that a forge needs, with what is said of one that is missing.
REQUIRED = {
    "GitHub": {
        "GITHUB_TOKEN": ": in a workflow, `env: GITHUB_TOKEN: ${{ github.token }}`",
        "GITHUB_REPOSITORY": ": OWNER/NAME",
    },
    "Azure DevOps": {
        "SYSTEM_ACCESSTOKEN": ": in the step, `env: SYSTEM_ACCESSTOKEN: $(System.AccessToken)`",
        "SYSTEM_COLLECTIONURI": "",
        "SYSTEM_TEAMPROJECT": "",
        "BUILD_REPOSITORY_NAME": "",
    },
}
# The variables with the right to write.
TOKENS = (
    "GITHUB_TOKEN", "SYSTEM_ACCESSTOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL",
)  # fmt: skip


def current_forge(environment: Mapping[str, str] = os.environ) -> Forge:
    """The forge of this CI run, or of a machine that has a token for one; else a dry run.

    Raises UserError for a token or a repository name that is malformed.
    """
    # Azure Pipelines also builds repositories that are elsewhere.
    provider = environment.get("BUILD_REPOSITORY_PROVIDER", "TfsGit")
    is_azure = bool(environment.get("TF_BUILD")) and provider == "TfsGit"
    name = "Azure DevOps" if is_azure else "GitHub"
    pull_request = current_pull_request(environment)
    for variable, advice in REQUIRED[name].items():
        if not given(environment, variable):
            return DryRun(f"{name} needs {variable}{advice}", pull_request)
    if is_azure:
        return azure_devops.connect(environment, pull_request)
    return github.connect(environment, pull_request)


def current_pull_request(environment: Mapping[str, str]) -> int | None:
    """The number of the pull request that this CI run is for."""
    for variable in ("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "SYSTEM_PULLREQUEST_PULLREQUESTID"):
        if given(environment, variable).isdigit():
            return int(environment[variable])
    merge = re.fullmatch(r"refs/pull/(\d+)/\w+", environment.get("GITHUB_REF", ""))
    if merge:
        return int(merge[1])
    try:
        # GitHub describes in this file what triggered a run.
        event = json.loads(Path(environment["GITHUB_EVENT_PATH"]).read_text())
        return int(event["pull_request"]["number"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
