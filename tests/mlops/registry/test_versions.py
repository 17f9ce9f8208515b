"""Model versions are found by alias and by digest, in a file and in a server's registry."""

from __future__ import annotations

import pytest

from mlops.base.errors import UserError
from mlops.pipeline import tracking
from mlops.registry import versions
from mlops.registry.versions import Version
from tests import standing
from tests.mlops.deploy.cloud import Answer, Cloud

pytestmark = pytest.mark.slow
MODEL, OTHER = "wines", "it's another's"


@pytest.fixture(scope="module", params=["file", pytest.param("server", marks=pytest.mark.nightly)])
def registry(request, tmp_path_factory):
    """A registry with three versions of a model, two of the same bundle; its URI."""
    folder, is_server = tmp_path_factory.mktemp("tracking") / "server", request.param == "server"
    if is_server:
        standing.start(folder, *standing.MLFLOW)
    uri = standing.answering(folder, "mlflow") if is_server else f"sqlite:///{folder}.db"
    register(uri)
    yield uri
    if is_server:
        standing.stop(folder)


def register(uri):
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    run = client.create_run("0").info
    client.create_registered_model(MODEL)
    for digest in ("aa", "bb", "aa"):
        tags = {tracking.BUNDLE_TAG: digest}
        client.create_model_version(MODEL, f"{run.artifact_uri}/bundle", run.run_id, tags=tags)
    client.set_registered_model_alias(MODEL, "staging", "2")


@pytest.fixture
def root(registry, tmp_path, monkeypatch):
    monkeypatch.setenv(tracking.VARIABLE, registry)
    return tmp_path


def test_an_alias_names_its_version(root):
    version = versions.by_alias(root, MODEL, "staging")
    assert isinstance(version, Version)
    assert (version.number, version.digest) == (2, "bb")
    assert len(version.run) == 32


@pytest.mark.parametrize(("model", "alias"), [(MODEL, "nobody"), (OTHER, "staging")])
def test_a_missing_alias_or_model_is_none(root, model, alias):
    assert versions.by_alias(root, model, alias) is None


@pytest.mark.parametrize(("digest", "number"), [("aa", 1), ("bb", 2), ("cc", None)])
def test_a_digest_finds_the_first_version_of_its_bundle(root, digest, number):
    version = versions.by_digest(root, MODEL, digest)
    assert (version and version.number) == number


def test_an_alias_moves_and_comes_back(root):
    for number in (3, 2):
        versions.set_alias(root, MODEL, "staging", number)
        version = versions.by_alias(root, MODEL, "staging")
        assert version
        assert version.number == number


def test_an_alias_for_a_missing_version_is_refused_in_one_line(root):
    with pytest.raises(UserError, match=rf"^{tracking.VARIABLE}: .*99") as error:
        versions.set_alias(root, MODEL, "staging", 99)
    assert "\n" not in str(error.value)


class Registry(Cloud):
    """A registry behind a login: it answers whoever has the token."""

    routes = ((r"GET /health", "health"), (r"GET .*/registered-models/alias", "alias"))

    def health(self, call):
        return Answer(200, "OK")

    def alias(self, call):
        if call.headers["Authorization"] != "Bearer of-mlflow":
            return Answer(401, {"error_code": "UNAUTHENTICATED", "message": "Who are you?"})
        return Answer(200, {"model_version": {"name": MODEL, "version": "7"}})


def test_mlflows_own_settings_for_a_login_apply(tmp_path, monkeypatch):
    with Registry() as registry:
        monkeypatch.setenv(tracking.VARIABLE, registry.url)
        with pytest.raises(UserError, match=r"Who are you\?"):
            versions.by_alias(tmp_path, MODEL, "staging")
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "of-mlflow")
        version = versions.by_alias(tmp_path, MODEL, "staging")
    assert version
    assert version.number == 7
