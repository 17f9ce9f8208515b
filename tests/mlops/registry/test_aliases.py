"""A registered model's own bundle, by the registry's name for it."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.base.files import folder_digest
from mlops.registry import aliases

pytestmark = pytest.mark.slow


def of(clone):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{clone.root / 'mlruns' / 'mlflow.db'}")


def fetch(clone, uri):
    with chdir(clone.root):
        folder, version = aliases.fetch(uri, Path())
        return folder_digest(folder), version


def test_a_version_and_an_alias_give_the_very_bytes_that_were_registered(clone):
    digest = clone.workspace.digest("models/bundle")
    of(clone).set_registered_model_alias("wine-model", "production", "1")
    assert fetch(clone, "models:/wine-model/1") == (digest, "1")
    assert fetch(clone, "models:/wine-model@production") == (digest, "1")


def test_what_was_fetched_and_changed_since_is_fetched_again(clone):
    digest, _ = fetch(clone, "models:/wine-model/1")
    model = clone.root / aliases.FETCHED / digest / "model.onnx"
    model.write_bytes(b"changed")
    assert fetch(clone, "models:/wine-model/1") == (digest, "1")


def test_bytes_other_than_those_registered_are_refused_and_not_kept(clone):
    of(clone).set_model_version_tag("wine-model", "1", "mlops.bundle", "1" * 64)
    with pytest.raises(UserError, match="models:/wine-model/1: found digest"):
        fetch(clone, "models:/wine-model/1")
    assert list((clone.root / aliases.FETCHED).iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("models:/wine-model", "expected models:/NAME/VERSION or models:/NAME@ALIAS"),
        ("runs:/abc/bundle", "expected models:/NAME/VERSION or models:/NAME@ALIAS"),
        ("models:/wine-model/99", "not found"),
        ("models:/wine-model@nobody", "not found"),
        ("models:/nothing/1", "not found"),
    ],
)
def test_a_model_that_is_not_there_is_said_in_a_line(clone, uri, said):
    with pytest.raises(UserError, match=said):
        fetch(clone, uri)
