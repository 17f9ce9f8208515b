"""The registry's aliases `staging` and `production`: a copy of the manifests, never a source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.base.errors import UserError
from mlops.base.files import folder_digest, whole_folder
from mlops.pipeline import tracking
from mlops.registry import register, versions
from mlops.registry.pin import Pin
from mlops.registry.versions import Version

if TYPE_CHECKING:
    from mlflow import MlflowClient

FETCHED = Path(".run/served")
MODEL = re.compile(r"models:/(?P<name>[^/@]+)(/(?P<version>\d+)|@(?P<alias>[\w.-]+))")


def alias(model: str, root: Path, name: str) -> Version | None:
    """The version of an alias; None when there is no such alias, or nothing was tracked here yet.

    Raises UserError when the registry does not answer, or does not let this token look.
    """
    return versions.by_alias(root, model, name) if tracking.has_store(root) else None


def point(root: Path, name: str, pin: Pin, fetched: Path) -> int:
    """Let an alias point to the pinned bundle's version, registered first where it is not."""
    registered = versions.by_digest(root, pin.model, pin.digest)
    number = registered.number if registered else register.adopt(root, fetched, pin.commit)
    versions.set_alias(root, pin.model, name, number)
    return number


def fetch(uri: str, root: Path) -> tuple[Path, str]:
    """The bundle of `models:/NAME/VERSION` or `models:/NAME@ALIAS`, verified, and its version.

    Raises UserError for another URI, an unknown model, or bytes other than those registered.
    """
    match = MODEL.fullmatch(uri)
    if not match:
        raise UserError(f"{uri}: expected models:/NAME/VERSION or models:/NAME@ALIAS")
    name, number, alias_name = match["name"], match["version"], match["alias"]
    client = tracking.client(root)
    with tracking.mlflow_errors(root):
        version = (
            client.get_model_version(name, number)
            if number
            else client.get_model_version_by_alias(name, alias_name)
        )
        digest = version.tags.get(tracking.BUNDLE_TAG, "")
        fetched = root / FETCHED / (digest or f"{name}-{version.version}")
        if not fetched.is_dir() or folder_digest(fetched) != digest:
            with whole_folder(fetched) as folder:
                _download(client, version.run_id or "", folder)
                actual = folder_digest(folder)
                if actual != digest:
                    expected = digest[:12] or "a tag"
                    raise UserError(f"{uri}: found digest {actual[:12]}, expected {expected}")
    return fetched, str(version.version)


def _download(client: MlflowClient, run: str, folder: Path) -> None:
    """Put the files of a run's bundle into a folder, which MLflow would give a folder inside."""
    inner = Path(client.download_artifacts(run, "bundle", str(folder)))
    for file in inner.iterdir():
        file.rename(folder / file.name)
    inner.rmdir()


def drop(model: str, root: Path, name: str) -> None:
    """Let an alias point to nothing."""
    with tracking.mlflow_errors(root):
        tracking.client(root).delete_registered_model_alias(model, name)
