"""Versions of a model in MLflow's registry, by alias or by digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.pipeline import tracking

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class Version:
    """A model version: its number, the id of the run that made it, its tags."""

    number: int
    run: str
    tags: dict[str, str]

    @property
    def digest(self) -> str:
        """The digest of its bundle; empty when it was registered by other means."""
        return self.tags.get(tracking.BUNDLE_TAG, "")


def by_alias(root: Path, model: str, alias: str) -> Version | None:
    """The version that an alias points to; None when there is no such model or alias.

    Raises UserError, as all of these do, when the registry refuses or does not answer.
    """
    client = tracking.client(root)
    from mlflow.exceptions import MlflowException

    with tracking.mlflow_errors(root):
        try:
            return _version(client.get_model_version_by_alias(model, alias))
        except MlflowException as error:
            if error.error_code in MISSING:
                return None
            raise


def by_digest(root: Path, model: str, digest: str) -> Version | None:
    """The first version with this bundle; None when it is not registered."""
    client = tracking.client(root)
    query = f"name = '{model}' and tags.`{tracking.BUNDLE_TAG}` = '{digest}'"
    with tracking.mlflow_errors(root):
        versions = [_version(version) for version in client.search_model_versions(query)]
    return min(versions, key=lambda version: version.number, default=None)


def set_alias(root: Path, model: str, alias: str, number: int) -> None:
    """Let an alias point to a version."""
    client = tracking.client(root)
    with tracking.mlflow_errors(root):
        client.set_registered_model_alias(model, alias, str(number))


def _version(version: ModelVersion) -> Version:
    return Version(int(version.version), str(version.run_id or ""), dict(version.tags))
