"""What MLflow's registry calls `staging` and `production`: a mirror of the manifests, no source."""

from __future__ import annotations

import re
from pathlib import Path

from mlops.base.errors import UserError
from mlops.base.files import folder_digest, whole_folder
from mlops.pipeline import tracking
from mlops.registry import register, versions
from mlops.registry.pin import Pin
from mlops.registry.versions import Version

FETCHED = Path(".run/served")
MODEL = re.compile(r"models:/(?P<name>[^/@]+)(/(?P<version>\d+)|@(?P<alias>[\w.-]+))")


def alias(model: str, root: Path, name: str) -> Version | None:
    """Where an alias points; None when there is no such alias, or nothing was tracked here yet.

    Raises UserError when the registry does not answer, or does not let this token look.
    """
    return versions.by_alias(root, model, name) if tracking.begun(root) else None


def point(root: Path, name: str, pin: Pin, fetched: Path) -> int:
    """Let an alias point to the pinned bundle's version, registered first where it is not."""
    known = versions.by_digest(root, pin.model, pin.digest)
    version = known.number if known else register.adopt(root, fetched, pin.commit)
    versions.set_alias(root, pin.model, name, version)
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
