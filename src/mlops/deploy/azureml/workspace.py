"""An Azure ML workspace: what deployments need to be there, made once under names that tell.

The bundle is a *custom model* named `MODEL-bundle`, whose version is the beginning of the bundle's
digest and whose properties, which Azure ML never alters, hold all of it. Its files lie in the
workspace's own blob store, at `mlops/bundles/DIGEST/bundle`. The service's image is an
*environment* whose version is the beginning of the image's digest.

Assumed: whoever runs this is *AzureML Data Scientist* in the workspace and *Storage Blob Data
Contributor* in its storage account, and the workspace may pull the image.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops.base.errors import UserError
from mlops.base.faults import Patience
from mlops.base.http import Doing, Site
from mlops.deploy import specification
from mlops.deploy.azureml.arm import Arm, token
from mlops.deploy.specification import SHORT
from mlops.forge.forge import given
from mlops.registry.pin import Pin

# The same variables that Azure ML's MLflow plug-in and its own jobs know.
SUBSCRIPTION, GROUP = "AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP"
WORKSPACE = "AZUREML_ARM_WORKSPACE_NAME"
URL = "AZURE_RESOURCE_MANAGER_URL"
PUBLIC = "https://management.azure.com"
VERSION = "2025-12-01"
STORAGE_VERSION = "2023-11-03"
FOLDER = Path("infra/azureml")
# Where the workspace keeps what it is given, and the role that may write there.
STORE, WRITER = "workspaceblobstore", "Storage Blob Data Contributor"
ROLE = "AzureML Data Scientist"
DIGEST = "mlops.bundle"


@dataclass(frozen=True)
class Workspace:
    """A workspace, by its resource id, which begins with a slash."""

    arm: Arm = field(repr=False)
    id: str

    def path(self, *parts: str) -> str:
        """The resource id of something in it."""
        return "/".join((self.id, *parts))

    def asset(self, kind: str, named: str) -> str:
        """The resource id of `azureml:NAME:VERSION`, a kind of `models` or `environments`."""
        found = re.fullmatch(r"azureml:([^:]+):([^:]+)", named)
        if not found:
            raise UserError(f"{FOLDER}: found {named!r}, expected azureml:NAME:VERSION")
        return self.path(kind, found[1], "versions", found[2])


def connect(environment: Mapping[str, str], patience: Patience | None = None) -> Workspace:
    """The workspace that the environment names; UserError when it names none."""
    names = {name: given(environment, name) for name in (SUBSCRIPTION, GROUP, WORKSPACE)}
    for name, found in names.items():
        if not re.fullmatch(r"[\w.()-]+", found):
            raise UserError(f"{name}: found {found!r}, expected where the Azure ML workspace is")
    url = (given(environment, URL) or PUBLIC).rstrip("/")
    site = Site("Azure ML", URL, url, explain, parameters={"api-version": VERSION})
    arm = Arm(site, token(f"{PUBLIC}/.default"), patience or Patience())
    return Workspace(
        arm,
        f"/subscriptions/{names[SUBSCRIPTION]}/resourceGroups/{names[GROUP]}"
        f"/providers/Microsoft.MachineLearningServices/workspaces/{names[WORKSPACE]}",
    )


def explain(status: int, reason: str, doing: Doing) -> str:
    """The line for what Azure said no to; the status is 0 for work that failed later on."""
    if status == 401:
        return f"azure-identity: Azure does not accept the token ({reason}); `az login`"
    if status == 403:
        return (
            f"Azure ML: may not {doing.text} ({reason}); "
            f"whoever runs this needs the role {doing.permission!r}"
        )
    if "quota" in reason.lower():
        return (
            f"Azure ML: could not {doing.text}: {reason}; ask for more under Quotas, or take "
            f"another instance_type in {FOLDER}/deployment.yaml"
        )
    return f"Azure ML: could not {doing.text}: {reason}"


def values(endpoint: str, pin: Pin) -> dict[str, str]:
    """What the specifications may name."""
    image = specification.image()
    return {
        "endpoint": endpoint,
        "deployment": specification.name_of(pin.digest),
        "model": pin.model,
        "asset": asset_name(pin.model),
        "version": str(pin.version),
        "digest": pin.digest,
        "short": pin.digest[:SHORT],
        "image": image,
        "image_version": image.rpartition(":")[2][:SHORT],
    }


def asset_name(model: str) -> str:
    """What a registered model's bundles are called in Azure ML."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', model)}-bundle"


