"""Model versions, asked for over REST where a tracking server is named.

Importing MLflow's client takes seconds, an answer milliseconds. What is not answered plainly (no
server but a file, a login, an error) is left to the client, which knows them all.
Source: https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.pipeline import tracking

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

REST = "api/2.0/mlflow"


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
    asked = {"name": model, "alias": alias}
    said = _ask(root, "GET", "registered-models/alias", asked)
    if said and "model_version" in said:
        return _told(said["model_version"])
    from mlflow.exceptions import MlflowException

    client = tracking.client(root)
    with tracking.spoken_plainly(root):
        try:
            return _of(client.get_model_version_by_alias(model, alias))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def by_digest(root: Path, model: str, digest: str) -> Version | None:
    """The first version of these bytes; None when they are not registered."""
    wanted = f"name = '{model}' and tags.`{tracking.BUNDLE_TAG}` = '{digest}'"
    said = _ask(root, "GET", "model-versions/search", {"filter": wanted})
    if said and "model_versions" in said:
        found = [_told(version) for version in said["model_versions"]]
    else:
        client = tracking.client(root)
        with tracking.spoken_plainly(root):
            found = [_of(version) for version in client.search_model_versions(wanted)]
    return min(found, key=lambda version: version.number, default=None)


def set_alias(root: Path, model: str, alias: str, number: int) -> None:
    """Let an alias point to a version."""
    asked = {"name": model, "alias": alias, "version": str(number)}
    if _ask(root, "POST", "registered-models/alias", asked) is None:
        client = tracking.client(root)
        with tracking.spoken_plainly(root):
            client.set_registered_model_alias(model, alias, str(number))


def _ask(root: Path, method: str, path: str, asked: dict[str, str]) -> dict[str, Any] | None:
    """What a tracking server says to that; None when it does not, or there is none."""
    server = tracking.uri(root)
    if not server.startswith(("http://", "https://")):
        return None
    import requests

    url, seconds = f"{server.rstrip('/')}/{REST}/{path}", tracking.ANSWER_SECONDS
    try:
        if method == "GET":
            answer = requests.get(url, params=asked, timeout=seconds)
        else:
            answer = requests.post(url, json=asked, timeout=seconds)
        said = answer.json() if answer.ok else None
    except (requests.RequestException, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _told(version: dict[str, Any]) -> Version:
    tags = {tag["key"]: tag["value"] for tag in version.get("tags", ())}
    return Version(int(version["version"]), str(version.get("run_id", "")), tags)


def _of(version: ModelVersion) -> Version:
    return Version(int(version.version), str(version.run_id or ""), dict(version.tags))
