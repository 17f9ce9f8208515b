"""Versions of a model in MLflow's registry, by alias, by digest or by URI.

The aliases `staging` and `production` are a copy of the manifests, never a source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.base.errors import UserError
from mlops.base.files import folder_digest, whole_folder
from mlops.pipeline import tracking, tracking_server

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")
# Characters of a tag's value in Unity Catalog.
LONGEST = 1000
FETCHED = Path(".run/served")
MODEL = re.compile(r"models:/(?P<name>[^/@]+)(/(?P<version>\d+)|@(?P<alias>[\w.-]+))")


@dataclass(frozen=True)
class Version:
    """A model version: its number, the id of the run that made it, its bundle's digest or ""."""

    number: int
    run: str
    digest: str


def by_alias(root: Path, model: str, alias: str) -> Version | None:
    """The version of an alias; None when there is no such alias, or nothing was tracked here yet.

    Raises UserError, as all of these do, when the registry refuses or does not answer.
    """
    if not tracking.has_store(root):
        return None
    client = tracking.client(root)
    from mlflow.exceptions import MlflowException

    with tracking_server.mlflow_errors(root):
        try:
            return _version(client.get_model_version_by_alias(model, alias))
        except MlflowException as error:
            if error.error_code in MISSING:
                return None
            raise


def by_digest(root: Path, model: str, digest: str) -> Version | None:
    """The first version with this bundle; None when it is not registered."""
    client = tracking.client(root)
    with tracking_server.mlflow_errors(root):
        if tracking_server.has_unity_catalog(root):
            every = (client.get_model_version(model, str(n)) for n in _ready(client, model))
            return next((v for v in map(_version, every) if v.digest == digest), None)
        query = f"name = '{model}' and tags.`{tracking.BUNDLE_TAG}` = '{digest}'"
        versions = [_version(version) for version in client.search_model_versions(query)]
    return min(versions, key=lambda version: version.number, default=None)


def _ready(client: MlflowClient, model: str) -> list[int]:
    """The numbers of a model's versions whose files are whole, in Unity Catalog.

    Its search takes one condition, and gives versions without their tags.
    """
    from mlflow.exceptions import MlflowException

    ready: list[int] = []
    page, more = None, True
    try:
        while more:
            listed = client.search_model_versions(f"name = '{model}'", page_token=page)
            ready += [int(version.version) for version in listed if version.status == "READY"]
            page = listed.token
            more = bool(page)
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
    return sorted(ready)


def set_alias(root: Path, model: str, alias: str, number: int | None) -> None:
    """Let an alias point to a version, or to nothing."""
    client = tracking.client(root)
    with tracking_server.mlflow_errors(root):
        if number is None:
            client.delete_registered_model_alias(model, alias)
        else:
            client.set_registered_model_alias(model, alias, str(number))


def fetch(uri: str, root: Path) -> tuple[Path, str]:
    """The bundle of `models:/NAME/VERSION` or `models:/NAME@ALIAS`, verified, and its version.

    Raises UserError for another URI, an unknown model, or bytes other than those registered.
    """
    match = MODEL.fullmatch(uri)
    if not match:
        raise UserError(f"{uri}: expected models:/NAME/VERSION or models:/NAME@ALIAS")
    name, number, alias = match["name"], match["version"], match["alias"]
    client = tracking.client(root)
    with tracking_server.mlflow_errors(root):
        version = (
            client.get_model_version(name, number)
            if number
            else client.get_model_version_by_alias(name, alias)
        )
        digest = _version(version).digest
        folder = root / FETCHED / (digest or f"{name}-{version.version}")
        bundle = folder / "bundle"
        if not bundle.is_dir() or folder_digest(bundle) != digest:
            with whole_folder(folder) as partial:
                client.download_artifacts(version.run_id or "", bundle.name, str(partial))
                actual = folder_digest(partial / bundle.name)
                if actual != digest:
                    expected = digest[:12] or "a tag"
                    raise UserError(f"{uri}: found digest {actual[:12]}, expected {expected}")
    return bundle, str(version.version)


def accepted(tags: Mapping[str, str], root: Path) -> dict[str, str]:
    """A version's tags as its registry takes them: Unity Catalog no dots, and no long values."""
    if not tracking_server.has_unity_catalog(root):
        return dict(tags)
    return {key.replace(".", "_"): tags[key] for key in tags if len(tags[key]) <= LONGEST}


def _version(version: ModelVersion) -> Version:
    tags = {key.replace(".", "_"): value for key, value in version.tags.items()}
    digest = tags.get(tracking.BUNDLE_TAG.replace(".", "_"), "")
    return Version(int(version.version), str(version.run_id or ""), digest)
