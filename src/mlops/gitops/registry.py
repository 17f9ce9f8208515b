"""What MLflow's registry calls `staging` and `production`: a mirror of the manifests, no source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.core import tracking
from mlops.core.errors import UserError
from mlops.core.files import folder_digest, whole_folder
from mlops.core.params import Params
from mlops.gitops.manifest import Pin
from mlops.stages import register

if TYPE_CHECKING:
    from mlflow import MlflowClient

FETCHED = Path(".run/served")
MODEL = re.compile(r"models:/(?P<name>[^/@]+)(/(?P<version>\d+)|@(?P<alias>[\w.-]+))")


@dataclass(frozen=True)
class Alias:
    """The model version that an alias points to, and the digest of its bundle."""

    version: int
    digest: str


def alias(model: str, root: Path, name: str) -> Alias | None:
    """Where an alias points; None when there is no such alias, or nothing was tracked here yet.

    Raises UserError when the registry does not answer, or does not let this token look.
    """
    if not tracking.begun(root):
        return None
    from mlflow.exceptions import MlflowException

    with tracking.spoken_plainly(root):
        try:
            version = tracking.client(root).get_model_version_by_alias(model, name)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
    return Alias(int(version.version), version.tags.get(tracking.BUNDLE_TAG, ""))


def point(params: Params, root: Path, name: str, pin: Pin, fetched: Path) -> int:
    """Let an alias point to the pinned bundle's version, registered first where it is not."""
    client, _ = tracking.connect(params, root)
    with tracking.spoken_plainly(root):
        version = _version(client, params, root, pin, fetched)
        client.set_registered_model_alias(pin.model, name, str(version))
    return version


def fetch(uri: str, root: Path) -> tuple[Path, str]:
    """The bundle of `models:/NAME/VERSION` or `models:/NAME@ALIAS`, verified, and its version.

    Raises UserError for another URI, an unknown model, or bytes other than those registered.
    """
    named = MODEL.fullmatch(uri)
    if not named:
        raise UserError(f"{uri}: expected models:/NAME/VERSION or models:/NAME@ALIAS")
    name, number, by = named["name"], named["version"], named["alias"]
    client = tracking.client(root)
    with tracking.spoken_plainly(root):
        version = (
            client.get_model_version(name, number)
            if number
            else client.get_model_version_by_alias(name, by)
        )
        digest = version.tags.get(tracking.BUNDLE_TAG, "")
        kept = root / FETCHED / (digest or f"{name}-{version.version}")
        if not kept.is_dir() or folder_digest(kept) != digest:
            with whole_folder(kept) as folder:
                run = version.run_id or ""
                found = client.download_artifacts(run, "bundle", str(folder))
                _require_digest(uri, Path(found), digest)
                for file in Path(found).iterdir():
                    file.rename(folder / file.name)
                Path(found).rmdir()
    return kept, str(version.version)


def _require_digest(uri: str, folder: Path, digest: str) -> None:
    found = folder_digest(folder)
    if found != digest:
        raise UserError(f"{uri}: found digest {found[:12]}, expected {digest[:12] or 'a tag'}")


def drop(model: str, root: Path, name: str) -> None:
    """Let an alias point to nothing."""
    with tracking.spoken_plainly(root):
        tracking.client(root).delete_registered_model_alias(model, name)


def _version(client: MlflowClient, params: Params, root: Path, pin: Pin, fetched: Path) -> int:
    known = register.find(client, pin.model, pin.digest)
    if known:
        return int(known.version)
    return register.adopt(params, root, fetched, pin.commit)
