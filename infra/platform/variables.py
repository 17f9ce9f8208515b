"""Print the commands that make GitHub's environments, and set their variables from the stacks.

    python infra/platform/variables.py [IMAGE] | bash

IMAGE is what images.sh printed. On Azure DevOps it prints each connection's client id instead.
Needs Pulumi, logged in to the state; bash then needs the GitHub CLI. May be run again.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

SERVING = ("staging", "production")
Outputs = Mapping[str, str]


def environments(stacks: Mapping[str, Outputs], image: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each environment and its variables; that of the whole repository has no name."""
    dev = stacks["dev"]
    yield (
        "",
        {
            "AZURE_STORAGE_ACCOUNT": dev["storageAccount"],
            "DVC_REMOTE_URL": "azure://releases/dvc",
            "DVC_PROPOSALS_URL": "azure://proposals/dvc",
            "IMAGE_REGISTRY": dev.get("registryServer", ""),
            "PULUMI_BACKEND_URL": os.environ.get("PULUMI_BACKEND_URL", ""),
        },
    )
    for stack, outputs in stacks.items():
        login = {"AZURE_TENANT_ID": outputs["tenant"],
                 "AZURE_SUBSCRIPTION_ID": outputs["subscription"]}  # fmt: skip
        target = {
            "AZUREML_ARM_SUBSCRIPTION": outputs["subscription"],
            "AZUREML_ARM_RESOURCEGROUP": outputs["group"],
            "AZUREML_ARM_WORKSPACE_NAME": outputs["workspace"],
            "AZUREML_ENDPOINT_IDENTITY": outputs.get("endpointIdentity", ""),
            "DATABRICKS_HOST": outputs.get("databricksHost", ""),
            "MLOPS_SERVING_IMAGE": image,
        } if stack in SERVING else {}  # fmt: skip
        for key, client in outputs.items():
            name = key.removeprefix("client ")
            if name != key and name not in ("endpoint", "servers", "worker"):
                own = {} if name.startswith("platform-") else target
                yield name, {"AZURE_CLIENT_ID": client, **login, **own}


def commands(stacks: Mapping[str, Outputs], image: str) -> Iterator[str]:
    """The GitHub CLI's commands, which may be run again."""
    for name, variables in environments(stacks, image):
        where = f" --env {name}" if name else ""
        if name:
            yield f"gh api --silent --method PUT repos/{{owner}}/{{repo}}/environments/{name}"
        for key, value in variables.items():
            if value:
                yield f"gh variable set {key}{where} --body {shlex.quote(value)}"


def stack_outputs(folder: Path, stack: str) -> Outputs:
    """What a stack has exported; ends the program with a line where Pulumi cannot say."""
    command = ["pulumi", "-C", str(folder), "stack", "output", "--json", "--stack", stack]
    try:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: outputs of the stack {stack}: {error}")
    outputs: Outputs = json.loads(done.stdout)
    return outputs


def main() -> None:
    folder = Path(__file__).parent
    stacks = {stack: stack_outputs(folder, stack) for stack in ("dev", *SERVING)}
    image = sys.argv[1] if len(sys.argv) > 1 else ""
    if "platform:azureDevOps" in (folder / "Pulumi.dev.yaml").read_text():
        for name, variables in environments(stacks, image):
            print(f"# {name or 'the pipeline'}: {json.dumps(variables)}")
        return
    print("\n".join(commands(stacks, image)))


if __name__ == "__main__":
    main()
