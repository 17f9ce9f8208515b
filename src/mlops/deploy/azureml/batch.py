"""Azure ML's batch endpoint: a deployment for each bundle, and the one that answers by default.

It follows the online endpoint: deployed with it, preferred when it has all of the traffic. It
exists as long as `infra/azureml/batch-endpoint.yaml` does.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlops.base.http import Doing
from mlops.deploy import specification
from mlops.deploy.azureml import bodies
from mlops.deploy.azureml.workspace import ROLE, Workspace
from mlops.deploy.target import Endpoint

PLACE = bodies.place("batch-endpoint")


def deploy(
    workspace: Workspace, endpoint: Endpoint, values: Mapping[str, str], location: str
) -> None:
    """Have a bundle's model ready to score files, beside those that are."""
    if not (endpoint.root / PLACE).exists():
        return
    path, arm = _path(workspace, endpoint), workspace.arm
    doing = Doing(f"create the batch endpoint {endpoint.name}-batch", ROLE)
    if arm.find(path, doing) is None:
        spec = specification.load(endpoint.root, PLACE, values)
        arm.change("PUT", path, doing, bodies.batch_endpoint(spec, location))
    place = f"{path}/deployments/{values['deployment']}"
    doing = Doing(f"deploy {values['deployment']} behind {endpoint.name}-batch", ROLE)
    if arm.find(place, doing) is None:
        spec = specification.load(endpoint.root, bodies.place("batch-deployment"), values)
        arm.change("PUT", place, doing, bodies.batch_deployment(spec, workspace, location))


def prefer(workspace: Workspace, endpoint: Endpoint, name: str) -> None:
    """Let this deployment score files from now on, where there is a batch endpoint."""
    path, arm = _path(workspace, endpoint), workspace.arm
    doing = Doing(f"change the default of {endpoint.name}-batch", ROLE)
    found = arm.find(path, doing)
    wanted = {"deploymentName": name}
    if found is None or found["properties"].get("defaults") == wanted:
        return
    kept = {k: found["properties"][k] for k in ("authMode", "description") if
            found["properties"].get(k)}  # fmt: skip
    content = {"location": found["location"], "tags": found.get("tags") or {},
               "properties": kept | {"defaults": wanted}}  # fmt: skip
    arm.change("PUT", path, doing, content)


def remove(workspace: Workspace, endpoint: Endpoint, name: str = "") -> None:
    """Score no more files with this deployment; without a name, have no batch endpoint."""
    path = _path(workspace, endpoint)
    doing = Doing(f"remove {name or 'all'} behind {endpoint.name}-batch", ROLE)
    place = f"{path}/deployments/{name}" if name else path
    if workspace.arm.find(place, doing) is not None:
        workspace.arm.change("DELETE", place, doing)


def _path(workspace: Workspace, endpoint: Endpoint) -> str:
    return workspace.path("batchEndpoints", f"{endpoint.name}-batch")
