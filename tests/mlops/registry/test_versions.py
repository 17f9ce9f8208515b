"""A server's REST interface and MLflow's client say the same of model versions."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlops.base.errors import UserError
from mlops.pipeline import tracking
from mlops.registry import versions
from mlops.registry.versions import Version
from tests import standing

pytestmark = pytest.mark.slow
MODEL, OTHER = "wines", "it's another's"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that knows three versions of a model, two of the same bytes."""
    folder = tmp_path_factory.mktemp("tracking") / "server"
    standing.start(folder, *standing.MLFLOW)
    url = standing.answering(folder, "mlflow")
    register(url)
    yield url
    standing.stop(folder)


def register(url):
    from mlflow import MlflowClient

    client = MlflowClient(url)
    run = client.create_run("0").info
    client.create_registered_model(MODEL)
    for digest in ("aa", "bb", "aa"):
        tags = {tracking.BUNDLE_TAG: digest}
        client.create_model_version(MODEL, f"{run.artifact_uri}/bundle", run.run_id, tags=tags)
    client.set_registered_model_alias(MODEL, "staging", "2")


@pytest.fixture(params=["asked over REST", "asked by the client"])
def root(request, server, tmp_path, monkeypatch):
    """A workspace that tracks there; REST may be out of reach, as it is behind a login."""
    monkeypatch.setenv(tracking.VARIABLE, server)
    if request.param == "asked by the client":
        monkeypatch.setattr(versions, "REST", "api/none")
    return tmp_path


def test_an_alias_names_its_version(root):
    found = versions.by_alias(root, MODEL, "staging")
    assert isinstance(found, Version)
    assert (found.number, found.digest) == (2, "bb")
    assert len(found.run) == 32


@pytest.mark.parametrize("asked", [(MODEL, "nobody"), (OTHER, "staging")])
def test_an_alias_or_model_that_is_not_there_is_none(root, asked):
    assert versions.by_alias(root, *asked) is None


def test_the_first_of_two_versions_of_the_same_bytes_is_the_one(root):
    found = versions.by_digest(root, MODEL, "aa")
    assert isinstance(found, Version)
    assert found.number == 1


def test_bytes_that_were_never_registered_have_no_version(root):
    assert versions.by_digest(root, MODEL, "cc") is None


def test_an_alias_moves_and_comes_back(root):
    for number in (3, 2):
        versions.set_alias(root, MODEL, "staging", number)
        moved = versions.by_alias(root, MODEL, "staging")
        assert isinstance(moved, Version)
        assert moved.number == number


def test_an_alias_for_a_version_that_is_not_there_is_refused_in_a_line(root):
    with pytest.raises(UserError, match=r"^MLFLOW_TRACKING_URI: http.*99"):
        versions.set_alias(root, MODEL, "staging", 99)


def test_a_server_that_answers_is_asked_without_importing_mlflow(server, tmp_path, monkeypatch):
    monkeypatch.setenv(tracking.VARIABLE, server)
    code = (
        "import sys; from pathlib import Path; from mlops.registry import versions\n"
        f"versions.set_alias(Path(), {MODEL!r}, 'production', 1)\n"
        f"print(versions.by_alias(Path(), {MODEL!r}, 'production').number)\n"
        f"print(versions.by_digest(Path(), {MODEL!r}, 'bb').number, 'mlflow' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "2", "False"]