def environment(workspace: Workspace, spec: Mapping[str, Any]) -> None:
    """Make the service's image an environment, unless it is one."""
    path = workspace.asset("environments", f"azureml:{spec['name']}:{spec['version']}")
    doing = Doing(f"register the environment {spec['name']}", ROLE)
    if workspace.arm.find(path, doing) is None:
        workspace.arm.change("PUT", path, doing, {"properties": environment_body(spec)})


def environment_body(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The environment as the REST API wants it."""
    routes = {
        f"{name.removesuffix('_route')}Route": {"path": route["path"], "port": route["port"]}
        for name, route in spec["inference_config"].items()
    }
    return {"image": spec["image"], "inferenceConfig": routes, "osType": "Linux"}


def model(workspace: Workspace, pin: Pin, bundle: Path) -> None:
    """Make the bundle a model, unless it is one. Raises UserError where another has its name."""
    short = pin.digest[:SHORT]
    path = workspace.path("models", asset_name(pin.model), "versions", short)
    doing = Doing(f"register the model {asset_name(pin.model)} version {short}", ROLE)
    known = workspace.arm.find(path, doing)
    if known is None:
        # Only once its files are there, so that what has a name is whole.
        content = {
            "modelType": "custom_model",
            "modelUri": _upload(workspace, pin.digest, bundle),
            "properties": {DIGEST: pin.digest},
            "tags": {"mlops.model": pin.model, "mlops.version": str(pin.version)},
        }
        known = workspace.arm.change("PUT", path, doing, {"properties": content})
    found = digest_of(known)
    if found != pin.digest:
        raise UserError(
            f"Azure ML: model {asset_name(pin.model)} version {short}: found digest {found!r}, "
            f"expected {pin.digest}"
        )


def digest_of(resource: Any) -> str:
    """The bundle's digest among the properties of a model or deployment; empty without."""
    return str((resource["properties"].get("properties") or {}).get(DIGEST, ""))


def _upload(workspace: Workspace, digest: str, bundle: Path) -> str:
    """Copy the bundle's files into the workspace's blob store; its URI there. May be repeated."""
    doing = Doing(f"find the datastore {STORE}", ROLE)
    store = workspace.arm.send("GET", workspace.path("datastores", STORE), doing)["properties"]
    url = f"{store.get('protocol', 'https')}://{store['accountName']}.blob.{store['endpoint']}"
    headers = {"x-ms-version": STORAGE_VERSION, "x-ms-blob-type": "BlockBlob"}
    site = Site("Azure storage", f"datastore {STORE}", url, explain, headers)
    blobs = Arm(site, token("https://storage.azure.com/.default"), Patience())
    folder = f"mlops/bundles/{digest}/bundle"
    for file in sorted(path for path in bundle.iterdir() if path.is_file()):
        content = file.read_bytes()
        # The store refuses bytes that are not these.
        checked = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        upload = Doing(f"upload {file.name} to {store['accountName']}", WRITER)
        blobs.send("PUT", f"/{store['containerName']}/{folder}/{file.name}", upload,
                   data=content, headers={"Content-MD5": checked})  # fmt: skip
    return f"azureml:/{workspace.id}/datastores/{STORE}/paths/{folder}"


def here() -> Workspace:
    """The workspace that this process's environment names."""
    return connect(os.environ)
