"""A registered model's own bundle, by the registry's name for it."""

from __future__ import annotations

import shutil
from contextlib import chdir
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlops.base.errors import UserError
from mlops.base.files import folder_digest
from mlops.registry import versions


@pytest.fixture
def root(finished, tmp_path):
    """A repository whose registry has one version."""
    workspace = finished("trips").copy(tmp_path / "repository")
    shutil.rmtree(workspace.root / "mlruns")
    shutil.copytree(finished("trips").root / "mlruns", workspace.root / "mlruns")
    return workspace.root


def client(root):
    return MlflowClient(f"sqlite:///{root / 'mlruns' / 'mlflow.db'}")


def fetch(root, uri):
    with chdir(root):
        folder, version = versions.fetch(uri, Path())
        return folder_digest(folder), version


def test_a_version_and_an_alias_give_the_very_bytes_even_after_a_copy_was_changed(root):
    digest = folder_digest(root / "models/bundle")
    client(root).set_registered_model_alias("trips-model", "production", "1")
    assert fetch(root, "models:/trips-model/1") == (digest, "1")
    (root / versions.FETCHED / digest / "bundle" / "model.onnx").write_bytes(b"changed")
    assert fetch(root, "models:/trips-model@production") == (digest, "1")


def test_bytes_other_than_those_registered_are_refused_and_not_kept(root):
    client(root).set_model_version_tag("trips-model", "1", "mlops.bundle", "1" * 64)
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
def test_a_model_that_is_not_there_is_an_error_in_a_line(root, uri, reason):
    with pytest.raises(UserError, match=reason):
        fetch(root, uri)
