"""Model versions are found by alias, digest and URI; the rehearsal does so in a server."""

from __future__ import annotations

import shutil
from contextlib import chdir
from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.base.files import folder_digest
from mlops.pipeline import tracking, tracking_server
from mlops.registry import versions
from tests.mlops.deploy.cloud import Answer, Cloud

pytestmark = pytest.mark.slow
MODEL, OTHER = "wines", "it's another's"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry with three versions of a model, two of the same bundle; its URI."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"
    register(uri)
    return uri


def client_of(uri):
    from mlflow import MlflowClient

    return MlflowClient(uri)


def register(uri):
    client = client_of(uri)
    run = client.create_run("0").info
    client.create_registered_model(MODEL)
    for digest in ("aa", "bb", "aa"):
        tags = {tracking.BUNDLE_TAG: digest}
        client.create_model_version(MODEL, f"{run.artifact_uri}/bundle", run.run_id, tags=tags)
    client.set_registered_model_alias(MODEL, "staging", "2")


@pytest.fixture
def root(registry, tmp_path, monkeypatch):
    monkeypatch.setenv(tracking_server.VARIABLE, registry)
    return tmp_path


@pytest.mark.parametrize(
    ("model", "alias", "number"),
    [(MODEL, "staging", 2), (MODEL, "nobody", None), (OTHER, "staging", None)],
)
def test_an_alias_names_its_version_and_a_missing_one_none(root, model, alias, number):
    version = versions.by_alias(root, model, alias)
    assert (version and version.number) == number
    assert version is None or (version.digest, len(version.run)) == ("bb", 32)


@pytest.mark.parametrize(("digest", "number"), [("aa", 1), ("bb", 2), ("cc", None)])
def test_a_digest_finds_the_first_version_of_its_bundle(root, digest, number):
    version = versions.by_digest(root, MODEL, digest)
    assert (version and version.number) == number


def test_an_alias_moves_is_removed_and_comes_back_and_never_to_a_missing_version(root):
    for number in (3, None, 2):
        versions.set_alias(root, MODEL, "staging", number)
        version = versions.by_alias(root, MODEL, "staging")
        assert (version and version.number) == number
    with pytest.raises(UserError, match=rf"^{tracking_server.VARIABLE}: .*99") as error:
        versions.set_alias(root, MODEL, "staging", 99)
    assert "\n" not in str(error.value)


class Registry(Cloud):
    """A registry behind a login: it answers whoever has the token."""

    routes = ((r"GET /version", "version"), (r"GET .*/registered-models/alias", "alias"))

    def version(self, call):
        return Answer(200, "3.17.2")

    def alias(self, call):
        if call.headers["Authorization"] != "Bearer of-mlflow":
            return Answer(401, {"error_code": "UNAUTHENTICATED", "message": "Who are you?"})
        return Answer(200, {"model_version": {"name": MODEL, "version": "7"}})


def test_mlflows_own_settings_for_a_login_apply(tmp_path, monkeypatch):
    with Registry() as registry:
        monkeypatch.setenv(tracking_server.VARIABLE, registry.url)
        with pytest.raises(UserError, match=r"Who are you\?"):
            versions.by_alias(tmp_path, MODEL, "staging")
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "of-mlflow")
        version = versions.by_alias(tmp_path, MODEL, "staging")
    assert version
    assert version.number == 7


@pytest.fixture
def trained(finished, tmp_path):
    """A repository whose registry has one version."""
    workspace = finished("trips").copy(tmp_path / "repository")
    shutil.rmtree(workspace.root / "mlruns")
    shutil.copytree(finished("trips").root / "mlruns", workspace.root / "mlruns")
    return workspace.root, client_of(f"sqlite:///{workspace.root / 'mlruns' / 'mlflow.db'}")


def fetch(root, uri):
    with chdir(root):
        folder, version = versions.fetch(uri, Path())
        return folder_digest(folder), version


def test_a_version_and_an_alias_give_the_very_bytes_and_no_others(trained):
    root, client = trained
    digest = folder_digest(root / "models/bundle")
    client.set_registered_model_alias("trips-model", "production", "1")
    assert fetch(root, "models:/trips-model/1") == (digest, "1")
    (root / versions.FETCHED / digest / "bundle" / "model.onnx").write_bytes(b"changed")
    assert fetch(root, "models:/trips-model@production") == (digest, "1")
    shutil.rmtree(root / versions.FETCHED)
    client.set_model_version_tag("trips-model", "1", "mlops.bundle", "1" * 64)
    with pytest.raises(UserError, match="models:/trips-model/1: found digest"):
        fetch(root, "models:/trips-model/1")
    assert list((root / versions.FETCHED).iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("models:/trips-model", "expected models:/NAME/VERSION or models:/NAME@ALIAS"),
        ("runs:/abc/bundle", "expected models:/NAME/VERSION or models:/NAME@ALIAS"),
        ("models:/trips-model/99", "not found"),
        ("models:/trips-model@nobody", "not found"),
        ("models:/nothing/1", "not found"),
    ],
)
def test_a_model_that_is_not_there_is_an_error_in_a_line(trained, uri, reason):
    with pytest.raises(UserError, match=reason):
        fetch(trained[0], uri)


def test_a_registry_of_its_own_is_asked_from_a_folder_that_tracked_nothing(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    registry = f"sqlite:///{tmp_path / 'registry.db'}"
    client = MlflowClient(registry_uri=registry, tracking_uri=registry)
    client.create_registered_model("wine")
    client.create_model_version("wine", "somewhere", tags={"mlops.bundle": "a" * 64})
    client.set_registered_model_alias("wine", "staging", "1")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", registry)
    version = versions.by_alias(tmp_path, "wine", "staging")
    assert version
    assert (version.number, version.digest) == (1, "a" * 64)


def test_a_registry_that_cannot_be_used_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "nosuch://u:swordfish@x")  # pragma: allowlist secret
    with pytest.raises(UserError, match="MLFLOW_REGISTRY_URI nosuch://") as error:
        versions.by_alias(tmp_path, "wine", "staging")
    assert "swordfish" not in str(error.value)
